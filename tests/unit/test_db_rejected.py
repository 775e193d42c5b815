"""`homelab-agent db rejected`: what PostgreSQL refused, read beside a running agent and without one."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homelab_agent.core.console import Console
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import State, StateUnavailable
from homelab_agent.database.commands import commands
from tests.clock import MovableClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    state = await State.open(tmp_path, [], clock=MovableClock(NOON))
    opened = Spool(state, MovableClock(NOON), host="attic", max_bytes=1 << 27, max_age=7 * 86400.0)
    yield opened
    await opened.close()
    await state.close()


def rejected(directory: Path, *words: str) -> Result:
    console = Console(dict, lambda: directory / "agent.sock", lambda: directory)
    return CliRunner().invoke(commands, ["rejected", *words], obj=console)


async def refuse(spool: Spool, *details: str) -> None:
    """Let PostgreSQL refuse a row for each of `details`."""
    for number, detail in enumerate(details):
        values: dict[str, Scalar] = {"host": "attic", "id": number, "detail": detail}
        await spool.put([Row("job_run", ("host", "id"), values, NOON)], promise=True)
    batch = await spool.take()
    assert batch is not None
    await spool.done(batch, [(row, f"23514: no\n  {row.values['id']}") for row in batch.rows])


async def test_each_refused_row_is_a_line_with_reason_key_and_short_values(spool: Spool, tmp_path: Path) -> None:
    await refuse(spool, "short", "long " * 1000)
    said = await asyncio.to_thread(rejected, tmp_path)
    assert said.exit_code == 0
    head, newest, oldest = said.stdout.splitlines()
    assert head.split() == ["refused", "table", "reason", "key", "values"]
    assert "job_run  23514: no 0  host=attic id=0  detail=short" in oldest
    assert oldest.startswith(NOON.astimezone().strftime("%Y-%m-%d %H:%M:%S"))
    assert "23514: no 1" in newest
    assert newest.endswith("…")
    assert len(newest) < 200


async def test_a_program_gets_everything_and_as_much_as_it_asks_for(spool: Spool, tmp_path: Path) -> None:
    await refuse(spool, "one", "two", "long " * 1000)
    said = await asyncio.to_thread(rejected, tmp_path, "--json", "--limit", "2")
    newest, before = json.loads(said.stdout)
    assert newest == {
        "rejected_at": "2026-11-24T12:00:00+00:00",
        "table": "job_run",
        "reason": "23514: no\n  2",
        "key": ["host", "id"],
        "values": {"host": "attic", "id": 2, "detail": "long " * 1000},
        "at": "2026-11-24 12:00:00+00:00",
    }
    assert before["values"]["detail"] == "two"


async def test_a_parcel_that_could_not_be_read_back_is_told_by_its_length(spool: Spool, tmp_path: Path) -> None:
    await spool.put([Row("job_run", ("id",), {"id": 1}, NOON)], promise=True)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE spool SET body = x'00112233'")
    connection.close()
    assert await spool.take() is None
    said = await asyncio.to_thread(rejected, tmp_path)
    assert "a parcel of 1 rows" in said.stdout
    assert "4 bytes that cannot be read" in said.stdout
    (found,) = json.loads((await asyncio.to_thread(rejected, tmp_path, "--json")).stdout)
    assert found["bytes"] == 4


async def test_it_works_without_an_agent_too(tmp_path: Path) -> None:
    missing = await asyncio.to_thread(rejected, tmp_path)
    assert isinstance(missing.exception, StateUnavailable)
    state = await State.open(tmp_path, [], clock=MovableClock(NOON))
    await state.close()
    assert (await asyncio.to_thread(rejected, tmp_path)).stdout == "PostgreSQL has refused nothing.\n"
    assert (await asyncio.to_thread(rejected, tmp_path, "--json")).stdout == "[]\n"


async def test_a_file_that_is_none_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"")
    assert isinstance((await asyncio.to_thread(rejected, tmp_path)).exception, StateUnavailable)
