"""Who of a set dumps, and which files need not be copied for it; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from homelab_agent.backup import databases, layout
from homelab_agent.backup.inventory import Container, Mount
from homelab_agent.backup.settings import BackupSet, Dump

BESIDE = ("-wal", "-shm", "-journal")
"""SQLite's files beside the database's own, which mean something only with it."""


@dataclass(frozen=True, slots=True)
class PlannedDump:
    """A container, and what is to be run in it: as configured, or the preset of a database that was recognised."""

    container: Container
    dump: Dump


@dataclass(slots=True)
class Replaced:
    """What dumps are in place of: whole directories and files of the host; `dumping` and `databases` are names.

    A container that dumps has to run. What a database has beside its own files it does not write.
    """

    places: set[Path] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)
    dumping: set[str] = field(default_factory=set)
    databases: set[str] = field(default_factory=set)

    def all_of(self, path: Path) -> bool:
        """Return whether everything there is dumped."""
        return any(path.is_relative_to(place) for place in self.places)

    def parts_of(self, path: Path) -> Sequence[str]:
        """Return the globs of what is dumped below a path that is copied."""
        inner = [one for one in self.places if one.is_relative_to(path) and one != path]
        globs = [f"{one.relative_to(path)}/**" for one in inner]
        files = [
            f"{one.relative_to(path)}{end}" for one in self.files if one.is_relative_to(path) for end in ("", *BESIDE)
        ]
        return sorted([*globs, *files])


def dumps_of(
    wanted: BackupSet, containers: Sequence[Container], members: Sequence[Container], refuse: Callable[[str, str], None]
) -> tuple[Sequence[PlannedDump], Replaced]:
    """Return the dumps of a set: those configured, and in a mode with dumps those of databases that are known.

    `refuse` is told of each that cannot be, with the repair.
    """
    replaced = Replaced()
    found: list[PlannedDump] = []
    for dump in wanted.dump:
        container = _named(dump.container, wanted.project, containers)
        if container is None:
            refuse(f"there is no container {dump.container} to dump", "docker ps --all")
        elif not container.running:
            refuse(
                f"{container.name} is {container.state}, and dumps only while it runs", f"docker start {container.name}"
            )
        else:
            found.append(PlannedDump(container, dump))
    if wanted.mode in {"auto", "dump", "live"}:
        asked = {one.container.id for one in found}
        for container in members:
            database = databases.recognise(container)
            if database is not None and container.running and container.id not in asked:
                dump = Dump(container=container.name, kind=database.kind, user=database.user)
                found.append(PlannedDump(container, dump))
    for one in found:
        _replace(one, replaced)
    return found, replaced


def _named(name: str, project: str, containers: Sequence[Container]) -> Container | None:
    """Return the container of that name, else the project's first that runs of the service of that name."""
    named = [one for one in containers if one.name == name]
    of_service = [
        one for one in containers if project and (one.identity.project, one.identity.service) == (project, name)
    ]
    found = [*named, *sorted(of_service, key=lambda one: (not one.running, one.name))]
    return found[0] if found else None


def _replace(planned: PlannedDump, replaced: Replaced) -> None:
    container, dump = planned.container, planned.dump
    replaced.dumping.add(container.name)
    match dump.kind:
        case "sqlite":
            replaced.files |= _on_host(container, PurePosixPath(dump.path))
        case "command":
            replaced.databases.add(container.name)
            replaced.places |= {mount.source for mount in container.mounts if mount.writable}
        case "postgres" | "mariadb" | "mongodb":
            replaced.databases.add(container.name)
            known = databases.known(dump.kind, container)
            replaced.places |= {mount.source for mount in container.mounts if mount.writable and known.keeps_in(mount)}


def mount_of(container: Container, path: PurePosixPath) -> Mount | None:
    """Return the mount that a container's file is in, the innermost; None where it is the container's own."""
    return layout.innermost(path, container.mounts, lambda one: PurePosixPath(one.target))


def _on_host(container: Container, path: PurePosixPath) -> set[Path]:
    """Return where a file of a container is on the host."""
    inner = mount_of(container, path)
    return set() if inner is None else {inner.source / path.relative_to(inner.target)}
