"""`db import-reference` takes over a table of the time before, on every edition, and says what it did not take."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.database import editions
from homelab_agent.database.rollups import timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, HOUR
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.metrics.entity import identify
from tests.agent import Agent
from tests.before import HOST, KINDS, begun, close, connected, imported, refused, seed, target, views
from tests.fixtures.soak import Soak
from tests.neighbours.postgres import Postgres
from tests.rolled import a_run, run_policies
from tests.shipping import reaching
from tests.waiting import until

MINUTE = timedelta(minutes=1)
MARK = "SELECT coalesce(sum(rows), 0) FROM reference_import"


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


async def test_what_was_before_is_in_the_view_of_the_time_before_once_and_so_is_what_comes_later(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    connection = await connected(any_postgres)
    begin, agent = now() - timedelta(days=2), target(tmp_path, any_postgres)
    await seed(connection, begin, MINUTE, 800)
    report = imported(agent)
    assert (report["rows"], report["imported"], report["not_understood"], report["faults"]) == (3200, 3200, 0, {})
    assert report["families"]["cpu"] == {"new": 800, "there": 0, "rolled_up": 0}
    assert report["families"]["network"] == {"new": 1600, "there": 0, "rolled_up": 0}
    assert report["hosts"] == {HOST: HOST}
    found, wanted = await views(connection, "homelab.system_metrics"), await views(connection, "public.system_metrics")
    assert [row[:4] for row in found] == [row[:4] for row in wanted]
    assert all(close(one[4], other[4]) for one, other in zip(found, wanted, strict=True))
    rates = await connection.fetch("SELECT rx_bytes_per_s FROM network WHERE label = 'eth0' ORDER BY time")
    assert [row[0] for row in rates] == [None, *[1000.0] * 799]

    await seed(connection, begin + 800 * MINUTE, MINUTE, 10)
    again = imported(agent)
    assert (again["rows"], again["rows_before"], again["families"]["cpu"]["new"]) == (40, 3200, 10)
    from_the_beginning = imported(agent, "--again")
    assert from_the_beginning["rows"] == 3240
    assert {name: one["new"] for name, one in from_the_beginning["families"].items() if one["new"]} == {}
    await connection.close()


async def test_rows_older_than_samples_are_kept_are_there_as_hours_and_days_after_the_next_nights(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    """On a database that has rolled up and dropped before, of which nothing is lost by it."""
    connection = await connected(any_postgres)
    agent, noon = target(tmp_path, any_postgres), DAY.floor(now()) + timedelta(hours=12)
    await seed(connection, noon - timedelta(days=200), timedelta(minutes=60), 24 * 190)
    await own_history(connection, tmp_path, any_postgres, noon)
    before = await connection.fetch("SELECT * FROM cpu_1d WHERE host = 'testhost' ORDER BY time")
    assert len(before) == 61

    report = imported(agent)
    assert report["not_understood"] == 0
    cpu = report["families"]["cpu"]
    assert cpu["rolled_up"] + cpu["new"] == 24 * 190
    assert 24 * 168 < cpu["rolled_up"] < 24 * 172
    for _ in range(2):  # two nights
        await jobs(any_postgres, tmp_path, connection)
    days = await connection.fetch("SELECT time, samples, busy_pct_max FROM cpu_1d WHERE host = $1 ORDER BY time", HOST)
    assert [(row["time"], row["samples"]) for row in days] == [
        (DAY.floor(noon) - timedelta(days=200 - number), 12 if number in {0, 190} else 24) for number in range(191)
    ]
    wanted = await connection.fetchval(
        "SELECT max((payload ->> 'usage')::real) FROM public.system_metrics WHERE metric_type = 'cpu'"
        " AND time >= $1 AND time < $1 + INTERVAL '1 day'",
        DAY.floor(noon) - timedelta(days=100),
    )
    assert days[100]["busy_pct_max"] == wanted
    for view, label in (
        ("network_1h", "eth0"),
        ("filesystem_1h", "/"),
    ):  # what has minutes of its own, and what has none
        hours = await connection.fetchval(f"SELECT count(*) FROM {view} WHERE (host, label) = ($1, $2)", HOST, label)
        assert hours == 24 * 190, view
    assert await connection.fetch("SELECT * FROM cpu_1d WHERE host = 'testhost' ORDER BY time") == before
    await connection.close()


async def test_years_that_are_imported_before_the_first_agent_starts_are_all_there_when_it_has(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    connection = await connected(any_postgres)
    agent, begin = target(tmp_path, any_postgres), DAY.floor(now()) - timedelta(days=90)
    await seed(connection, begin, timedelta(hours=1), 24 * 85)
    assert imported(agent)["imported"] == 24 * 85 * KINDS
    for _ in range(2):
        await jobs(any_postgres, tmp_path, connection)
    for view, level, count in (("cpu", "1h", 24 * 85), ("cpu", "1d", 85), ("filesystem", "1h", 24 * 85)):
        rows = f"SELECT count(*), sum(samples), min(time) FROM {view}_{level} WHERE label IN ('total', '/')"
        assert tuple(*await connection.fetch(rows)) == (count, 24 * 85, begin), (view, level)
    await connection.close()


async def own_history(connection: Any, directory: Path, server: Postgres, noon: datetime) -> None:
    """Have the agent's own samples of sixty days, of which the older ones are rolled up and gone."""
    await connection.execute(
        "INSERT INTO entity VALUES ($1, 'testhost', 'cpu', 'total', 'total')",
        own := identify("testhost", "cpu", "total", "total"),
    )
    if (await editions.look(connection)).name == editions.PLAIN:
        for days in range(0, 91, 10):
            await connection.execute(
                "SELECT make_partition('homelab.cpu_sample'::regclass, $1)", noon - timedelta(days=days)
            )
    await connection.execute(
        "INSERT INTO cpu_sample (entity_id, time, busy_pct) SELECT $1, $2::timestamptz - number * INTERVAL '1 hour',"
        " number % 100 FROM generate_series(12, 24 * 60 + 12) AS number",
        own,
        noon,
    )
    await jobs(server, directory, connection)
    assert await connection.fetchval("SELECT min(time) FROM cpu_sample") > noon - timedelta(days=61)


