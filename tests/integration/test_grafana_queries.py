"""What every panel, variable, annotation and alert rule asks, asked of PostgreSQL as Grafana does, on both editions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from compose.grafana.build.alert import Rule
from compose.grafana.build.rules import GROUPS
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.jobs import Run
from homelab_agent.database.address import Address
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.grafana_firing import ANNOUNCED, FIRING, MORE
from tests.grafana_macros import Range, expanded
from tests.grafana_seed import HOSTS, LABELS, WENT_WRONG, Density, prepare, seed
from tests.neighbours.postgres import Postgres
from tests.shipping import reaching

DASHBOARDS = [
    json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "compose/grafana/dashboards").glob("*.json"))
]
RANGES = {"1 h": timedelta(hours=1), "24 h": timedelta(hours=24), "90 d": timedelta(days=90)}
READER = """
CREATE ROLE grafana LOGIN;
ALTER ROLE grafana SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA homelab TO grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA homelab TO grafana;
"""
Totals: TypeAlias = Mapping[str, tuple[str, int]]
RULES = {rule.name: rule for group in GROUPS for rule in group.rules}
LABEL = re.compile(r"\{\{ \.Labels\.(\w+) \}\}")


@pytest.fixture(params=["postgres", "postgres_timescale"])
def each_edition(request: pytest.FixtureRequest) -> Postgres:
    server: Postgres = request.getfixturevalue(request.param)
    return server


@pytest.mark.timeout(240)
async def test_every_question_is_answered_as_it_should_be(each_edition: Postgres, tmp_path: Path) -> None:
    async with seeded(each_edition, tmp_path) as connection:
        wrong = [fault for rule in RULES.values() for fault in await faults_of_rule(connection, rule)]
        wrong += [fault for case in MORE for fault in await faults_of_case(connection, *case)]
        assert not wrong, "\n".join(wrong)
        await connection.execute(WENT_WRONG)
        now = await connection.fetchval("SELECT now()")
        totals = await rows_of_samples(connection)
        assert await reads_too_much(connection, "SELECT max(busy_pct) FROM cpu", totals), "it is seen that all is read"
        assert await faults_of_announced(connection) == []
        async with as_reader(connection):
            for dashboard in DASHBOARDS:
                wrong += await faults_of_dashboard(connection, dashboard, now, totals)
        assert not wrong, "\n".join(wrong)


@asynccontextmanager
async def seeded(
    server: Postgres,
    directory: Path,
    density: Density = Density(),  # noqa: B008
) -> AsyncIterator[asyncpg.Connection]:
    """Give a database with 90 days of samples, rolled up as the agent's job does, and Grafana's role."""
    clock = SystemClock()
    connection = await asyncpg.connect(**Address.of_url(server.url).options)
    try:
        now = clock.read().wall.replace(microsecond=0)
        await connection.execute("SET search_path = homelab, public; SET timezone = 'UTC'")
        await prepare(connection, now)
        await seed(connection, now, density)
        async with reaching(server.url, directory, clock) as database:
            rollups = Rollups(database, clock, Keep.of(DatabaseSettings()))
            outcome = await rollups.roll(
                Run("1", "database.rollups", "command", lambda _: None, lambda _: None, lambda _: nullcontext())
            )
            assert outcome.ok, outcome.detail
        await connection.execute(READER)
        await connection.execute("ANALYZE")  # by itself: each table in a transaction of its own, as autovacuum does
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def as_reader(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Ask as the role that may only read, and not for long; it has no search path, so names are as they are written."""
    async with connection.transaction():
        await connection.execute(
            "SET LOCAL search_path = ''; SET LOCAL statement_timeout = '30s'; SET LOCAL transaction_read_only = on;"
            " SET LOCAL ROLE grafana"
        )
        yield


