"""The section `[backup]`: what is backed up, how, where it goes and how long it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from homelab_agent.core import cron
from homelab_agent.core.settings import NAME, Section, check_absolute, check_unique, setting

AGENT_SET = "homelab-agent"
"""The set of the agent's own state and its embedded database; it is on with the first other one."""
UNDO = "undo"
"""`restore undo` takes a restore back, so that no set can have the name."""
CHECKS = ("place", "resumed", "programs", "restic", "root", "docker", "records", "directory", "disk")
"""Checks `backup.NAME` that are of no set; those of repositories have a colon in their names."""
ARCHIVE = "archive"
"""The engine that is always there."""


@dataclass(frozen=True, slots=True)
class Covered:
    """A set that is backed up, and the names of the engines that it goes to."""

    name: str
    engines: Sequence[str]


class Dump(Section):
    """A command in a container whose output is stored, in place of the container's files."""

    container: str = setting(..., "The container, or SERVICE of the set's project.", example="db")
    kind: Literal["postgres", "mariadb", "mongodb", "sqlite", "command"] = setting(
        "postgres", "What is known of how it dumps and takes back; command: as `command` and `load` say."
    )
    command: list[str] = setting([], "For kind command: what writes the dump.", example=["pg_dumpall"])
    load: list[str] = setting([], "For kind command: what reads it again.", example=["psql"])
    path: str = setting("", "For kind sqlite: the file in the container.", example="/data/app.db")
    user: str = setting(
        "", "The database's user; empty: what the container's variables say. For kind command: one of the container's."
    )
    timeout: float = setting(3600.0, "How long it may take.", unit="s", gt=0, le=86400)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed = {"command": ("command", self.command), "sqlite": ("path", self.path)}
        if self.kind in needed and not needed[self.kind][1]:
            message = f"a dump of kind {self.kind} needs `{needed[self.kind][0]}`"
            raise ValueError(message)
        return self


class BackupSet(Section):
    """What is captured at one point and restored together; `homelab-agent backup plan` proposes them."""

    name: str = setting(..., "What commands and archives call it.", pattern=NAME, example="paperless")
    project: str = setting(
        "", "A compose project: all its volumes, bind mounts and compose files.", example="paperless"
    )
    volumes: list[str] = setting([], "Volumes, beside those of the project.", example=["paperless_media"])
    paths: list[Path] = setting([], "Directories and files of the host.", example=["/srv/paperless"])
    exclude: list[str] = setting([], "Globs of what is left out; `**` passes over folders.", example=["**/cache/**"])
    exclude_caches: bool = setting(default=True, doc="Whether directories with a CACHEDIR.TAG are left out.")
    max_bytes: int = setting(0, "A set that is larger is refused; 0: no bound.", unit="bytes", ge=0)
    mode: Literal["auto", "dump", "pause", "stop", "live"] = setting(
        "auto",
        "auto: databases that are known dump, all else is paused while it is read. dump: only what dumps. pause, stop: "
        "every writer. live: nothing is kept still, only for what may change under the reader.",
    )
    freeze_budget: float = setting(
        30.0, "How long its containers may stand still; a run that would take longer is refused.", unit="s", gt=0
    )
    may_freeze: list[str] = setting(
        [], "Containers that may be paused though others live from them (DNS, proxy, home automation)."
    )
    engines: list[str] = setting([ARCHIVE], "Where it goes: `archive`, or names of `[[backup.repository]]`.")
    dump: list[Dump] = setting([], "Dumps, beside those of the databases that are known.")

    @field_validator("paths")
    @classmethod
    def _paths_are_absolute(cls, value: list[Path]) -> list[Path]:
        for path in value:
            if not path.is_absolute() or ".." in path.parts:
                message = f"{path} is not an absolute path"
                raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not (self.project or self.volumes or self.paths or self.dump):
            message = "a set needs one of `project`, `volumes`, `paths`, `[[backup.set.dump]]`"
            raise ValueError(message)
        if not self.engines:
            message = "a set needs an engine: `archive`, or a repository's name"
            raise ValueError(message)
        return self


class RepositoryVariable(Section):
    """One variable that restic reads for its storage, as AWS_ACCESS_KEY_ID."""

    name: str = setting(..., "The variable.", pattern=r"^[A-Z][A-Z0-9_]{0,62}$", example="AWS_ACCESS_KEY_ID")
    value: str = setting(..., "Its value, or a reference to it.", secret=True, example="file:/etc/homelab-agent/s3-key")


