"""A copy comes back to where it was, all of it or nothing, and whoever lives from it runs as before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.backup import alone
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.restore import Restoring
from homelab_agent.backup.restore_errors import (
    AnotherFirst,
    InUse,
    NothingToRestore,
    NotOurs,
    RoomLacks,
    VolumeElsewhere,
    VolumeGone,
)
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.backup.undo import Undos
from homelab_agent.core.errors import AgentError
from tests import postgres_container, restoring
from tests.agent import Agent
from tests.backed_up import hostile, told
from tests.fixtures.soak import Soak
from tests.neighbours.disk import Disks
from tests.neighbours.docker import Docker as Neighbour
from tests.restored import House, half_replaced, source

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)
SERVE = ("--stop-timeout", "0", "busybox", "sleep", "1000")


@pytest.fixture
async def house(docker: Neighbour, open_directory: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        yield House(docker, await stack.enter_async_context(Docker(docker.socket)), open_directory)


async def test_a_damaged_database_comes_back_and_can_be_undone(house: House) -> None:
    docker = house.neighbour
    postgres_container.image(docker)
    postgres_container.run(docker, "db", "pgdata")
    data = house.volume("pgdata")
    postgres_container.ask(docker, "db", "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS id")
    docker("stop", "db")
    await house.copy(source("volumes/pgdata", data))
    docker("start", "db")
    postgres_container.await_well(docker, "db")
    postgres_container.ask(docker, "db", "DROP TABLE kept; CREATE TABLE later AS SELECT 1")
    restored = await house.restore()
    assert restored.stopped == ["db"]
    assert restored.notes == []
    assert docker.state("db")["Status"] == "running"
    assert postgres_container.ask(docker, "db", "SELECT count(*), sum(id) FROM kept") == "10000|50005000"
    assert docker("exec", "db", "pg_amcheck", "-h", "/tmp", "-U", "postgres", "--install-missing", "-a") == ""
    await house.restoring.undo(restored.undo)
    assert postgres_container.ask(docker, "db", "SELECT count(*) FROM later") == "1"
    await house.restoring.undo(restored.undo)
    assert postgres_container.ask(docker, "db", "SELECT count(*) FROM kept") == "10000"


async def test_several_places_come_back_with_all_that_a_file_has(house: House, open_directory: Path) -> None:
    first, second = house.volume("one"), house.volume("two")
    tree, single = hostile(open_directory / "tree"), open_directory / "single"
    (first / "name").write_text("one")
    (second / "name").write_text("two")
    single.write_text("single")
    house.neighbour(
        *("run", "-d", "--name", "app", "-v", "one:/one", "-v", "two:/two:ro", "-v", f"{single}:/single", *SERVE)
    )
    before = await asyncio.to_thread(told, tree)
    await house.copy(
        source("volumes/one", first),
        source("volumes/two", second),
        source(f"paths{tree}", tree),
        source(f"paths{single}", single),
    )
    (first / "name").write_text("changed")
    (first / "more").write_text("more")
    (second / "name").unlink()
    (tree / "plain").write_bytes(b"changed")
    (tree / "more").touch()
    single.write_text("changed")
    restored = await house.restore()
    assert restored.stopped == ["app"]
    assert await asyncio.to_thread(told, tree) == before
    seen = house.neighbour("exec", "app", "sh", "-c", "cat /one/* /two/* /single")
    assert seen == "onetwosingle"
    await house.restoring.undo(restored.undo)
    assert house.neighbour("exec", "app", "sh", "-c", "cat /one/more /single; ls /two") == "morechanged"


async def test_of_two_restores_the_later_one_is_taken_back_first(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("first")
    await house.copy(source("volumes/files", place))
    (place / "file").write_text("second")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    older = (await house.restore()).undo
    (place / "file").write_text("third")
    newer = (await house.restore()).undo
    started = house.neighbour.state("app")["StartedAt"]
    with pytest.raises(AnotherFirst) as error:
        await house.restoring.undo(older)
    assert error.value.repair == f"sudo homelab-agent restore undo {newer}"
    assert house.neighbour.state("app")["StartedAt"] == started, "nobody was stopped for it"
    await house.restoring.undo(newer)
    assert house.neighbour("exec", "app", "cat", "/files/file") == "third"
    await house.restoring.undo(older)
    assert house.neighbour("exec", "app", "cat", "/files/file") == "second"


async def test_only_files_that_are_asked_for_come_back(house: House) -> None:
    place = house.volume("files")
    (place / "photos" / "2025").mkdir(parents=True)
    (place / "photos" / "2025" / "a.jpg").write_text("good")
    (place / "photos" / "2025" / "b.jpg").write_text("good")
    (place / "notes").write_text("old")
    await house.copy(source("volumes/files", place))
    (place / "notes").write_text("new")
    (place / "photos" / "2025" / "a.jpg").write_text("bad")
    (place / "photos" / "2025" / "b.jpg").unlink()
    (place / "photos" / "2025" / "c.jpg").write_text("since")
    restored = await house.restore(globs=["volumes/files/photos/**/*.jpg"])
    found = {path.name: path.read_text() for path in place.rglob("*") if path.is_file()}
    assert found == {"a.jpg": "good", "b.jpg": "good", "c.jpg": "since", "notes": "new"}
    await house.restoring.undo(restored.undo)
    found = {path.name: path.read_text() for path in place.rglob("*") if path.is_file()}
    assert found == {"a.jpg": "bad", "c.jpg": "since", "notes": "new"}


async def test_the_plan_says_what_would_change_and_changes_nothing(house: House) -> None:
    place = house.volume("files")
    for name in ("same", "other", "other of this size", "comes back"):
        (place / name).write_text("old")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    archive = await house.copy(source("volumes/files", place))
    (place / "other").write_text("newer")
    (place / "other of this size").write_text("new")
    (place / "comes back").unlink()
    (place / "goes").write_text("since")
    before = told(place)
    plan = await house.restoring.plan(Wish("things"))
    (change,) = plan.changes
    assert (plan.archive.id, plan.stops) == (archive.id, ["app"])
    assert (change.comes, change.goes) == (["comes back"], ["goes"])
    assert change.becomes_other == ["other", "other of this size"]
    assert (change.stays, change.lost_bytes) == (1, len("newer") + len("new") + len("since"))
    assert change.newest is not None
    assert abs(change.newest.timestamp() - (place / "goes").stat().st_mtime) < 1
    assert told(place) == before
    await house.clean(place.parent)
    (change,) = (await house.restoring.plan(Wish("things", globs=["volumes/files/other"]))).changes
    assert (change.comes, change.goes, change.becomes_other) == ([], [], ["other"])


async def test_the_command_plans_asks_restores_and_undoes(house: House, agent: Agent, open_directory: Path) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    await house.copy(source("volumes/files", place))
    (place / "file").write_text("new")
    agent.write(
        f'[backup]\ndocker = "{house.neighbour.socket}"\ndirectory = "{house.copies}"\nrecords = "{house.records}"\n'
    )

    async def ask(*words: str, code: int = 0) -> str:
        done = await asyncio.to_thread(agent.run, "restore", *words, seconds=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    planned = await ask("things", "--plan")
    assert "1 are others (file)" in planned
    assert "stops meanwhile: app" in planned
    program = json.loads(await ask("things", "--plan", "--json"))
    assert (program["changes"][0]["becomes_other"], program["stops"]) == (["file"], ["app"])
    await ask("things", code=130)
    assert (place / "file").read_text() == "new", "nobody has said yes"
    assert "--yes or --plan" in await ask("things", "--json", code=2)
    said = await ask("things", "--yes")
    assert (place / "file").read_text() == "old"
    undo = said.strip().rpartition(" ")[2]
    assert undo in await ask("undo")
    (told,) = json.loads(await ask("undo", "--json"))
    assert told["undo"] == undo
    assert datetime.fromisoformat(told["until"]) - datetime.fromisoformat(told["at"]) == timedelta(days=7)
    (house.undos.directory / "damaged.json").write_text("{")
    listed = await ask("undo")
    assert undo in listed
    assert f"mv {house.undos.directory}/damaged.json" in listed
    again = json.loads(await ask("things", "--yes", "--json"))
    assert (again["places"], again["stopped"]) == ([str(place)], ["app"])
    await ask("undo", again["undo"])
    await ask("undo", undo)
    assert house.neighbour("exec", "app", "cat", "/files/file") == "new"
    assert "There is no undo" in await ask("undo", "nonsense", code=1)
    assert "There is no engine" in await ask("things", "--engine", "nowhere", code=2)


async def test_what_is_a_mount_itself_gets_its_content(house: House, disk: Disks) -> None:
    place = (await asyncio.to_thread(disk, megabytes=16)).point
    (place / "file").write_text("old")
    (place / "gone").write_text("old")
    await house.copy(source(f"paths{place}", place))
    (place / "file").write_text("new")
    (place / "gone").unlink()
    (place / "more").write_text("new")
    restored = await house.restore()
    assert {path.name: path.read_text() for path in place.iterdir() if path.is_file()} == {"file": "old", "gone": "old"}
    again = await house.engine.contents((await house.copy(source(f"paths{place}", place))).id)
    assert {name for name in again.files if name.startswith("paths")} == {f"paths{place}/file", f"paths{place}/gone"}
    await house.restoring.undo(restored.undo)
    assert {path.name: path.read_text() for path in place.iterdir() if path.is_file()} == {"file": "new", "more": "new"}


async def test_a_damaged_copy_is_refused_before_anything_is_touched(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_bytes(os.urandom(100_000))
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    archive = await house.copy(source("volumes/files", place))
    file = house.copies / f"{archive.id}.tar.zst"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    before, started = told(place), house.neighbour.state("app")["StartedAt"]
    with pytest.raises(AgentError) as error:
        await house.restore()
    assert error.value.repair
    assert told(place) == before
    assert house.neighbour.state("app")["StartedAt"] == started
    await house.clean(place.parent)


async def test_a_copy_that_is_not_ours_needs_its_hash_named(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    archive = await house.copy(source("volumes/files", place), trusted=False)
    (place / "file").write_text("new")
    with pytest.raises(NotOurs, match="was not written by this host") as error:
        await house.restore()
    assert archive.sha256 in error.value.repair
    with pytest.raises(NotOurs):
        await house.restore(trust="0" * 64)
    await house.clean(place.parent)
    await house.restore(trust=archive.sha256)
    assert (place / "file").read_text() == "old"
    beside = house.copies / f"{archive.id}.json"
    beside.write_text(beside.read_text().replace(archive.sha256, ""))
    with pytest.raises(NotOurs):
        await house.restore()


async def test_who_is_no_part_of_the_set_is_named_and_left_alone(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    await house.copy(source("volumes/files", place), about={"project": "shop", "containers": {"shop-app": {}}})
    house.neighbour("run", "-d", "--name", "stranger", "-v", "files:/files", *SERVE)
    with pytest.raises(InUse, match="stranger") as error:
        await house.restore()
    assert error.value.repair == "docker stop stranger; then again"
    house.neighbour("stop", "stranger")
    await house.restore()
    house.neighbour("start", "stranger")
    assert house.neighbour("exec", "stranger", "cat", "/files/file") == "old"


async def test_a_paused_container_and_a_program_that_works_there_are_named(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    await house.copy(source("volumes/files", place))
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    house.neighbour("pause", "app")
    with pytest.raises(InUse, match=r"app \(paused\)"):
        await house.restore()
    house.neighbour("unpause", "app")
    program = await asyncio.create_subprocess_exec("sleep", "1000", cwd=place)
    try:
        with pytest.raises(InUse, match="sleep"):
            await house.restore()
    finally:
        program.kill()
        await program.wait()
    assert house.neighbour.state("app")["Status"] == "running"
    await house.clean(place.parent)
    await house.restore()


async def test_a_container_made_anew_runs_on_what_came_back(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    await house.copy(source("volumes/files", place), about={"project": "", "containers": {"app": {}}})
    house.neighbour("rm", "-f", "app")
    (place / "file").write_text("new")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    assert (await house.restore()).stopped == ["app"]
    assert house.neighbour("exec", "app", "cat", "/files/file") == "old"


async def test_a_volume_that_is_gone_or_elsewhere_is_named(house: House, tmp_path: Path) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    await house.copy(source("volumes/files", place))
    house.neighbour("volume", "rm", "files")
    with pytest.raises(VolumeGone) as error:
        await house.restore()
    assert "docker volume create files" in error.value.repair
    house.neighbour("volume", "create", "files")
    await house.restore()
    assert (place / "file").read_text() == "old"
    house.neighbour("volume", "rm", "files")
    options = [f"--opt={one}" for one in ("type=none", "o=bind", f"device={tmp_path}")]
    house.neighbour("volume", "create", *options, "files")
    with pytest.raises(VolumeElsewhere, match=str(tmp_path)):
        await house.restore()


async def test_no_room_is_said_before_anything_is_unpacked(house: House, disk: Disks) -> None:
    top = (await asyncio.to_thread(disk, megabytes=16)).point
    place = top / "files"
    place.mkdir()
    (place / "file").write_bytes(os.urandom(10 << 20))
    await house.copy(source(f"paths{place}", place))
    with pytest.raises(RoomLacks, match="are needed") as error:
        await house.restore()
    assert "df " in error.value.repair
    await house.clean(top)


async def test_an_undo_that_is_asked_for_and_a_copy_that_is_not_there(house: House) -> None:
    with pytest.raises(NothingToRestore):
        await house.restore()
    place = house.volume("files")
    (place / "file").write_text("old")
    archive = await house.copy(source("volumes/files", place))
    with pytest.raises(NothingToRestore):
        await house.restore(at=archive.at.replace(year=2000))
    with pytest.raises(AgentError):
        await house.restore(globs=["no such file"])
    await house.clean(place.parent)


async def test_without_docker_what_nobody_uses_is_restored(house: House) -> None:
    place = house.volume("files")
    (place / "file").write_text("old")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/files", *SERVE)
    await house.copy(source("volumes/files", place))
    (place / "file").write_text("new")
    without = Restoring(house.engine, None, house.records)
    with pytest.raises(InUse, match="sleep"):
        await without.restore(Wish("things"))
    await house.clean(place.parent)
    house.neighbour("stop", "app")
    assert (await without.restore(Wish("things"))).stopped == ()
    assert (place / "file").read_text() == "old"


async def test_who_runs_already_on_half_a_restore_is_stopped_while_it_is_healed(house: House) -> None:
    """Docker itself starts some after a power cut, before anybody heals; a person may do so, too."""
    place = house.volume("one")
    undo = await asyncio.to_thread(half_replaced, house.undos, place)
    house.neighbour("run", "-d", "--name", "app", "-v", "one:/one", *SERVE)
    assert house.neighbour("exec", "app", "cat", "/one/file") == "new"
    settings = BackupSettings(docker=house.neighbour.socket, directory=house.copies, records=house.records)
    await alone.resume(settings)
    assert house.neighbour("exec", "app", "cat", "/one/file") == "old"
    house.neighbour("exec", "app", "touch", "/one/later")
    assert (place / "later").exists(), "what it writes is where it is read"
    assert not undo.moves[0].beside.exists()
    await house.clean(place.parent)


def test_half_a_restore_that_a_program_uses_is_left_until_it_has_ended(tmp_path: Path) -> None:
    place, undos = tmp_path / "place", Undos(tmp_path / "records")
    place.mkdir()
    undo = half_replaced(undos, place)
    with subprocess.Popen(["sleep", "1000"], cwd=place) as program:
        try:
            assert "is used by sleep" in str(undos.heal()[0])
            assert (undo.moves[0].beside / "file").read_text() == "old"
        finally:
            program.kill()
    assert "all is as before it" in str(undos.heal()[0])
    assert (place / "file").read_text() == "old"


async def test_killed_at_any_moment_a_volume_is_old_or_new_and_its_container_runs(house: House, soak: Soak) -> None:
    await _killed(house, soak, 10)


@pytest.mark.soak
async def test_killed_for_long_a_volume_is_old_or_new_and_its_container_runs(house: House, soak: Soak) -> None:
    await _killed(house, soak, 60)


async def _killed(house: House, soak: Soak, least: int) -> None:
    places = [house.volume("one"), house.volume("two")]
    archives = []
    for word in ("first", "second"):
        for place in places:
            (place / "file").write_text(word)
            (place / "more").mkdir(exist_ok=True)
            (place / "more" / word).write_bytes(os.urandom(50_000))
        archives.append((await house.copy(*(source(f"volumes/{one.parent.name}", one) for one in places))).id)
    house.neighbour("run", "-d", "--name", "app", "-v", "one:/one", "-v", "two:/two", *SERVE)
    neighbour = house.neighbour
    task = restoring.Task(str(neighbour.socket), str(house.copies), str(house.records), "things", archives)
    settings = BackupSettings(docker=neighbour.socket, directory=house.copies, records=house.records)
    for _ in soak.rounds(least):
        await asyncio.to_thread(_kill_once, task, soak)
        await alone.resume(settings)
        words = {(place / "file").read_text() for place in places}
        assert len(words) == 1, "both volumes are of one moment"
        for place in places:
            assert (place / "more" / "first").exists()
            assert (place / "more" / "second").exists() == (words == {"second"})
        assert neighbour.state("app")["Status"] == "running"
        assert neighbour("exec", "app", "cat", "/one/file", "/two/file") == 2 * words.pop()
        assert {undo.step for undo in await asyncio.to_thread(house.undos.list)} <= {"kept"}


def _kill_once(task: restoring.Task, soak: Soak) -> None:
    with restoring.running(task) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(soak.dice.uniform(0, 1.5))  # the moment is what is random
        child.kill()
