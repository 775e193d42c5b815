"""What restores keep, for `homelab-agent doctor backup`: how much it is, until when, and what is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from homelab_agent.backup import sizes
from homelab_agent.backup.point import Source
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.core.health import Finding

_SECONDS = 20.0


async def kept(settings: BackupSettings) -> Finding:
    """Say what restores have replaced and keep beside, and name one that is neither whole nor taken back."""
    undos = Undos(settings.records)
    all_of_them, damaged = await asyncio.gather(asyncio.to_thread(undos.list), asyncio.to_thread(undos.damaged))
    if half := [one for one in all_of_them if one.step == "replacing"]:
        said = f"the restore {half[0].id} of {half[0].set_name} is under way, or was cut short and is half"
        return Finding.failed(said, "sudo homelab-agent backup resume")
    if damaged:
        return Finding.degraded(str(damaged[0]), damaged[0].repair)
    whole = [one for one in all_of_them if one.step == "kept"]
    if not whole:
        return Finding.ok("no restore keeps anything")
    measured = await sizes.sizes((Source("", path) for path in _paths(whole)), seconds=_SECONDS)
    bytes_, complete = sum(one.bytes for one in measured.values()), all(one.complete for one in measured.values())
    what = f"{'' if complete else 'at least '}{bytes_ / 1e9:.3f} GB of files"
    if databases := sum(len(one.databases) for one in whole):
        what += f" and {databases} databases"
    first = min(one.at for one in whole) + timedelta(days=settings.undo_days)
    return Finding.ok(f"restores that can be taken back ({len(whole)}) keep {what}; the first until {first:%Y-%m-%d}")


def _paths(undos: Sequence[Undo]) -> Sequence[Path]:
    """Return what is kept, nothing of it twice."""
    found = {path for one in undos for path in (*one.staging, *(move.beside for move in one.moves))}
    return [path for path in found if found.isdisjoint(path.parents)]
