"""A database with a history that is moved, and what is asked of it before and after."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from homelab_agent.database import editions
from homelab_agent.database.address import Address
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import timescale
from homelab_agent.database.rollups.level import LEVELS
from tests.agent import Agent
from tests.rolled import run_policies
from tests.waiting import until

MOVE_SECONDS = 120
DAYS = 80
"""Of which raw samples are kept for 30 to 60 only."""

SLOW = 10_000
"""So much is added to a number for the entity of a series that has no minutes of its own: one sample a minute."""

ENTITY = """
INSERT INTO homelab.entity
    VALUES ({id}, '{host}', 'load', '', '{id}'), ({id} + {slow}, '{host}', 'filesystem', '', '{id}')
    ON CONFLICT DO NOTHING
"""
SAMPLES = """
INSERT INTO homelab.load_sample (entity_id, time, load1, threads, uptime_s)
    SELECT {id}, time, number % 7, 200 + number % 13, number
      FROM generate_series(0, 2 * {days} * 1440 / {minutes}) AS number,
           LATERAL (SELECT TIMESTAMPTZ '{begin}' + number / 2 * INTERVAL '{minutes} minutes'
                           + number % 2 * INTERVAL '10 seconds' AS time) AS at
     WHERE time < TIMESTAMPTZ '{end}'
    ON CONFLICT DO NOTHING;
INSERT INTO homelab.filesystem_sample (entity_id, time, size_bytes, used_pct)
    SELECT {id} + {slow}, time, 2 ^ 40, number % 97
      FROM generate_series(0, {days} * 1440 / {minutes}) AS number,
           LATERAL (SELECT TIMESTAMPTZ '{begin}' + number * INTERVAL '{minutes} minutes' AS time) AS at
     WHERE time < TIMESTAMPTZ '{end}'
    ON CONFLICT DO NOTHING
"""
PARTS = """
SELECT homelab.make_partition(name, month)
  FROM unnest('{{homelab.load_sample,homelab.filesystem_sample}}'::regclass[]) AS name,
       generate_series('{begin}'::timestamptz, '{end}'::timestamptz + interval '1 month', '1 month'::interval) AS month
"""
RECORDS = """
INSERT INTO homelab.reading_analytics
    (mongo_id, event_timestamp, source, event_type, payload, meta, origin, content_hash, first_seen_run)
    SELECT 'doc' || number, now(), 'web', 'read', jsonb_build_object('n', number, 'text', 'é' || number), '{{}}',
           'blog', sha256(number::text::bytea), gen_random_uuid()
      FROM generate_series(1, 500) AS number ON CONFLICT DO NOTHING;
INSERT INTO homelab.fact (host, name, key, since, value)
    SELECT '{host}', 'thing', number::text, now(), 'a "quoted", \\ value' FROM generate_series(1, 50) AS number
    ON CONFLICT DO NOTHING
"""


def url_of(agent: Agent) -> str:
    """Return how the agent's embedded server is reached."""
    place = agent.state / "postgres"
    password = (place / "pgpass").read_text().strip().rpartition(":")[2]
    socket = place / "socket"
    if not socket.is_dir():
        socket = Path((place / "socket.path").read_text())
    return f"postgresql://homelab:{password}@/homelab?host={socket}"


@asynccontextmanager
async def asked(url: str) -> AsyncIterator[Connection]:
    """Give a connection."""
    connection = await asyncpg.connect(**Address.of_url(url).options)
    try:
        yield connection
    finally:
        await connection.close()


