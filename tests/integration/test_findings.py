"""What health says is in PostgreSQL too: a dashboard and its alerts can say what is wrong, and what mends it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg

import homelab_agent
from homelab_agent.core import findings
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Check, Finding, Health
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from tests.agent import Agent
from tests.clock import until
from tests.neighbours.postgres import Postgres
from tests.shipping import shipping
from tests.waiting import until as until_so

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))
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


def test_an_agent_tells_its_database_how_it_stands(agent: Agent) -> None:
    agent.start_with_database()
    until_so(
        lambda: agent.sql("SELECT FROM standing WHERE check_name = 'metrics.sampling' AND state = 'ok'"), "it is told"
    )