async def jobs(server: Postgres, directory: Path, connection: Any) -> None:
    """Do what the agent's hourly and daily jobs do, and TimescaleDB's policies."""
    async with reaching(server.url, directory / "jobs", SystemClock()) as database:
        rollups = Rollups(database, SystemClock(), Keep.of(DatabaseSettings()))
        outcome = await rollups.roll(a_run())
        assert outcome.ok, outcome.detail
        await rollups.expire()
        assert database.edition is not None
        if database.edition.name == editions.TIMESCALE:
            await run_policies(connection, timescale.REFRESH)
            await run_policies(connection, timescale.RETENTION)


async def test_what_is_exported_by_the_view_and_imported_elsewhere_gives_the_same_view_again(
    postgres: Postgres, postgres_debian: Postgres, tmp_path: Path
) -> None:
    """With a null, a moved time, a filesystem that did not answer, and several hosts."""
    one, other = await connected(postgres), await connected(postgres_debian)
    first, second = target(tmp_path / "one", postgres), target(tmp_path / "other", postgres_debian)
    at = now() - timedelta(days=1)
    for host in ("a", "b"):
        await seed(one, at, timedelta(seconds=10), 200, host=host)
    imported(first)
    await one.execute("DROP TABLE public.system_metrics")
    await one.execute(
        "UPDATE filesystem_sample SET size_bytes = NULL, used_pct = NULL WHERE extract(minute FROM time)::int % 7 = 0"
    )
    await one.execute("UPDATE cpu_sample SET busy_pct = NULL WHERE extract(minute FROM time)::int % 5 = 0")
    await one.execute("UPDATE memory_sample SET time = time + INTERVAL '2 ms' WHERE extract(second FROM time) < 10")
    report = imported(second, "--from", postgres.url)
    assert (report["not_understood"], report["faults"]) == (0, {})
    assert report["rows"] == 2 * 200 * KINDS
    assert await views(other, "homelab.system_metrics") == await views(one, "homelab.system_metrics")
    await one.close()
    await other.close()


