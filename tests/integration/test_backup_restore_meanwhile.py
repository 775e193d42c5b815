"""Whatever others do while a copy comes back, or a killed restore has left: nobody runs on half of it or stays down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.backup import alone
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.frozen import Entry, Frozen
from homelab_agent.backup.point import Said, Verified
from homelab_agent.backup.restore import Restoring
from homelab_agent.backup.restore_errors import HalfRestored, InUse, StandsStill
from homelab_agent.backup.resume import Patience
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.backup.still import Still
from homelab_agent.backup.undo_note import Undo
from tests.freezing import named
from tests.neighbours.docker import Docker as Neighbour
from tests.restored import House, half_replaced, source

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)
SERVE = ("--stop-timeout", "0", "busybox", "sleep", "1000")
FILES = ("-v", "files:/files")


@pytest.fixture
async def house(docker: Neighbour, open_directory: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        yield House(docker, await stack.enter_async_context(Docker(docker.socket)), open_directory)


class Slow(ArchiveEngine):
    """Takes so long to unpack that somebody does something meanwhile."""

    def __init__(self, directory: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(directory)
        self._meanwhile = meanwhile

    async def restore(
        self, archive_id: str, into: Path, globs: Sequence[str], say: Said, *, devices: bool = False
    ) -> Verified:
        found = await super().restore(archive_id, into, globs, say, devices=devices)
        await asyncio.to_thread(self._meanwhile)
        return found


def slow(house: House, meanwhile: Callable[[], object]) -> Restoring:
    return Restoring(Slow(house.copies, meanwhile), house.docker, house.records, patience=Patience(resume=1.0))


def settings(house: House) -> BackupSettings:
    return BackupSettings(docker=house.neighbour.socket, directory=house.copies, records=house.records)


async def test_who_is_started_while_it_is_unpacked_is_stopped_too_or_named(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    await house.copy(source("volumes/files", place), about={"containers": {"app": {}}})
    (place / "file").write_text("new")
    run = house.neighbour
    stranger = slow(house, lambda: run("run", "-d", "--name", "stranger", *FILES, *SERVE))
    with pytest.raises(InUse, match="stranger") as error:
        await stranger.restore(Wish("things"))
    assert error.value.repair == "docker stop stranger; then again"
    await house.clean(place.parent)
    run("rm", "-f", "stranger")
    restored = await slow(house, lambda: run("run", "-d", "--name", "app", *FILES, *SERVE)).restore(Wish("things"))
    assert restored.stopped == ["app"]
    assert run("exec", "app", "cat", "/files/file") == "old"


async def test_one_that_does_not_run_again_hides_not_how_to_take_it_back(house: House, tmp_path: Path) -> None:
    place, bound = house.volume("files"), tmp_path / "bound"
    (place / "file").write_text("old")
    await house.copy(source("volumes/files", place))
    (place / "file").write_text("new")
    bound.touch()
    bind = ("--mount", f"type=bind,src={bound},dst=/bound")
    house.neighbour("run", "-d", "--name", "app", *FILES, *bind, *SERVE)
    with pytest.raises(StandsStill, match="app") as error:
        await slow(house, bound.unlink).restore(Wish("things"))
    assert (place / "file").read_text() == "old"
    (undo,) = await asyncio.to_thread(house.undos.list)
    assert error.value.repair.endswith(f"restore undo {undo.id}")
    bound.touch()
    await house.restoring.undo(undo.id)
    assert house.neighbour("exec", "app", "cat", "/files/file") == "new", "it was left down, and runs again, too"


async def stopped(house: House, name: str, run_id: str) -> None:
    """Leave a container as a run does that is killed while it stands still."""
    container = await named(house.docker, name)
    records = Frozen(house.records / "frozen")
    entry = Entry(container.id, "stopped", container.identity, set_name="things", run_id=run_id)
    await records.release(await records.note(entry))
    records.close()
    house.neighbour("stop", name)


async def test_a_restore_after_a_killed_one_has_whoever_that_left_down_run_again(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("copied")
    await house.copy(source("volumes/files", place))
    house.neighbour("run", "-d", "--name", "app", *FILES, *SERVE)
    await stopped(house, "app", "id")
    await asyncio.to_thread(half_replaced, house.undos, place)
    assert (await house.restore()).stopped == ["app"]
    assert house.neighbour("exec", "app", "cat", "/files/file") == "copied"


async def test_nobody_is_started_on_half_a_restore_that_cannot_be_ended(house: House) -> None:
    place, other = house.volume("files"), house.volume("others")
    (place / "file").write_text("copied")
    (other / "file").write_text("copied")
    await house.copy(source("volumes/files", place))
    house.neighbour("run", "-d", "--name", "app", *FILES, *SERVE)
    house.neighbour("run", "-d", "--name", "other", *SERVE)
    await stopped(house, "app", "id")
    await stopped(house, "other", "a backup")
    await asyncio.to_thread(half_replaced, house.undos, place)
    program = await asyncio.create_subprocess_exec("sleep", "1000", cwd=place)
    try:
        with pytest.raises(HalfRestored, match=r"containers stay down for it: app.*is used by sleep") as error:
            await alone.resume(settings(house))
        assert error.value.repair == "end them; then homelab-agent backup resume"
        assert house.neighbour.state("app")["Status"] == "exited"
        assert house.neighbour.state("other")["Status"] == "running"
        with pytest.raises(HalfRestored, match="nothing else of things is replaced"):
            await house.restore()
    finally:
        program.kill()
        await program.wait()
    assert await alone.resume(settings(house)) == ["app"]
    assert house.neighbour("exec", "app", "cat", "/files/file") == "old"


async def test_who_runs_already_on_half_a_restore_that_cannot_be_ended_is_kept_down(house: House) -> None:
    place = house.volume("files")
    await asyncio.to_thread(half_replaced, house.undos, place)
    house.neighbour("run", "-d", "--name", "app", *FILES, *SERVE)
    program = await asyncio.create_subprocess_exec("sleep", "1000", cwd=place)
    try:
        with pytest.raises(HalfRestored, match="containers stay down for it: app"):
            await alone.resume(settings(house))
        assert house.neighbour.state("app")["Status"] == "exited"
    finally:
        program.kill()
        await program.wait()
    assert await alone.resume(settings(house)) == ["app"]
    assert house.neighbour("exec", "app", "cat", "/files/file") == "old"


async def fail_half(house: House, undo: Undo) -> None:
    async with Still(house.docker, house.records).keeping(undo, await house.docker.inventory()) as names:
        assert names == ["app"]
        raise HalfRestored.of("id", OSError(), "whoever was stopped for it stays down")


async def test_who_was_stopped_for_what_cannot_be_taken_back_stays_down(house: House) -> None:
    place = house.volume("files")
    house.neighbour("run", "-d", "--name", "app", *FILES, *SERVE)
    undo = Undo("id", "things", "archive", AT, "replacing", places=[place])
    with pytest.raises(HalfRestored):
        await fail_half(house, undo)
    assert house.neighbour.state("app")["Status"] == "exited"
    assert await alone.resume(settings(house)) == ["app"]
