"""A command of the configuration: what it writes is kept, and given to another one to be read back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from homelab_agent.backup.control import Control
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps.dumped import Dumped, Told, member
from homelab_agent.backup.dumps.errors import NothingLoads
from homelab_agent.backup.dumps.inside import Inside

OUTPUT = "output"
LOAD_SECONDS = 24 * 3600.0


def of(planned: PlannedDump, control: Control) -> Sequence[Dumped]:
    """Return its dump; `user` is one of the container's."""
    container, dump = planned.container, planned.dump
    inside = Inside(control, container.id, dump.user, seconds=dump.timeout)
    told = {"container": container.name, "kind": "command", "what": OUTPUT, "user": dump.user, "load": dump.load}
    return [Dumped(member(container.name, OUTPUT), told, partial(inside.run, *dump.command))]


async def load(control: Control, container_id: str, told: Told, pieces: AsyncIterator[bytes]) -> None:
    """Give it to the command that reads it; raises `NothingLoads` where none was configured."""
    words = [str(word) for word in told.get("load") or ()]
    if not words:
        raise NothingLoads(container=told["container"])
    inside = Inside(control, container_id, str(told.get("user", "")), seconds=LOAD_SECONDS)
    await inside.text(*words, given=pieces)