async def test_what_cannot_be_read_is_counted_and_shown_and_stops_nothing(postgres: Postgres, tmp_path: Path) -> None:
    connection, agent, at = await connected(postgres), target(tmp_path, postgres), now() - timedelta(hours=3)
    await seed(connection, at, MINUTE, 100)
    poison: Sequence[tuple[Any, ...]] = [
        (at, HOST, "gpu", {"usage": 1}),
        (at, "", "cpu", {"usage": 1}),
        (at, HOST, "cpu", {"usage": "NaN"}),
        (at, HOST, "memory", [1, 2]),
        (at, HOST, "disk", {"/x": {"total": 1, "used": 1, "free": 0, "used_percent": 100, "inodes": 5}}),
        (datetime(1970, 1, 1, tzinfo=UTC), HOST, "cpu", {"usage": 1}),
        (now() + timedelta(days=400), HOST, "cpu", {"usage": 1}),
        (None, HOST, "cpu", {"usage": 1}),
    ]
    for time, host, kind, payload in poison:
        await connection.execute(
            "INSERT INTO public.system_metrics VALUES ($1, $2, 'x', $3, $4)", time, host, kind, json.dumps(payload)
        )
    await connection.execute("INSERT INTO public.system_metrics VALUES ('infinity', 'h', 'x', 'cpu', '{}')")
    report = imported(agent)
    assert (report["rows"], report["imported"], report["not_understood"], report["without_a_time"]) == (405, 401, 8, 4)
    assert report["faults"] == {
        "metric_type 'gpu' is none of cpu, memory, disk, network": 1,
        "host is empty, or too long": 1,
        "cpu: usage is no number": 1,
        "memory: the payload is no object": 1,
    }
    assert report["no_column"] == {"disk.*: 'inodes'": 1}
    assert {one["cause"] for one in report["examples"]} == set(report["faults"])
    shown = agent.run("db", "import-reference", "--again").stdout
    assert "8 rows were not understood" in shown
    assert "memory: the payload is no object" in shown
    await connection.close()


async def test_a_window_other_names_and_a_dry_run(postgres: Postgres, tmp_path: Path) -> None:
    connection, agent, at = await connected(postgres), target(tmp_path, postgres), now() - timedelta(hours=10)
    await seed(connection, at, MINUTE, 300)
    since, ends = (at + 100 * MINUTE).isoformat(), (at + 200 * MINUTE).isoformat()
    window = ("--since", since, "--until", ends, "--host", f"{HOST}=testhost")
    assert imported(agent, *window, "--dry-run")["imported"] == 400
    assert await connection.fetchval("SELECT count(*) FROM cpu_sample") == 0
    assert imported(agent, *window)["hosts"] == {HOST: "testhost"}
    [span] = await connection.fetch("SELECT min(time), max(time), min(host), max(host) FROM cpu")
    assert tuple(span) == (at + 100 * MINUTE, at + 199 * MINUTE, "testhost", "testhost")
    assert imported(agent, "--since", since, "--host", f"{HOST}=testhost")["families"]["cpu"]["new"] == 100
    await connection.close()


async def test_a_running_agent_s_own_lines_go_on_in_the_past(agent: Agent, postgres: Postgres) -> None:
    agent.write(database=postgres.url, interval=1)
    agent.start_with_database()
    until(lambda: agent.sql("SELECT 1 FROM filesystem LIMIT 1"), "the agent has sampled its filesystems", seconds=90)
    [place] = agent.sql("SELECT label, key FROM filesystem ORDER BY label LIMIT 1")
    connection = await connected(postgres)
    await seed(connection, now() - timedelta(hours=5), MINUTE, 100)
    await connection.execute(
        "UPDATE public.system_metrics SET payload = jsonb_build_object($1::text, payload -> '/')"
        " WHERE metric_type = 'disk'",
        place["label"],
    )
    report = imported(agent, "--host", f"{HOST}=testhost")
    assert any(place["key"] in one for one in report["joined"])
    old = "SELECT DISTINCT key FROM filesystem WHERE label = $1 AND time < now() - INTERVAL '2 hours'"
    assert [row["key"] for row in await connection.fetch(old, place["label"])] == [place["key"]]
    await connection.close()


async def test_who_is_killed_at_any_moment_loses_and_repeats_nothing(
    postgres: Postgres, tmp_path: Path, soak: Soak
) -> None:
    await killed_again_and_again(postgres, tmp_path, soak, times=10)


@pytest.mark.soak
async def test_who_is_killed_sixty_times_loses_and_repeats_nothing(
    postgres: Postgres, tmp_path: Path, soak: Soak
) -> None:
    await killed_again_and_again(postgres, tmp_path, soak, times=60)


