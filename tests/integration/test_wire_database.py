"""A wire to PostgreSQL that carries nothing any more, or only some, but closes nothing: the hardest outages to see."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import pytest

from homelab_agent.database.pool import CANNOT_ASK
from tests.agent import Agent
from tests.neighbours.postgres import Postgres
from tests.neighbours.wire import Wire, url_through
from tests.samples import missing, times
from tests.waiting import until

SEEN_SECONDS = 30 + 15 + 10
"""The check of the connection is asked every 30 s and has 15 s to answer; the rest is for a busy host."""


@pytest.mark.timeout(240)
def test_a_half_open_wire_is_seen_in_time_and_costs_no_sample(agent: Agent, postgres: Postgres, wire: Wire) -> None:
    line = wire(postgres.socket)
    agent.write(database=url_through(line, postgres))
    agent.start_with_database()
    until(lambda: len(times(agent)) >= 3, "samples arrive")
    line.half_open()
    broken = datetime.now(UTC)
    until(
        lambda: agent.finding("database.connection")["state"] == "failed",
        "the page says that PostgreSQL does not answer",
        seconds=SEEN_SECONDS,
    )
    assert agent.finding("metrics.sampling")["state"] == "ok"
    assert agent.get("/", {"Accept": "text/html"})[0] == 200
    line.mend()
    mended = datetime.now(UTC)
    until(agent.connected, "PostgreSQL is reached again", seconds=60)
    until(lambda: times(agent)[-1] > mended + timedelta(seconds=2), "what waited has arrived", seconds=60)
    assert agent.stop() == 0, agent.tail()
    found = times(agent)
    assert "Traceback" not in agent.tail(1 << 20)
    assert postgres.psql("SELECT count(*) FROM homelab.gap") == "0"
    assert found[0] < broken < mended < found[-1]
    assert found == sorted(set(found)), "in order, none twice"
    assert not missing(agent)


def test_a_farewell_whose_connection_is_not_closed_yet_is_an_outage(postgres: Postgres) -> None:
    async def asked() -> None:
        closed = asyncio.Event()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _, backwards = theirs = await asyncio.open_unix_connection(postgres.socket)
            forth = asyncio.create_task(_copy(reader, backwards))
            await _copy(theirs[0], writer)
            await closed.wait()
            forth.cancel()
            for each in (writer, backwards):
                each.close()

        directory = postgres.socket.parent / "relay"
        directory.mkdir()
        async with await asyncio.start_unix_server(carry, directory / postgres.socket.name) as server:
            connection = await asyncpg.connect(
                host=str(directory),
                port=5432,
                user=postgres.role,
                password=postgres.password,
                database=postgres.database,
            )
            try:
                await connection.fetch("SELECT $1::int", 1)
                await asyncio.to_thread(postgres.disconnect)
                with pytest.raises(CANNOT_ASK):
                    await _ask_until_it_fails(connection)
            finally:
                connection.terminate()
                closed.set()
                server.close()

    asyncio.run(asked())


async def _ask_until_it_fails(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    while True:  # until the farewell has been read
        await connection.fetch("SELECT $1::int", 1)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        target.write(data)


def lost_more_often(agent: Agent, number: int) -> bool:
    """Return whether the agent has said more than so many times that PostgreSQL was lost."""
    return agent.log.read_text().count("database.unreachable") > number


@pytest.mark.timeout(240)
def test_a_wire_that_is_reset_wherever_in_an_answer_costs_no_sample(
    agent: Agent, postgres: Postgres, wire: Wire
) -> None:
    line = wire(postgres.socket)
    agent.write(database=url_through(line, postgres))
    agent.start_with_database()
    for number, after in enumerate((0, 1, 30, 100)):
        line.reset(after=after)
        until(partial(lost_more_often, agent, number), "the reset is seen", seconds=60)
        line.mend()
        until(agent.connected, "PostgreSQL is reached again", seconds=60)
    mended = datetime.now(UTC)
    until(lambda: max(times(agent), default=mended) > mended, "samples arrive", seconds=60)
    assert agent.stop() == 0, agent.tail()
    found = times(agent)
    assert "InterfaceError" not in agent.log.read_text(), "who asked is told that PostgreSQL was lost"
    assert found == sorted(set(found)), "in order, none twice"
    assert not missing(agent)