async def faults_of_rule(connection: asyncpg.Connection, rule: Rule) -> list[str]:
    """Return what is wrong with a rule: it must be silent while all is well, and speak when it is not."""
    async with as_reader(connection):
        calm = await connection.fetch(rule.sql)
    found = [f"{rule.name}: fires while all is well: {dict(row)}" for row in calm if rule.fires(row["value"])]
    undo = connection.transaction()
    await undo.start()
    try:
        await connection.execute(FIRING[rule.name])
        async with as_reader(connection):
            alarmed = await connection.fetch(rule.sql)
    finally:
        await undo.rollback()
    firing = [row for row in alarmed if rule.fires(row["value"])]
    if not firing:
        return [*found, f"{rule.name}: does not fire: {[dict(row) for row in alarmed]}"]
    labels = {name for name, value in firing[0].items() if isinstance(value, str)}
    if set(firing[0].keys()) != labels | {"value"} or not isinstance(firing[0]["value"], float):
        found.append(f"{rule.name}: not labels and one number: {dict(firing[0])}")
    if any(row["host"] != "nas" for row in firing if "host" in labels):
        found.append(f"{rule.name}: fires for who is well: {[dict(row) for row in firing]}")
    if len({tuple(row[name] for name in sorted(labels)) for row in alarmed}) != len(alarmed):
        found.append(f"{rule.name}: two values for one alert: {[dict(row) for row in alarmed]}")
    told = set(LABEL.findall(rule.summary + rule.cause + rule.repair))
    return found + [f"{rule.name}: no label is called {name}" for name in told - labels]


async def faults_of_case(connection: asyncpg.Connection, name: str, happens: str, fires: bool) -> list[str]:  # noqa: FBT001 - as a case has it
    """Return what is wrong with a rule when something else happens than what its own case is."""
    undo = connection.transaction()
    await undo.start()
    try:
        await connection.execute(happens)
        async with as_reader(connection):
            rows = await connection.fetch(RULES[name].sql)
    finally:
        await undo.rollback()
    labels = Counter(tuple(value for value in row.values() if isinstance(value, str)) for row in rows)
    found = [f"{name}: two values for one alert: {twice}" for twice, count in labels.items() if count > 1]
    if any(RULES[name].fires(row["value"]) for row in rows) != fires:
        found.append(f"{name}: {'does not fire' if fires else 'fires'} after {happens}: {[dict(row) for row in rows]}")
    return found


async def faults_of_announced(connection: asyncpg.Connection) -> list[str]:
    """Return which rules alarm for what was announced: a backup's own outage."""
    undo = connection.transaction()
    await undo.start()
    try:
        await connection.execute(ANNOUNCED)
        names = ("check-failed", "gate-blocked", "secret-stale")
        rows = {name: await connection.fetch(RULES[name].sql) for name in names}
    finally:
        await undo.rollback()
    return [name for name, found in rows.items() if any(RULES[name].fires(row["value"]) for row in found)]


async def faults_of_dashboard(
    connection: asyncpg.Connection, dashboard: Mapping[str, Any], now: datetime, totals: Totals
) -> list[str]:
    """Return what is wrong with a dashboard's questions, over each range."""
    variables = await chosen(connection, dashboard, now)
    found: list[str] = []
    for name, length in RANGES.items():
        asked = Range(now, length)
        for what, kind, query in questions(dashboard, asked, variables):
            faults = await faults_of_query(connection, query, kind, asked)
            if name != "1 h":
                faults += await reads_too_much(connection, query, totals)
            found += [f"{dashboard['uid']} {what} {name}: {fault}" for fault in faults]
    return found


async def chosen(
    connection: asyncpg.Connection, dashboard: Mapping[str, Any], now: datetime
) -> Mapping[str, Sequence[str]]:
    """Return what all of each variable is."""
    variables: dict[str, Sequence[str]] = {"host": HOSTS}
    for each in dashboard["templating"]["list"]:
        if each["type"] == "query":
            rows = await connection.fetch(expanded(each["query"], Range(now, RANGES["24 h"]), variables))
            assert rows, f"{dashboard['uid']} finds nothing for {each['name']}"
            variables[each["name"]] = [value for (value,) in rows]
    return variables


