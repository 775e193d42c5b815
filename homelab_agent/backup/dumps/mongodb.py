"""MongoDB: all of a server in one archive of `mongodump`.

The password comes to the programs by a configuration of theirs that is a pipe (`--config=/dev/fd/3`, as they take it
from 100.3 of 2021 on). Without a replica set the archive is of no one moment, which MongoDB itself cannot help.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial

from homelab_agent.backup.control import Control
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps.dumped import Dumped, Told, member
from homelab_agent.backup.dumps.inside import Inside, with_password
from homelab_agent.core.errors import AgentError

ALL = "all"
LOAD_SECONDS = 24 * 3600.0
_PASSWORDS = ("MONGO_INITDB_ROOT_PASSWORD", "MONGODB_ROOT_PASSWORD", "MONGODB_INITDB_ROOT_PASSWORD")
_ASKS = 'for name in mongosh mongo; do command -v $name >/dev/null && exec $name --quiet --eval "$1"; done; exit 127'
_LIFE = "const it = db.hello(); print(JSON.stringify([db.version(), String(it.topologyVersion.processId)]))"
_AS_USER = r"""
user=$1
shift
[ -n "$user" ] || exec "$@"
escaped=$(printf %s "$MONGO_PASSWORD" | sed "s/'/''/g")
exec "$@" --username="$user" --authenticationDatabase=admin --config=/dev/fd/3 3<<END
password: '$escaped'
END
"""


async def of(planned: PlannedDump, control: Control) -> Sequence[Dumped]:
    """Return the one dump of a server."""
    container, dump = planned.container, planned.dump
    inside = Inside(control, container.id, before=_before(dump.user))
    told = {"container": container.name, "kind": "mongodb", "what": ALL, "user": dump.user}
    try:
        told["version"] = (await _life(inside))[0]
    except AgentError:  # an image without a shell has the tools all the same; if not, the dump says so
        told["version"] = ""
    source = partial(inside.given(seconds=dump.timeout).run, "mongodump", "--archive")
    return [Dumped(member(container.name, f"{ALL}.archive"), told, source)]


async def load(control: Control, container_id: str, told: Told, pieces: AsyncIterator[bytes]) -> None:
    """Read a dump back into a server; documents that are there stay."""
    inside = Inside(control, container_id, before=_before(str(told.get("user", ""))), seconds=LOAD_SECONDS)
    await inside.text("mongorestore", "--archive", "--stopOnError", given=pieces)


async def started(control: Control, container_id: str) -> tuple[str, bool]:
    """Return what tells one life of a server from the next; that others reach it is not known."""
    return (await _life(Inside(control, container_id)))[1], False


async def _life(inside: Inside) -> tuple[str, str]:
    plain = Inside(inside.control, inside.container)
    version, life = json.loads(await plain.text("sh", "-c", _ASKS, "sh", _LIFE))
    return str(version), str(life)


def _before(user: str) -> Sequence[str]:
    return (*with_password("MONGO_PASSWORD", _PASSWORDS), "sh", "-c", _AS_USER, "sh", user)
