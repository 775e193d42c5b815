"""The section `[gitops]`: which repositories may be deployed, by whom, and what follows."""

from __future__ import annotations

import ipaddress
import re
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from homelab_agent.core.settings import NAME, Section, check_absolute, check_unique, setting

FULL_NAME = r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$"
_BRANCH_FORBIDS = re.compile(r"^[-/.]|\.\.|//|@\{|\.lock(/|$)|/\.|[/.]$|[\x00-\x20\x7f~^:?*\[\\]|^@$")
"""What `git check-ref-format --branch` refuses (git-check-ref-format(1)), and a leading dash or dot."""
_OWN_UNITS = [f"homelab-agent{half}.{kind}" for half in ("", "-privileged") for kind in ("service", "socket")]
"""The agent and its root half, which runs the actions."""


class HookSecret(Section):
    """One secret that a webhook of this repository may be signed with; several, while it is changed."""

    name: str = setting(..., "What the log calls it.", pattern=NAME, example="main")
    secret: str = setting(
        ...,
        "Reference to the secret (env:NAME, file:PATH, credential:NAME, openbao:PATH#KEY).",
        min_length=1,
        secret=True,
        example="file:/etc/homelab-agent/hook-secret",
    )
    expires: date | None = setting(
        None, "The last day, in UTC, on which it is accepted; empty: no end.", example="2027-06-30"
    )


class Action(Section):
    """What follows when a deployment changes files that match `paths`; actions run in the order of the file."""

    name: str = setting(..., "What the log and the history call it.", pattern=NAME, example="restart-site")
    paths: list[str] = setting(
        ["**"], "Globs of files in the repository; `**` passes over folders. Nothing listed changes: nothing runs."
    )
    kind: Literal["command", "compose", "systemctl", "make"] = setting(
        "command",
        "command: run `command`. compose: `docker compose up --detach` in `directory`. systemctl: restart `units`. "
        "make: `make` with `target` in `directory`.",
    )
    command: list[str] = setting([], "The program and its arguments; no shell.", example=["./deploy.sh", "--quick"])
    directory: str = setting("", "Where it runs, relative to the working copy; empty: at its top.")
    units: list[str] = setting(
        [],
        "systemd units to restart, in order; for the agent itself there is `restart_agent`.",
        example=["caddy.service"],
    )
    target: str = setting("", "The target of make; empty: the Makefile's first.", pattern=r"^[A-Za-z0-9_.-]*$")
    environment: dict[str, str] = setting({}, "Variables beside PATH, HOME and LANG.")
    run_as: str = setting(
        "",
        "The user it runs as; empty: the repository's `run_as`, for systemctl root.",
        pattern=r"^[a-z_][a-z0-9_-]*\$?$|^$",
    )
    timeout: float = setting(600.0, "How long it may take before all of it is ended.", unit="s", gt=0, le=86400)
    memory_max: int = setting(0, "Address space of each of its processes; 0: no bound.", unit="bytes", ge=0)
    open_files: int = setting(4096, "Files that each of its processes may have open.", ge=16, le=1_000_000)
    repeat: bool = setting(
        default=False,
        doc="Whether it may run again when it was cut short, by a power cut say; else the verdict is `interrupted`.",
    )

    @field_validator("directory")
    @classmethod
    def _directory_is_inside(cls, value: str) -> str:
        if value.startswith("/") or ".." in Path(value).parts:
            message = f"{value!r} does not lie in the working copy"
            raise ValueError(message)
        return value

    @field_validator("units")
    @classmethod
    def _units_are_not_ours(cls, value: list[str]) -> list[str]:
        if ours := [unit for unit in value if _is_ours(unit)]:
            message = (
                f"{', '.join(ours)}: that is the agent itself, and would end this action too; "
                "`restart_agent = true` of the repository restarts it when all is done"
            )
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed = {"command": ("command", self.command), "systemctl": ("units", self.units)}
        if self.kind in needed and not needed[self.kind][1]:
            message = f"an action of kind {self.kind} needs `{needed[self.kind][0]}`"
            raise ValueError(message)
        return self


class Probe(Section):
    """What must hold after a deployment, within `within`; else it has failed."""

    kind: Literal["http", "tcp", "unit", "container", "command"] = setting(
        "http",
        "http: `target` answers a GET with 200 to 399. tcp: `target` (host:port) takes a connection. unit: the systemd "
        "unit is active. container: the container runs and is not unhealthy. command: `command` exits 0.",
    )
    target: str = setting("", "URL, host:port, unit or container.", example="http://127.0.0.1:3001/api/health")
    command: list[str] = setting([], "The program and its arguments, for kind command.")
    within: float = setting(60.0, "How long it may take until it holds.", unit="s", gt=0, le=3600)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if not (self.command if self.kind == "command" else self.target):
            message = f"a probe of kind {self.kind} needs `{'command' if self.kind == 'command' else 'target'}`"
            raise ValueError(message)
        return self


