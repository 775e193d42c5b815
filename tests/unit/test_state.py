"""The one SQLite file: durable, shared commits, set aside when damaged, patient with its disk."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.core import health
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.state import State, StateUnavailable, read_only
from tests.fixtures.disk import Closable
from tests.neighbours.disk import Disk, Disks
from tests.write_ahead import commits

ROOM_SCHEMA = "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;"


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """A room's state.sql."""
    path = tmp_path / "room.sql"
    path.write_text(ROOM_SCHEMA)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def state(directory: Path, schema: Path) -> AsyncIterator[State]:
    opened = await State.open(directory, [schema], clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
def small_disk(disk: Disks) -> Disk:
    return disk(megabytes=1)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def note(state: State, text: str) -> None:
    await state.write(lambda c: c.execute("INSERT INTO note (text) VALUES (?)", (text,)).close())


async def notes(state: State) -> list[str]:
    return await state.read(_notes)


def _notes(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY id")]


async def finding(state: State) -> health.Finding:
    (check,) = state.checks()
    assert check.probe is not None
    return await check.probe()


async def test_what_is_written_is_read_and_is_there_after_reopening(
    state: State, directory: Path, schema: Path
) -> None:
    await note(state, "one")
    assert await notes(state) == ["one"]
    await state.close()
    again = await State.open(directory, [schema], clock=SystemClock())
    assert await notes(again) == ["one"]
    assert again.lost == ""
    await again.close()


async def test_a_first_start_has_lost_nothing_and_leaves_a_marker(state: State, directory: Path) -> None:
    assert state.lost == ""
    assert len((directory / "state.id").read_text().strip()) == 36
    assert (await finding(state)).state is health.State.OK


async def test_concurrent_writes_share_commits(state: State) -> None:
    await note(state, "before")
    before = commits(state.directory)
    await asyncio.gather(*(note(state, f"note {number}") for number in range(400)))
    assert len(await notes(state)) == 401
    assert commits(state.directory) - before <= 40


async def test_concurrent_writes_are_done_in_the_order_in_which_they_were_asked_for(state: State) -> None:
    await asyncio.gather(*(note(state, str(number)) for number in range(200)))
    assert await notes(state) == [str(number) for number in range(200)]


async def test_a_write_that_fails_undoes_itself_and_none_of_its_neighbours(state: State) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO note (text) VALUES ('half')")
        raise ZeroDivisionError

    outcomes = await asyncio.gather(
        note(state, "first"),
        state.write(half),
        note(state, "first"),
        note(state, "last"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None), ZeroDivisionError, sqlite3.IntegrityError, type(None),
    ]  # fmt: skip
    assert await notes(state) == ["first", "last"]


async def test_a_write_that_commits_for_itself_fails_alone(state: State) -> None:
    outcomes = await asyncio.gather(
        note(state, "one"), state.write(lambda c: c.commit()), note(state, "two"), return_exceptions=True
    )
    assert isinstance(outcomes[1], sqlite3.OperationalError)
    assert await notes(state) == ["one", "two"]


async def test_reading_cannot_write(state: State) -> None:
    with pytest.raises(StateUnavailable, match="readonly"):
        await state.read(lambda c: c.execute("DELETE FROM note"))
    assert await notes(state) == []


async def test_after_closing_it_takes_nothing_and_leaves_one_file(state: State, directory: Path) -> None:
    await note(state, "one")
    await notes(state)
    await state.close()
    await state.close()
    with pytest.raises(StateUnavailable, match="stopping"):
        await note(state, "two")
    assert names_in(directory) == ["state.db", "state.id"]


async def test_the_schema_grows_with_a_room(state: State, directory: Path, schema: Path) -> None:
    await note(state, "kept")
    await state.close()
    other = schema.with_name("other.sql")
    other.write_text("CREATE TABLE IF NOT EXISTS other (id INTEGER PRIMARY KEY);")
    grown = await State.open(directory, [schema, other], clock=SystemClock())
    await grown.write(lambda c: c.execute("INSERT INTO other VALUES (1)").close())
    assert await notes(grown) == ["kept"]
    await grown.close()


async def test_opening_and_reading_write_nothing_to_the_disk(state: State, directory: Path, schema: Path) -> None:
    await note(state, "one")
    await state.close()
    before = (directory / "state.db").read_bytes()
    again = await State.open(directory, [schema], clock=SystemClock())
    await notes(again)
    await finding(again)
    assert commits(directory) == 0
    await again.close()
    assert (directory / "state.db").read_bytes() == before


async def test_bytes_written_counts_what_goes_to_the_disk(state: State, directory: Path) -> None:
    if not _counts_writes(directory):
        pytest.skip("this kernel does not account for the writes of a thread on this file system")
    before = state.bytes_written
    for number in range(20):
        await note(state, f"{number} " + "x" * 2000)
    assert 40_000 <= state.bytes_written - before <= 1_000_000


def _counts_writes(directory: Path) -> bool:
    script = (
        "import os, resource, sys; file = open(sys.argv[1], 'wb', buffering=0); file.write(b'x' * 65536);"
        "os.fsync(file.fileno()); print(resource.getrusage(resource.RUSAGE_THREAD).ru_oublock)"
    )
    done = subprocess.run([sys.executable, "-c", script, directory / "trial"], capture_output=True, check=True)
    return int(done.stdout) > 0


async def test_the_log_is_cut_back_after_a_large_write(state: State, directory: Path) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        rows = ((f"{number} " + "x" * 1000,) for number in range(16_000))
        connection.executemany("INSERT INTO note (text) VALUES (?)", rows)

    await state.write(fill)
    await note(state, "the next write starts the log anew")
    assert (directory / "state.db-wal").stat().st_size <= 5 * 1024 * 1024


async def test_freed_pages_are_used_again(state: State, directory: Path) -> None:
    def turn_over(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM note")
        rows = ((f"{number} " + "x" * 1000,) for number in range(4_000))
        connection.executemany("INSERT INTO note (text) VALUES (?)", rows)

    sizes = []
    for _ in range(6):
        await state.write(turn_over)
        sizes.append(await state.read(lambda c: int(c.execute("PRAGMA page_count").fetchone()[0])))
    assert sizes[-1] <= sizes[1] * 1.05


# Lost and damaged files.


async def test_a_database_that_is_gone_is_lost_and_stays_so_until_the_note_is_removed(
    state: State, directory: Path, schema: Path
) -> None:
    await note(state, "one")
    await state.close()
    (directory / "state.db").unlink()
    for _ in range(2):
        again = await State.open(directory, [schema], clock=SystemClock())
        assert "state.db is gone" in again.lost
        assert (await finding(again)).state is health.State.DEGRADED
        assert await notes(again) == []
        await again.close()
    last = await State.open(directory, [schema], clock=SystemClock())
    (directory / "state.lost").unlink()
    assert (await finding(last)).state is health.State.OK
    assert last.lost == ""
    await last.close()


def _truncate(database: Path) -> None:
    os.truncate(database, database.stat().st_size * 2 // 3)


def _empty(database: Path) -> None:
    os.truncate(database, 0)


def _scribble(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xa5" * 4096
    database.write_bytes(content)


def _garble_header(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[:100] = bytes(range(100))
    database.write_bytes(content)


def _replace_by_text(database: Path) -> None:
    database.write_text("this was a database once\n")


def _replace_by_foreign(database: Path) -> None:
    database.unlink()
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE foreign_table (id)")
    connection.commit()
    connection.close()


DAMAGES = [_truncate, _empty, _scribble, _garble_header, _replace_by_text, _replace_by_foreign]


@pytest.mark.parametrize("damage", DAMAGES, ids=["torn", "empty", "scribbled on", "garbled header", "text", "foreign"])
async def test_a_damaged_database_is_set_aside_under_a_dated_name(
    state: State, directory: Path, schema: Path, damage: Callable[[Path], None]
) -> None:
    for number in range(100):
        await note(state, f"{number} " + "x" * 500)
    await state.close()
    damage(directory / "state.db")
    ruin = (directory / "state.db").read_bytes()
    again = await State.open(directory, [schema], clock=SystemClock())
    (aside,) = (name for name in names_in(directory) if re.fullmatch(r"state\.db\.corrupt-\d{8}T\d{6}Z", name))
    assert (directory / aside).read_bytes() == ruin
    assert aside in again.lost
    await note(again, "life goes on")
    assert await notes(again) == ["life goes on"]
    await again.close()


async def test_the_log_of_a_damaged_database_is_kept_with_it(state: State, directory: Path, schema: Path) -> None:
    await note(state, "only in the log")
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)  # as a power cut leaves it: the log not carried over
    await state.close()
    _replace_by_text(copy / "state.db")
    again = await State.open(copy, [schema], clock=SystemClock())
    kept = {name.partition("Z")[2] for name in names_in(copy) if name.startswith("state.db.corrupt-")}
    assert {"", "-wal"} <= kept
    await again.close()


async def test_a_log_cut_short_loses_its_torn_end_only(state: State, directory: Path, schema: Path) -> None:
    for number in range(50):
        await note(state, str(number))
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    os.truncate(copy / "state.db-wal", (copy / "state.db-wal").stat().st_size - 2000)
    again = await State.open(copy, [schema], clock=SystemClock())
    assert again.lost == ""
    assert await notes(again) == [str(number) for number in range(49)]
    await again.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 99), value=st.integers(0, 255))
def test_whatever_stands_in_the_header_the_agent_starts_and_says_what_it_lost(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    directory = tmp_path_factory.mktemp("header")
    schema = directory / "room.sql"
    schema.write_text(ROOM_SCHEMA)

    async def scenario() -> None:
        state = await State.open(directory, [schema], clock=SystemClock())
        await note(state, "one")
        await state.close()
        content = bytearray((directory / "state.db").read_bytes())
        content[position] = value
        (directory / "state.db").write_bytes(content)
        again = await State.open(directory, [schema], clock=SystemClock())
        await note(again, "two")
        assert await notes(again) == (["two"] if again.lost else ["one", "two"])
        await again.close()

    asyncio.run(scenario())
    shutil.rmtree(directory)


async def test_damage_met_while_running_is_set_aside_by_the_next_write(state: State, directory: Path) -> None:
    for number in range(200):
        await note(state, f"{number} " + "x" * 500)
    opened = state.openings
    await asyncio.to_thread(_checkpoint, directory)
    size = (directory / "state.db").stat().st_size
    with (directory / "state.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(StateUnavailable) as caught:
        await state.read(_notes)
    assert "sets the damaged file aside" in caught.value.repair
    await note(state, "life goes on")
    assert await notes(state) == ["life goes on"]
    assert "is damaged" in state.lost
    assert state.openings == opened + 1


async def test_damage_met_when_the_reader_opens_is_set_aside_by_the_next_write(state: State, directory: Path) -> None:
    await note(state, "one")
    await asyncio.to_thread(_checkpoint, directory)
    with (directory / "state.db").open("r+b") as file:
        file.write(b"\xa5" * 4096)
    with pytest.raises(StateUnavailable) as caught:
        await state.read(_notes)
    assert "sets the damaged file aside" in caught.value.repair
    await note(state, "life goes on")
    assert await notes(state) == ["life goes on"]
    assert "is damaged" in state.lost


def _checkpoint(directory: Path) -> None:
    connection = sqlite3.connect(directory / "state.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


# A disk that does not take it.


async def test_a_full_disk_is_said_with_its_repair_and_over_as_soon_as_there_is_room(
    small_disk: Disk, schema: Path
) -> None:
    state = await State.open(small_disk.point / "state", [schema], clock=SystemClock())
    await note(state, "before")
    small_disk.fill()
    with pytest.raises(StateUnavailable) as caught:
        await state.write(lambda c: c.execute("INSERT INTO note (text) VALUES (hex(zeroblob(300000)))").close())
    assert "full" in caught.value.cause
    assert f"df -h {small_disk.point}" in caught.value.repair
    small_disk.free()
    await note(state, "after")
    assert (await finding(state)).state is health.State.OK
    assert await notes(state) == ["before", "after"]
    await state.close()


async def test_on_a_full_disk_what_fits_is_taken_though_its_neighbour_does_not(small_disk: Disk, schema: Path) -> None:
    state = await State.open(small_disk.point / "state", [schema], clock=SystemClock())
    large = "INSERT INTO note (text) VALUES (hex(zeroblob(800000)))"
    outcomes = await asyncio.gather(
        note(state, "small"), state.write(lambda c: c.execute(large).close()), return_exceptions=True
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], StateUnavailable)
    assert await notes(state) == ["small"]
    await state.close()


async def test_an_agent_that_starts_on_a_full_disk_gets_its_state_when_there_is_room(
    small_disk: Disk, schema: Path
) -> None:
    small_disk.fill()
    state = await State.open(small_disk.point, [schema], clock=SystemClock())
    with pytest.raises(StateUnavailable):
        await note(state, "too early")
    assert (await finding(state)).state is health.State.FAILED
    small_disk.free()
    assert (await finding(state)).state is health.State.OK
    await note(state, "now")
    assert await notes(state) == ["now"]
    assert state.lost == ""
    await state.close()


async def test_a_read_only_directory_is_said_and_taken_up_as_soon_as_it_is_writable(
    closable: Closable, schema: Path
) -> None:
    closable.read_only()
    state = await State.open(closable.point, [schema], clock=SystemClock())
    with pytest.raises(StateUnavailable) as caught:
        await note(state, "too early")
    assert "Read-only" in caught.value.cause or "denied" in caught.value.cause
    assert f"ls -ld {closable.point}" in caught.value.repair
    found = await finding(state)
    assert found.state is health.State.FAILED
    assert found.repair == caught.value.repair
    closable.read_write()
    await note(state, "now")
    assert await notes(state) == ["now"]
    assert (await finding(state)).state is health.State.OK
    await state.close()


async def test_a_write_that_fails_is_told_at_once_and_that_it_works_again(small_disk: Disk, schema: Path) -> None:
    state = await State.open(small_disk.point, [schema], clock=SystemClock())
    told: list[health.Finding] = []
    state.on_change = told.append
    await note(state, "one")
    assert told == []
    small_disk.fill()
    with pytest.raises(StateUnavailable) as caught:
        await note(state, "x" * 100_000)
    assert [(one.state, one.repair) for one in told] == [(health.State.FAILED, caught.value.repair)]
    small_disk.free()
    await note(state, "two")
    assert told[1:] == [await finding(state)]
    assert told[1].state is health.State.OK
    await state.close()


async def test_state_in_a_directory_that_became_read_only_can_still_be_read(closable: Closable, schema: Path) -> None:
    state = await State.open(closable.point, [schema], clock=SystemClock())
    await note(state, "one")
    await state.close()
    closable.read_only()
    again = await State.open(closable.point, [schema], clock=SystemClock())
    assert again.lost == ""
    assert await notes(again) == ["one"]
    with pytest.raises(StateUnavailable):
        await note(again, "two")
    closable.read_write()
    await note(again, "two")
    assert await notes(again) == ["one", "two"]
    await again.close()


# The command line's view.


async def test_the_command_line_reads_beside_the_agent_and_without_it(state: State, directory: Path) -> None:
    await note(state, "one")
    assert await asyncio.to_thread(_read_like_a_command, directory) == ["one"]
    await state.close()
    assert await asyncio.to_thread(_read_like_a_command, directory) == ["one"]


def _read_like_a_command(directory: Path) -> list[str]:
    connection = read_only(directory)
    try:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM note")
        return _notes(connection)
    finally:
        connection.close()


def test_where_there_is_no_state_the_command_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match=r"there is no state\.db"):
        read_only(tmp_path)