async def killed_again_and_again(postgres: Postgres, directory: Path, soak: Soak, *, times: int) -> None:
    connection, agent = await connected(postgres), target(directory, postgres)
    begin = HOUR.floor(now()) - timedelta(days=34)  # four days of them are older than samples are kept
    points = 8500
    await seed(connection, begin, timedelta(minutes=4), points)
    marks = []
    for number in soak.rounds(times):
        aim = (number + soak.dice.random()) * points * KINDS / times * 0.9
        with begun(agent, "--json") as child:
            await beyond(child, connection, MARK, aim)
            child.send_signal(signal.SIGKILL)
        marks.append(await mark(connection))
    last = imported(agent)
    await jobs(postgres, directory, connection)
    assert last["rows_before"] >= marks[-1]
    assert sorted(marks) == marks
    assert len(set(marks)) > times / 5, marks
    assert await mark(connection) == points * KINDS
    assert await connection.fetchval("SELECT sum(samples) FROM cpu_1h WHERE host = $1", HOST) == points
    [kept] = await connection.fetch(
        "SELECT count(*) AS rows, count(rx_bytes_per_s) AS rates FROM network WHERE label = 'eth0'"
    )
    old = await connection.fetchval("SELECT sum(rx_bytes_per_s_count) FROM network_1h WHERE label = 'eth0'")
    assert kept["rows"] == kept["rates"], "no rate is lost by a kill"
    assert old == points - 1
    await connection.close()


async def mark(connection: Any) -> int:
    return int(await connection.fetchval(MARK))


async def beyond(child: subprocess.Popen[str], connection: Any, query: str, number: float) -> None:
    """Return when a query says more than a number, or the child has ended."""
    while True:
        if child.poll() is not None or await connection.fetchval(query) > number:
            return
        await asyncio.sleep(0.005)


async def test_a_source_or_a_target_that_goes_away_is_named_and_the_next_run_goes_on(
    postgres: Postgres, postgres_debian: Postgres, tmp_path: Path
) -> None:
    source, wanted = await connected(postgres_debian), 20_000
    agent = target(tmp_path, postgres)
    await seed(source, now() - timedelta(days=14), MINUTE, wanted)
    await source.close()
    for server, words in ((postgres_debian, "The database that is read"), (postgres, "The agent's database")):
        connection = await connected(postgres)
        so_far = await mark(connection)
        with begun(agent, "--from", postgres_debian.url) as child:
            await beyond(child, connection, MARK, so_far)
            await connection.close()
            server.disconnect()
            _, said = child.communicate(timeout=60)
        assert child.returncode == 69, said
        assert words in said
        assert "give the same command again" in said
    connection = await connected(postgres)
    assert 0 < await mark(connection) < wanted * KINDS
    before = await mark(connection)
    assert imported(agent, "--from", postgres_debian.url)["rows_before"] == before
    assert await connection.fetchval("SELECT count(*) FROM cpu") == wanted
    await connection.close()


async def test_each_thing_that_keeps_it_from_beginning_is_said_with_its_repair(
    postgres: Postgres, tmp_path: Path
) -> None:
    empty = Agent(tmp_path / "no schema")
    empty.write(database=postgres.url)
    assert "homelab-agent db migrate" in refused(empty, 1)
    agent = target(tmp_path, postgres)
    assert "homelab.system_metrics is the agent's own view" in refused(agent, 1)
    assert "There is no table nowhere.system_metrics" in refused(agent, 1, "--table", "nowhere.system_metrics")
    assert "There is no table a.b.c.d" in refused(agent, 1, "--table", "a.b.c.d")
    assert "it lacks time, os, metric_type, payload" in refused(agent, 1, "--table", "homelab.rollup").replace(
        "time, host", "time"
    )
    assert "--from is not an address" in refused(agent, 2, "--from", "http://here").replace("`", "")
    assert "does not answer" in refused(agent, 69, "--from", "postgresql://x@127.0.0.1:1/y")
    assert "neither a day" in refused(agent, 2, "--since", "yesterday")
    assert "is not NAME=NEW" in refused(agent, 2, "--host", "nas")
    connection = await connected(postgres)
    await seed(connection, now() - timedelta(hours=1), MINUTE, 5)
    password = tmp_path / "url"
    password.write_text(postgres.url)
    password.chmod(0o600)
    assert imported(agent, "--from", f"file:{password}", "--table", "public.system_metrics")["imported"] == 20
    await connection.close()


async def test_one_imports_at_a_time_and_who_is_interrupted_says_how_to_go_on(
    postgres: Postgres, tmp_path: Path
) -> None:
    connection, agent = await connected(postgres), target(tmp_path, postgres)
    await seed(connection, now() - timedelta(hours=1), MINUTE, 5)
    await connection.execute("SELECT pg_advisory_lock(hashtextextended('homelab.reference_import', 0))")
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with begun(agent) as child:
        await beyond(child, connection, waits, 0)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert (child.returncode, "the same command goes on" in said) == (130, True), said
    assert "Another import writes to this database" in refused(agent, 75)
    await connection.execute("SELECT pg_advisory_unlock_all()")
    assert imported(agent)["imported"] == 20
    await connection.close()
