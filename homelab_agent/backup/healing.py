"""What runs that were killed have left still runs again, and then its own commands; but nobody on half a restore.

Restores are healed before (`undo.py`). Whoever was stopped for one that could not be stays down: it would write to what
is replaced again later, or begin anew with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homelab_agent.backup import hooks
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.frozen import Entry, Frozen
from homelab_agent.backup.restore_errors import HalfRestored, RestoreUnderWay
from homelab_agent.backup.resume import resume_all
from homelab_agent.backup.undo import Healed, Undos


async def resume_left(docker: Docker, records: Path, undos: Undos, healed: Sequence[Healed]) -> Sequence[str]:
    """Have all run again that a killed run has left still, then their own commands; return their names.

    Raises `NotResumed`, and, when all others run, `HalfRestored` where some are kept down.
    """
    frozen, hooked = Frozen(records / "frozen"), hooks.records_of(records)
    down: list[Entry] = []

    def is_half(entry: Entry) -> bool:
        if undos.is_half(entry.run_id):
            down.append(entry)
        return entry in down

    try:
        resumed = [entry.name for entry in await resume_all(docker, frozen, leave=is_half)]
        await hooks.run_left(docker, hooked)
    finally:
        frozen.close()
        hooked.close()
    if down:
        ids, names = {entry.run_id for entry in down}, ", ".join(entry.name for entry in down)
        why = next((one.half for one in healed if one.id in ids and one.half is not None), None)
        raise HalfRestored.of(down[0].run_id, why or RestoreUnderWay(), f"containers stay down for it: {names}")
    return resumed


def refuse_half(healed: Sequence[Healed], set_name: str) -> None:
    """Raise `HalfRestored` where a restore of that set is not ended: nothing is replaced on top of it."""
    for one in healed:
        if one.half is not None and set_name and one.set_name == set_name:
            raise HalfRestored.of(one.id, one.half, f"nothing else of {set_name} is replaced until it is")
