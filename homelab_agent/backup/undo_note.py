"""A restore as it is noted in RECORDS/undo/ID.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from homelab_agent.backup.inventory import Identity
from homelab_agent.backup.swap import Move, Side

DIRECTORY = "undo"
"""In the root half's records."""
ServerKind: TypeAlias = Literal["postgres", "mariadb"]
Step: TypeAlias = Literal["unpacking", "replacing", "kept", "removing"]


@dataclass(frozen=True, slots=True)
class Renaming:
    """A database `live` and another one `beside` change names; `old` and `new` are their OIDs, as a `Move`'s inodes.

    None says that there is none (yet); MariaDB's have no such number.
    """

    live: str
    beside: str
    old: int | None = None
    new: int | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A server in a container, by what that is found again, and its databases that are replaced together."""

    identity: Identity
    user: str
    renamings: Sequence[Renaming]
    kind: ServerKind = "postgres"


@dataclass(frozen=True, slots=True)
class Undo:
    """A restore, as it is noted; `live` is the side that stands where it is read, when nothing is under way.

    `first` says that it never was whole on the new side; `places` are what is replaced, or in which files are;
    `staging` are directories of ours that go with it, `folders` those above places that were made anew, outermost
    first, which go when nothing is in them; `volumes` are those of Docker's that are made for it, `servers` have
    databases that are replaced, `users` are the set's containers, which may have them open.
    """

    id: str
    set_name: str
    archive: str
    at: datetime
    step: Step
    live: Side = "old"
    first: bool = True
    places: Sequence[Path] = ()
    staging: Sequence[Path] = ()
    folders: Sequence[Path] = ()
    moves: Sequence[Move] = ()
    volumes: Sequence[str] = ()
    servers: Sequence[Server] = ()
    users: Sequence[Identity] = ()

    @property
    def other(self) -> Side:
        """The side that is kept."""
        return "new" if self.live == "old" else "old"

    @property
    def databases(self) -> Sequence[str]:
        """In words, which databases are replaced."""
        return [f"{each.live} of {one.identity.name}" for one in self.servers for each in one.renamings]

    @property
    def where(self) -> Sequence[str]:
        """In words, all that is replaced."""
        return [*map(str, self.places), *self.databases]


def text(undo: Undo) -> str:
    """Return it as it is written."""
    return json.dumps(asdict(undo), default=str, indent=1)


def read(written: str) -> Undo:
    """Read it again; raises ValueError, KeyError, TypeError where it is none."""
    noted = json.loads(written)
    return Undo(
        **{
            **noted,
            "step": cast("Step", noted["step"]),
            "at": datetime.fromisoformat(noted["at"]),
            "places": [Path(one) for one in noted["places"]],
            "staging": [Path(one) for one in noted["staging"]],
            "folders": [Path(one) for one in noted.get("folders", ())],
            "moves": [
                Move(Path(one["live"]), Path(one["beside"]), one["old"], one["new"], one.get("folder"))
                for one in noted["moves"]
            ],
            "servers": list(map(_server, noted.get("servers", ()))),
            "users": [Identity(**one) for one in noted.get("users", ())],
        }
    )


def _server(noted: Mapping[str, Any]) -> Server:
    renamings = [Renaming(**one) for one in noted["renamings"]]
    kind = cast("ServerKind", noted.get("kind", "postgres"))
    return Server(Identity(**noted["identity"]), noted["user"], renamings, kind)