class Repository(Section):
    """One repository and its working copy on this host."""

    name: str = setting(..., "What commands, log and history call it.", pattern=NAME, example="homelab")
    full_name: str = setting(
        ..., "Owner and name at the forge; a webhook must name them.", pattern=FULL_NAME, example="octo/homelab"
    )
    id: int = setting(
        0,
        "The repository's number at the forge, which a webhook must name too; 0: learned from the first verified one.",
        ge=0,
    )
    directory: Path = setting(..., "The working copy.", example="/srv/homelab")
    branch: str = setting("main", "The branch that is deployed.", min_length=1, max_length=200)
    run_as: str = setting(
        "", "The user the working copy belongs to; empty: its owner.", pattern=r"^[a-z_][a-z0-9_-]*\$?$|^$"
    )
    secret: list[HookSecret] = setting([], "Secrets of its webhook. None: every delivery is refused.", max_length=4)
    ignore_dirty: list[str] = setting(
        [], "Globs of tracked files that a running program rewrites: they do not keep it from moving forward."
    )
    submodules: bool = setting(default=False, doc="Whether submodules are brought along.")
    allow_file: bool = setting(default=False, doc="Whether the remote may be a path of this host.")
    deploy_key: str = setting(
        "", "Path of the SSH key for a private repository.", example="/etc/homelab-agent/deploy-key"
    )
    known_hosts: str = setting("", "File with the forge's SSH host keys; another key stops the sync.")
    token: str = setting("", "Reference to a token for a private repository over HTTPS.", secret=True)
    allowed_signers: str = setting(
        "", "File of SSH signers (ssh-keygen(1)); where set, only a tip that one of them signed is deployed."
    )
    rollback: Literal["manual", "automatic"] = setting(
        "manual", "What follows a failed deployment: `homelab-agent gitops rollback NAME`, or that by itself."
    )
    restart_agent: bool = setting(
        default=False, doc="Whether the agent itself is restarted at the end, once no run is under way."
    )
    action: list[Action] = setting([], "What follows a deployment.")
    probe: list[Probe] = setting([], "What must hold after it.")

    @field_validator("branch")
    @classmethod
    def _branch_is_a_name(cls, value: str) -> str:
        if _BRANCH_FORBIDS.search(value):
            message = f"{value!r} is no branch's name"
            raise ValueError(message)
        return value

    @field_validator("action")
    @classmethod
    def _actions_have_names_of_their_own(cls, value: list[Action]) -> list[Action]:
        check_unique([action.name for action in value], "actions")
        return value

    @field_validator("directory")
    @classmethod
    def _directory_is_absolute(cls, value: Path) -> Path:
        return check_absolute(value)


class GitopsSettings(Section):
    """Deployment from git: webhooks of GitHub, Gitea and Forgejo, and polling for what they missed."""

    poll: float = setting(
        900.0,
        "About how often the remotes are asked for what a lost webhook missed; 0: never.",
        unit="s",
        ge=0,
        le=86400,
    )
    syncs_at_once: int = setting(2, "Repositories in which git is at work for a sync at the same time.", ge=1, le=32)
    sync_timeout: float = setting(300.0, "How long git may take for one sync.", unit="s", gt=0, le=86400)
    networks: list[str] = setting(
        [],
        "Networks that webhooks are taken from; empty: any, for the signature is what counts.",
        example=["192.30.252.0/22"],
    )
    failures_per_minute: float = setting(
        30.0, "Refused deliveries that one source may cause in a minute before it is answered 429.", gt=0, le=10_000
    )
    inbox_max_bytes: int = setting(
        64 * 1024 * 1024,
        "Bound of the deliveries that are kept for 30 days; the oldest go first.",
        unit="bytes",
        ge=2**20,
    )
    status_token: str = setting(
        "",
        "Reference to a fine-grained token with which commit statuses are set; empty: none are.",
        example="file:/etc/homelab-agent/github-token",
        secret=True,
    )
    api_url: str = setting("https://api.github.com", "Where commit statuses go.", pattern=r"^https?://[^\s]+[^/]$")
    repository: list[Repository] = setting([], "The repositories.", max_length=64)

    @field_validator("networks")
    @classmethod
    def _networks_are_networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        check_unique([repository.name for repository in self.repository], "repositories")
        return self

    @model_validator(mode="after")
    def _each_delivery_is_for_one(self) -> Self:
        hooks: dict[tuple[str, str, str], str] = {}
        for one in self.repository:
            for secret in one.secret:
                other = hooks.setdefault((one.full_name.lower(), one.branch, secret.secret), one.name)
                if other != one.name:
                    message = (
                        f"{other} and {one.name} follow one branch of {one.full_name} with one secret: "
                        "give each a webhook with a secret of its own"
                    )
                    raise ValueError(message)
        return self


def _is_ours(unit: str) -> bool:
    """Return whether systemctl(1) would take a name, or a pattern, for a unit of ours."""
    return any(fnmatchcase(own, name) for name in (unit, f"{unit}.service") for own in _OWN_UNITS)
