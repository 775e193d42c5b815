"""What health says is in PostgreSQL too: a dashboard and its alerts can say what is wrong, and what mends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

import homelab_agent
from homelab_agent.core import findings
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Check, Finding, Health, needs_operator
from homelab_agent.core.health import State as HealthState
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.database.database import Database
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.agent import Agent
from tests.clock import MovableClock, until
from tests.neighbours.postgres import Postgres
from tests.shipping import reaching, shipping
from tests.waiting import until as until_so

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))
STARTS = """
INSERT INTO finding
    SELECT host, 'check.' || number, start, start, 'ok', '', '', ''
      FROM (SELECT 'nas' AS host, now() - hours * INTERVAL '2.4 hours' AS start FROM generate_series(1, 900) AS hours
             UNION ALL
            SELECT 'gone', now() - INTERVAL '60 days' - hours * INTERVAL '1 hour' FROM generate_series(1, 900) AS hours
             ORDER BY start) AS starts,
           generate_series(1, 40) AS number
"""
"""Two hosts with 900 starts each, and 40 checks: one over 90 days until now, one until two months ago."""
STANDING = "SELECT check_name, state, expected, detail, repair, needs_you FROM standing ORDER BY check_name"


async def test_each_change_of_a_state_is_a_row_and_what_an_earlier_agent_said_does_not_stand(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    clock = SystemClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**24, max_age=86400)
    async with shipping(any_postgres.url, tmp_path, spool, clock) as database:
        health = Health(clock)
        health.add([Check("gate"), Check("reading"), Check("silent"), Check("secrets")])
        health.report("gate", Finding.failed("no policy", "homelab-agent doctor gate"))
        running = asyncio.ensure_future(findings.run(health, spool, clock, "here", every=0.1))

        async def rows(number: int) -> list[asyncpg.Record]:
            async with asyncio.timeout(30):
                while len(found := await database.fetch("SELECT * FROM finding ORDER BY at")) < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # what another process holds
            return list(found)

        await rows(1)
        health.report("reading", Finding.ok("1 of 1"))
        health.report("reading", Finding.ok("2 of 2"))  # other words are no news
        await rows(2)
        ended = health.expect(["secrets"], "a backup", clock.read().wall + timedelta(hours=1))
        health.report("secrets", Finding.degraded("sealed", "bao operator unseal"))
        found = await rows(3)
        assert [(row["check_name"], row["state"]) for row in found] == [
            ("gate", "failed"),
            ("reading", "ok"),
            ("secrets", "degraded"),
        ]
        assert [tuple(row) for row in await database.fetch(STANDING)] == [
            ("gate", "failed", "", "no policy", "homelab-agent doctor gate", True),
            ("reading", "ok", "", "1 of 1", "", False),
            ("secrets", "degraded", "a backup", "sealed", "bao operator unseal", False),
        ]
        ended()  # of which nobody tells, for what was found stays as it is
        await rows(4)
        [secrets] = [row for row in await database.fetch(STANDING) if row["check_name"] == "secrets"]
        assert (secrets["expected"], secrets["needs_you"]) == ("", True)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        later = Health(clock)  # the reading list is not configured any more
        later.add([Check("gate")])
        running = asyncio.ensure_future(findings.run(later, spool, clock, "here"))
        await until(lambda: bool(later.changes._queues), "it listens")
        later.report("gate", Finding.ok("open"))
        await rows(5)
        assert [row["check_name"] for row in await database.fetch(STANDING)] == ["gate"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert spool.status().rejected == 0
    await spool.close()
    await state.close()


@dataclass(slots=True)
class Telling:
    """An agent's start that tells its findings by a clock that a test sets."""

    database: Database
    health: Health
    spool: Spool
    clock: MovableClock

    async def tells(self, finding: Finding, number: int) -> None:
        """Report, and wait for the row."""
        self.health.report("gate", finding)
        async with asyncio.timeout(30):
            while len(await self.database.fetch("SELECT FROM finding")) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # what another process holds

    async def stands(self) -> list[tuple[str, str]]:
        return [(row["state"], row["detail"]) for row in await self.database.fetch("SELECT * FROM standing")]


