"""A table `system_metrics` as there was before there was an agent, and the command that takes it over."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from homelab_agent.database.address import Address
from tests.agent import Agent
from tests.neighbours.postgres import Postgres

HOST = "old-nas"
TABLE = """
CREATE TABLE public.system_metrics (time timestamptz(0), host text, os text, metric_type text, payload jsonb)
"""
SEED = """
INSERT INTO public.system_metrics
SELECT at, $4, CASE WHEN number < $3 / 2 THEN 'debian 11' ELSE 'debian 12' END, kind, payload
  FROM (SELECT number, $1::timestamptz + number * $2::interval AS at FROM generate_series(0::bigint, $3 - 1) AS number)
       AS point,
       LATERAL (VALUES
          ('cpu', jsonb_build_object('usage', (number * 7 % 1000) / 10.0, 'package_temp', 40 + number % 20,
                  'core_temps', jsonb_build_object('core_0', 41.5, 'core_1', 42 + number % 3))),
          ('memory', jsonb_build_object('total', 16777216000, 'available', 8000000000 + number,
                     'used', 8777216000 - number, 'used_percent', 52.3)),
          ('disk', jsonb_build_object(
              '/', jsonb_build_object('total', 5e11, 'used', 1e11 + number, 'free', 3.8e11, 'used_percent', 20.8),
              '/srv', jsonb_build_object('total', 4e12, 'used', 1e12 + number, 'free', 2.9e12, 'used_percent', 25.6))),
          ('network', jsonb_build_object(
              'eth0', jsonb_build_object('rx_bytes', 1000000 + number * 60000, 'tx_bytes', number * 6000),
              'wg0', jsonb_build_object('rx_bytes', number * 600, 'tx_bytes', number * 60)))
       ) AS said (kind, payload)
"""
KINDS = 4
"""How many rows there are of each point in time."""


async def connected(server: Postgres) -> asyncpg.Connection[Any]:
    """Return a session of the test's own."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(**Address.of_url(server.url).options)
    return connection


async def seed(
    connection: asyncpg.Connection[Any], begin: datetime, every: Any, count: int, *, host: str = HOST
) -> None:
    """Have a table of before with so many points in time."""
    if await connection.fetchval("SELECT to_regclass('public.system_metrics')") is None:
        await connection.execute(TABLE)
    await connection.execute(SEED, begin, every, count, host)


def target(directory: Path, server: Postgres) -> Agent:
    """Return an agent that does not run, on a database whose schema is made."""
    agent = Agent(directory)
    agent.write(database=server.url)
    done = agent.run("db", "migrate")
    assert done.returncode == 0, done.stderr
    return agent


def imported(agent: Agent, *words: str) -> Mapping[str, Any]:
    """Run the command to its end, and return what it says."""
    done = agent.run("db", "import-reference", "--json", *words, seconds=110)
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def begun(agent: Agent, *words: str) -> subprocess.Popen[str]:
    """Begin the command, for a test that breaks something meanwhile."""
    quiet = subprocess.DEVNULL
    listens = ["env", "--default-signal=INT"]  # a shell's background jobs are born deaf to Ctrl-C
    argv = [*listens, *agent.command("db", "import-reference", *words)]
    return subprocess.Popen(argv, env=agent.env, stdout=quiet, stderr=subprocess.PIPE, text=True)


def refused(agent: Agent, code: int, *words: str) -> str:
    """Run the command, which must end so; return what it says of it."""
    done = agent.run("db", "import-reference", *words, seconds=110)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


async def views(connection: asyncpg.Connection[Any], relation: str) -> Sequence[tuple[Any, ...]]:
    """Return all rows of a table or view of these columns, in order."""
    rows = await connection.fetch(
        f"SELECT time, host, os, metric_type, payload FROM {relation} ORDER BY time, host, metric_type, payload::text"
    )
    return [(*tuple(row)[:4], json.loads(row["payload"])) for row in rows]


def close(found: Any, wanted: Any) -> bool:
    """Return whether two payloads say the same, as far as the six digits of a real tell."""
    if isinstance(wanted, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == wanted.keys()
            and all(close(found[name], wanted[name]) for name in wanted)
        )
    if isinstance(wanted, float) and isinstance(found, int | float):
        return abs(found - wanted) <= 1e-5 * max(1.0, abs(wanted))
    return bool(found == wanted)