def questions(
    dashboard: Mapping[str, Any], asked: Range, variables: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str, str]]:
    """Return of each question to PostgreSQL what asks it, of which kind that is, and the SQL."""
    for each in dashboard["annotations"]["list"]:
        if "target" in each:
            yield each["name"], "annotation", expanded(each["target"]["rawSql"], asked, variables)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if "rawSql" in target:
                query = expanded(target["rawSql"], asked, variables, least=panel.get("interval", ""))
                yield f"{panel['title']} {target['refId']}", panel["type"], query


async def faults_of_query(connection: asyncpg.Connection, query: str, kind: str, asked: Range) -> list[str]:
    try:
        async with connection.transaction():
            rows = await connection.fetch(query)
    except asyncpg.PostgresError as error:
        return [f"{error}\n{query}"]
    if not rows:
        return [f"no row\n{query}"]
    first = rows[0]
    match kind:
        case "timeseries" | "state-timeline":
            return chart(rows, asked)
        case "stat":
            right = len(rows) == 1 and isinstance(first["value"], Real | Decimal)
        case "annotation":
            right = isinstance(first["time"], datetime) and isinstance(first["text"], str) and "," in first["tags"]
        case "table":
            right = not any(name.startswith("?") for name in dict(first))
        case _:
            right = False
    return [] if right else [f"not what a {kind} shows: {dict(first)}"]


def chart(rows: Sequence[asyncpg.Record], asked: Range) -> list[str]:
    """Return what keeps rows from being drawn as lines."""
    if list(rows[0].keys()) != ["time", "metric", "value"]:
        return [f"columns {list(rows[0].keys())}"]
    found = []
    values = [row["value"] for row in rows]
    if not any(value is not None for value in values):
        found.append("no value is known")
    if any(not isinstance(value, Real) for value in values if value is not None):
        found.append(f"no number: {values[:3]}")
    twice = [key for key, count in Counter((row["time"], row["metric"]) for row in rows).items() if count > 1]
    if twice:
        found.append(f"two values for one point: {twice[:3]}")
    if [row["time"] for row in rows] != sorted(row["time"] for row in rows):
        found.append("not in the order of time")
    early = asked.begin - timedelta(days=1, seconds=asked.interval("") / 1000)
    if any(not early <= row["time"] <= asked.to for row in rows):
        found.append("a time that was not asked for")
    lines = len({row["metric"] for row in rows})
    if len(rows) > 1600 * lines:
        found.append(f"{len(rows)} points in {lines} lines")
    return found


async def rows_of_samples(connection: asyncpg.Connection) -> Totals:
    """Return in which relations raw rows are: of which series, and how many that has."""
    series = [*(f"{family}_sample" for family in LABELS), "tick"]
    counts = {name: await connection.fetchval(f"SELECT count(*) FROM homelab.{name}") for name in series}
    if await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"):
        query = (
            "SELECT chunk_name AS part, hypertable_name AS whole FROM timescaledb_information.chunks"
            " WHERE hypertable_name = ANY ($1::text[])"
        )
    else:
        query = (
            "SELECT inhrelid::regclass::text AS part, inhparent::regclass::text AS whole FROM pg_inherits"
            " WHERE inhparent::regclass::text = ANY ($1::text[])"
        )
    parts = {row["part"]: row["whole"] for row in await connection.fetch(query, series)}
    return {part: (whole, counts[whole]) for part, whole in ({name: name for name in series} | parts).items()}


async def reads_too_much(connection: asyncpg.Connection, query: str, totals: Totals) -> list[str]:
    """Return of which series more than half of the raw rows are read: a month's partition may be, this one is small."""
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}")
    read: Counter[tuple[str, int]] = Counter()
    nodes = [json.loads(text)[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if series := totals.get(node.get("Relation Name", "")):
            read[series] += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return [f"reads {rows:.0f} of the {total} of {name}" for (name, total), rows in read.items() if rows > total / 2]


def test_every_rule_has_a_case_in_which_it_fires() -> None:
    assert FIRING.keys() == RULES.keys()
