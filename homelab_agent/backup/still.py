"""Nobody uses the places of a restore while they change: containers are stopped, of others the kernel knows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from homelab_agent.backup import users
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.freeze import Order, frozen
from homelab_agent.backup.frozen import Frozen
from homelab_agent.backup.inventory import Container, Inventory
from homelab_agent.backup.restore_errors import HalfRestored, InUse
from homelab_agent.backup.resume import PATIENCE, Notice, Patience, Tell, no_one
from homelab_agent.backup.undo_note import Undo

STILL_SECONDS = 24 * 3600.0
"""How long containers may be stopped for a restore; they are as soon as the files have changed places."""
_TOLD: Mapping[str, str] = {
    "killed": "did not end by itself, and was killed",
    "left_alone": "was left as somebody has put it meanwhile",
    "gone": "was removed meanwhile",
    "unhealthy": "runs, and its check does not say that it is well",
}


class Still:
    """Stops who uses what a restore replaces; `docker` is None where it does not answer: then nobody may."""

    def __init__(
        self, docker: Docker | None, records: Path, *, tell: Tell = no_one, patience: Patience = PATIENCE
    ) -> None:
        self.notes: list[str] = []
        """What a person should know of those that were stopped."""
        self._docker = docker
        self._records = records
        self._tell = tell
        self._patience = patience

    @asynccontextmanager
    async def keeping(
        self,
        undo: Undo,
        inventory: Inventory | None,
        *,
        also: Sequence[Container] = (),
        spare: Sequence[Container] = (),
        half: bool = False,
    ) -> AsyncIterator[Sequence[str]]:
        """Let nobody use its places; gives the names of those who were stopped for it, and run again afterwards.

        `also` are stopped whatever they use, those in `spare` are not. Where what is there is `half` a restore, and
        where the body raises `HalfRestored`, they stay down after a failure, and noted. Raises `InUse`.
        """
        if self._docker is None or inventory is None:
            await _check_nobody(undo.places)
            yield ()
            return
        stopping = self.stopping(inventory, undo.places, also=also, spare=spare)
        _refuse_paused(stopping, undo.places)
        records = Frozen(self._records / "frozen")
        order = Order(stopping, "stop", undo.set_name, undo.id, STILL_SECONDS)
        try:
            async with frozen(self._docker, records, order, tell=self._hear, patience=self._patience) as still:
                try:
                    await _check_nobody(undo.places)
                    yield [one.name for one in stopping]
                except BaseException as error:
                    still.stays = half or isinstance(error, HalfRestored)
                    raise
        finally:
            records.close()

    @staticmethod
    def stopping(
        inventory: Inventory | None, paths: Sequence[Path], *, also: Sequence[Container], spare: Sequence[Container]
    ) -> Sequence[Container]:
        """Return who would be stopped."""
        using = users.containers(inventory, paths) if inventory is not None else ()
        spared = {one.id for one in spare}
        return [one for one in {one.id: one for one in (*using, *also)}.values() if one.id not in spared]

    def _hear(self, notice: Notice) -> None:
        if notice.what in _TOLD:
            self.notes.append(f"{notice.name} {_TOLD[notice.what]} {notice.detail}".rstrip())
        self._tell(notice)


def refuse_strangers(
    inventory: Inventory | None, paths: Sequence[Path], *, project: str, known: Collection[str]
) -> None:
    """Refuse where a container lives from a place that was none of the set's when the copy was made."""
    if inventory is None or not known:
        return
    strangers = [
        one.name
        for one in users.containers(inventory, paths)
        if one.name not in known and not (project and one.identity.project == project)
    ]
    if strangers:
        names = ", ".join(strangers)
        raise InUse(places=_named(paths), names=names, repair=f"docker stop {' '.join(strangers)}; then again")


async def _check_nobody(paths: Sequence[Path]) -> None:
    using = await asyncio.to_thread(users.processes, paths)
    if using:
        raise InUse(places=_named(paths), names=", ".join(using[:5]), repair="end them")


def _refuse_paused(containers: Sequence[Container], paths: Sequence[Path]) -> None:
    if paused := [one.name for one in containers if one.state == "paused"]:
        repair = f"docker unpause {' '.join(paused)}; or docker stop {' '.join(paused)}"
        raise InUse(places=_named(paths), names=f"{', '.join(paused)} (paused)", repair=repair)


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(os.fspath, paths))