class Repository(Section):
    """A restic repository, anywhere restic reaches."""

    name: str = setting(..., "What sets call it.", pattern=NAME, example="offsite")
    url: str = setting(..., "Where it is (restic's `--repo`).", min_length=1, example="sftp:backup@nas:/restic")
    password: str = setting(
        ..., "Reference to its password.", min_length=1, secret=True, example="file:/etc/homelab-agent/restic-password"
    )
    variable: list[RepositoryVariable] = setting([], "What its storage wants to know.")
    offsite: bool = setting(default=True, doc="Whether it is away from this house; the page counts those.")
    limit_upload: int = setting(0, "Bound of what goes out; 0: none.", unit="KiB/s", ge=0)


class Keep(Section):
    """How many are kept of each set at each engine: the newest of so many days, weeks, months, years."""

    daily: int = setting(7, "Days.", ge=0, le=3660, reload=True)
    weekly: int = setting(4, "Weeks.", ge=0, le=520, reload=True)
    monthly: int = setting(6, "Months.", ge=0, le=120, reload=True)
    yearly: int = setting(2, "Years.", ge=0, le=50, reload=True)
    least: int = setting(3, "So many are kept whatever their age.", ge=1, le=1000, reload=True)
    far: float = setting(
        0.5,
        "Nothing is deleted while the newest one's bytes or files differ from the ones before by more than this part.",
        gt=0,
        le=1,
        reload=True,
    )


class BackupSettings(Section):
    """Backups of what containers keep; off until there is a set."""

    schedule: str = setting(
        "0 1 * * *", "When all sets are backed up: five cron fields, local time; empty: when asked."
    )
    spread: float = setting(0.0, "Up to so much later, on one host always the same.", unit="s", ge=0, le=86400)
    verify_schedule: str = setting(
        "0 4 * * 0", "When all archives are read and held against their hashes; empty: when asked."
    )
    drill_schedule: str = setting(
        "0 5 * * 0", "When a copy is restored and started to see whether it lives, set by set; empty: when asked."
    )
    drill_directory: Path | None = setting(
        None,
        "Where drills restore to, with room for the largest set; empty: a directory in `records`.",
        example="/srv/homelab-agent-drill",
    )
    drill_memory: int = setting(
        2048, "So much memory a container has that is started for a drill.", unit="MiB", ge=64, le=1024 * 1024
    )
    deadline: float = setting(6 * 3600.0, "How long a run may take.", unit="s", ge=60, le=7 * 86400)
    directory: Path = setting(Path("/var/backups/homelab-agent"), "Where `archive` keeps its files, a folder a set.")
    records: Path = setting(
        Path("/var/lib/homelab-agent-backup"),
        "Where the root half notes what it froze and which archives it trusts: root's, on this host's own disk.",
    )
    docker: Path = setting(Path("/run/docker.sock"), "The Docker engine's socket.")
    level: int = setting(1, "How hard zstd tries.", ge=1, le=19)
    undo_days: float = setting(7.0, "How long what a restore replaced is kept.", unit="days", ge=0, le=365)
    keep: Keep = setting(Keep(), "What is kept.")
    set: list[BackupSet] = setting([], "The sets.", max_length=128)
    repository: list[Repository] = setting([], "The restic repositories.", max_length=16)

    @field_validator("schedule", "verify_schedule", "drill_schedule")
    @classmethod
    def _schedules_are_such(cls, value: str) -> str:
        return cron.check(value) if value else value

    @field_validator("directory", "records", "docker", "drill_directory")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else check_absolute(value)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        check_unique([one.name for one in self.set], "sets")
        check_unique([one.name for one in self.repository], "repositories")
        for one in self.set:
            if one.name == AGENT_SET:
                message = f"{AGENT_SET} is the set of the agent itself"
                raise ValueError(message)
            if one.name == UNDO:
                message = f"{UNDO} is a word of `homelab-agent restore`; call the set otherwise"
                raise ValueError(message)
            if one.name in CHECKS:
                message = f"{one.name} is a word of `homelab-agent doctor backup`; call the set otherwise"
                raise ValueError(message)
            if unknown := set(one.engines) - set(self.engine_names):
                message = f"the set {one.name} goes to {', '.join(sorted(unknown))}, and there is no such repository"
                raise ValueError(message)
        if any(one.name == ARCHIVE for one in self.repository):
            message = f"a repository cannot be called {ARCHIVE}"
            raise ValueError(message)
        return self

    @property
    def drill_place(self) -> Path:
        """Where drills restore to."""
        return self.drill_directory or self.records / "drill"

    @property
    def engine_names(self) -> Sequence[str]:
        """What sets may name in `engines`."""
        return [ARCHIVE, *(one.name for one in self.repository)]

    @property
    def covered(self) -> Sequence[Covered]:
        """All that is backed up: the sets, and with the first of them the agent's own, which goes wherever one goes.

        It comes last, so that it knows of the others' copies.
        """
        sets = [Covered(one.name, one.engines) for one in self.set]
        used = [name for name in self.engine_names if any(name in one.engines for one in sets)]
        return [*sets, Covered(AGENT_SET, used)] if sets else []