@asynccontextmanager
async def start(database: Database, spool: Spool, clock: MovableClock) -> AsyncIterator[Telling]:
    health = Health(clock)
    health.add([Check("gate")])
    running = asyncio.ensure_future(findings.run(health, spool, clock, "here"))
    await until(lambda: bool(health.changes._queues), "it listens")
    yield Telling(database, health, spool, clock)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_the_last_agent_said_last_stands_whatever_its_clock_was(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    state = await State.open(tmp_path, SCHEMAS, clock=SystemClock())
    spool = Spool(state, SystemClock(), host="here", max_bytes=2**24, max_age=86400)
    clock = MovableClock(datetime(2030, 1, 1, tzinfo=UTC))
    async with shipping(any_postgres.url, tmp_path, spool, SystemClock()) as database:
        async with start(database, spool, clock) as first:
            await first.tells(Finding.failed("in 2030"), 1)
        clock.step(-4 * 365 * 86400.0)
        async with start(database, spool, clock) as second:
            await second.tells(Finding.ok("the clock is right again"), 2)
            assert await second.stands() == [("ok", "the clock is right again")]
            clock.step(-3600.0)
            await second.tells(Finding.degraded("an hour before"), 3)
            assert await second.stands() == [("degraded", "an hour before")]
    await spool.close()
    await state.close()


async def test_few_rows_are_read_for_what_stands_however_many_starts_there_were(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    async with reaching(any_postgres.url, tmp_path, SystemClock()) as database, database.acquire() as connection:
        await connection.execute(STARTS)
        await connection.execute("ANALYZE finding")
        assert await connection.fetchval("SELECT count(*) FROM finding") == 2 * 900 * 40
        assert await connection.fetchval("SELECT count(*) FROM standing") == 2 * 40
        [plan] = json.loads(await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM standing"))
        read, nodes = 0, [plan["Plan"]]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            if node.get("Relation Name") == "finding":
                read += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        assert read < 100, plan


async def test_findings_of_earlier_starts_are_kept_as_long_as_hours(any_postgres: Postgres, tmp_path: Path) -> None:
    async with reaching(any_postgres.url, tmp_path, SystemClock()) as database:
        async with database.acquire() as connection:
            await connection.execute(STARTS)
        keep = Keep.of(DatabaseSettings(keep_samples=10, keep_minutes=10, keep_hours=30))
        rollups = Rollups(database, SystemClock(), keep)
        await rollups.make()
        await rollups.expire()
        oldest = "SELECT host, min(at) < now() - INTERVAL '29 days' AS long FROM finding GROUP BY host"
        assert {row["host"]: row["long"] for row in await database.fetch(oldest)} == {"nas": True, "gone": True}
        [row] = await database.fetch(
            "SELECT min(at) > now() - INTERVAL '31 days' AS so FROM finding WHERE host = 'nas'"
        )
        assert row["so"]
        counted = "SELECT count(*) AS n, count(DISTINCT started_at) AS starts FROM finding WHERE host = 'gone'"
        [row] = await database.fetch(counted)
        assert (row["n"], row["starts"]) == (40, 1), "what stands stays"


async def test_postgresql_and_the_agent_agree_on_what_needs_somebody(any_postgres: Postgres, tmp_path: Path) -> None:
    async with reaching(any_postgres.url, tmp_path, SystemClock()) as database, database.acquire() as connection:
        cases = [(state.value, expected) for state in HealthState for expected in ("", "a backup")]
        await connection.executemany(
            "INSERT INTO finding VALUES ('here', $1, now(), TIMESTAMPTZ 'epoch', $2, $3, '', '')",
            [(str(number), *case) for number, case in enumerate(cases)],
        )
        said = await connection.fetch("SELECT state, expected, needs_you FROM standing")
        assert len(said) == len(cases)
        assert [tuple(row) for row in said if row["needs_you"] != needs_operator(row["state"], row["expected"])] == []


def test_an_agent_tells_its_database_how_it_stands(agent: Agent) -> None:
    agent.start_with_database()
    until_so(
        lambda: agent.sql("SELECT FROM standing WHERE check_name = 'metrics.sampling' AND state = 'ok'"), "it is told"
    )