def seed(url: str, *, host: str = "testhost", number: int = 7001, days: int = DAYS, minutes: int = 15) -> datetime:
    """Give a database that has its schema a history of one host until this hour's begin; return that."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    about = {
        "id": number,
        "slow": SLOW,
        "host": host,
        "days": days,
        "minutes": minutes,
        "begin": end - timedelta(days=days),
        "end": end,
    }

    async def fill() -> None:
        async with asked(url) as connection:
            await connection.execute(ENTITY.format(**about))
            if (await editions.look(connection)).name == editions.PLAIN:
                await connection.execute(PARTS.format(**about))
            await connection.execute(SAMPLES.format(**about))
            await connection.execute(RECORDS.format(**about))

    asyncio.run(fill())
    return end


def age(agent: Agent, url: str) -> None:
    """Roll up what was seeded, and let go what is older than it is kept."""
    for job in ("database.rollups", "database.partitions"):
        until(lambda: _ran(agent, job), f"{job} is done", seconds=120)  # noqa: B023

    async def drop() -> None:
        async with asked(url) as connection:
            if (await editions.look(connection)).name == editions.TIMESCALE:
                await run_policies(connection, timescale.RETENTION)

    asyncio.run(drop())


def _ran(agent: Agent, job: str) -> bool:
    """Run a job; TimescaleDB refuses it while one of its policies is at the same."""
    done = agent.run("jobs", "run", job, seconds=120)
    assert done.returncode == 0 or "concurrent refresh" in done.stderr, done.stdout + done.stderr
    return done.returncode == 0


def ask(url: str, query: str) -> Any:
    """Return the one value of an answer."""

    async def fetch() -> Any:
        async with asked(url) as connection:
            return await connection.fetchval(query)

    return asyncio.run(fetch())


def execute(url: str, script: str) -> None:
    """Run SQL."""

    async def run() -> None:
        async with asked(url) as connection:
            await connection.execute(script)

    asyncio.run(run())


def history(url: str, end: datetime, *, host: str = "testhost") -> Mapping[str, Any]:
    """Return what a database says of one host's history until `end`."""

    async def read() -> dict[str, Any]:
        found: dict[str, Any] = {}
        async with asked(url) as connection:
            found["samples"] = await connection.fetch(
                "SELECT * FROM homelab.load WHERE host = $1 AND time < $2 ORDER BY label, time", host, end
            )
            for name in ("filesystem", *(f"filesystem_{level.name}" for level in LEVELS)):
                found[name] = await connection.fetch(
                    f"SELECT * FROM homelab.{name} WHERE host = $1 AND entity_id BETWEEN {SLOW} AND {2 * SLOW}"
                    " AND time < date_trunc('day', $2::timestamptz) ORDER BY label, time",
                    host,
                    end,
                )
            for level in LEVELS:
                view = f"homelab.load_{level.name}"
                found[level.name] = await connection.fetch(
                    f"SELECT host, key, label, entity_id, time, samples, load1_avg, load1_min, load1_max,"
                    f" load1_count, threads_avg, uptime_s_max FROM {view}"
                    " WHERE host = $1 AND time < date_trunc('day', $2::timestamptz)"
                    " ORDER BY time, label",
                    host,
                    end,
                )
            found["fact"] = await connection.fetch(
                "SELECT * FROM homelab.fact WHERE host = $1 AND name = 'thing' ORDER BY key, since", host
            )
            found["reading"] = await connection.fetch(
                "SELECT mongo_id, event_timestamp, payload, meta, content_hash, first_seen_run"
                " FROM homelab.reading_analytics ORDER BY mongo_id"
            )
        return found

    return asyncio.run(read())


def same(before: Mapping[str, Any], after: Mapping[str, Any], end: datetime) -> None:
    """Fail where a history is not as it was; what is older than it is kept may be gone with its month or chunk."""
    since = {"samples": end - timedelta(days=29)}
    since |= dict.fromkeys(("1m", "filesystem", "filesystem_1m"), end - timedelta(days=59))
    for name, rows in before.items():
        wanted, found = (
            [dict(row) for row in some if name not in since or row["time"] >= since[name]]
            for some in (rows, after[name])
        )
        assert len(found) == len(wanted), (name, len(found), len(wanted))
        for one, other in zip(wanted, found, strict=True):
            assert one == other, name


def move(agent: Agent, to: str, *words: str, seconds: float = MOVE_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run `db move` to its end."""
    return agent.run("db", "move", "--to", to, *words, seconds=seconds)


def running_move(agent: Agent) -> dict[str, Any] | None:
    """Return the record of the move that is under way."""
    runs: list[dict[str, Any]] = agent.json("/api/runs?job=database.move&limit=1")["runs"]
    return runs[0] if runs and not runs[0]["ended_at"] else None
