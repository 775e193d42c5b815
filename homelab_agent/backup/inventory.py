"""What runs on a Docker engine and who mounts what, as values; `docker.py` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["volume", "bind"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host in a container; `name` is the volume's, "" for a bind mount."""

    kind: Kind
    name: str
    source: Path
    target: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume: where its files are on the host, and what makes them be there."""

    name: str
    path: Path
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """By what a container is found again when it was made anew: Compose's labels; else its name."""

    project: str
    service: str
    number: str
    name: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine inspects it.

    `state` is Docker's word (running, paused, exited, created, restarting, dead); `health` too, "" where it has no
    check; `image` as it was asked for, `image_id` its digest; `depends_on` leads from a service to the condition;
    `ports` are those it listens on inside, as "53/udp"; `variables` the values of the few that say how a database is
    reached (`POSTGRES_USER`), of passwords the names alone; `programs` the names of what its main process may be,
    without arguments, which could hold a password too; `auto_remove` says that it is removed when it ends (--rm).
    """

    id: str
    identity: Identity
    image: str
    image_id: str
    state: str
    health: str = ""
    exit_code: int = 0
    started_at: str = ""
    mounts: Sequence[Mount] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    depends_on: Mapping[str, str] = field(default_factory=dict)
    ports: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    compose_files: Sequence[Path] = ()
    compose_hash: str = ""
    stop_seconds: float = 10.0
    auto_remove: bool = False
    networks: Sequence[str] = ()
    programs: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.identity.name

    @property
    def running(self) -> bool:
        """Whether its processes run, and are not frozen."""
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class Inventory:
    """One engine at one moment.

    `refused` says why its volumes cannot be read from here: snap, rootless, a remapping of users.
    """

    version: str
    data_root: Path
    containers: Sequence[Container] = ()
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    refused: str = ""
