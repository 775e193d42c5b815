"""What collectors read has a column, and every column is read by a collector; both editions have the same."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, strategies

from homelab_agent.core.clock import Drift, Instant, SystemClock
from homelab_agent.metrics import disk_health, entity, rows, service, space
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.collectors.containers import Containers
from homelab_agent.metrics.collectors.frequency import Frequency
from homelab_agent.metrics.collectors.raid import Raid
from homelab_agent.metrics.collectors.sensors import Sensors
from homelab_agent.metrics.collectors.throttling import Throttling
from homelab_agent.metrics.collectors.units import Seen, Units
from homelab_agent.metrics.forecast import Forecast
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.names import METRICS
from homelab_agent.metrics.probes import Watch
from homelab_agent.metrics.sample import Quality, Reading, Sample, Status
from homelab_agent.metrics.settings import MetricsSettings, Probe
from homelab_agent.metrics.ticker import Tick
from tests.machines import ASKED_FOR, RARE, SOMEWHERE, container, raspberry, with_groups
from tests.neighbours.ports import free_port

SCHEMA = Path(service.__file__).parent / "schema"
FACTS_OF_THE_LOOP = {"late_ms", "collect_ms", "spool_rows", "spool_bytes", "state_written_bytes", "database_ms"}


def schema() -> str:
    return "".join(path.read_text() for path in sorted(SCHEMA.glob("0*.sql")))


def tables() -> dict[str, set[str]]:
    sql = re.sub(r"--.*", "", schema())
    return {
        table: {line.split()[0] for line in re.split(r",\s*\n", body) if not line.strip().startswith("PRIMARY KEY")}
        for table, body in re.findall(r"CREATE TABLE (\w+_sample|tick) \((.*?)\n\)", sql, re.DOTALL)
    }


async def test_rows_and_tables_have_the_same_columns() -> None:
    collection = Collection(Host("here"), MetricsSettings())
    now = Instant(datetime.now(UTC), time.monotonic(), time.monotonic())
    tick = Tick(now.wall, now, 0, Drift(0, 0))
    taken = await collection.take(tick)
    quality = Quality(
        tick.due,
        now.wall,
        0,
        0,
        0,
        0,
        0,
        0,
        spooled=False,
        clock_synchronised=True,
        collectors=taken.collectors,
    )
    found = tables()
    seen = set()
    for row in rows.of_sample(Sample(tick.due, taken.families, quality), "here"):
        expected = found[row.table] - (FACTS_OF_THE_LOOP if row.table == "agent_sample" else set())
        assert set(row.values) == expected, row.table
        seen.add(row.table)
    assert seen | {f"{family}_sample" for family in RARE | ASKED_FOR | SOMEWHERE} == set(found)
    assert {f"{family}_sample" for family in METRICS} | {"tick"} == set(found)


def test_families_that_this_host_may_lack_have_the_same_columns_as_their_tables(tmp_path: Path) -> None:
    recorded, found = raspberry(tmp_path), tables()
    families: dict[str, Sequence[Reading]] = {}
    for kind in (Sensors, Frequency, Throttling, Raid):
        families.update(kind(recorded.host, MetricsSettings()).collect())
    families["unit"] = Units(recorded.host, MetricsSettings()).readings({"cron.service": Seen("active", "running")})
    container(with_groups(recorded), f"docker/{'1' * 64}")
    containers = Containers(recorded.host, MetricsSettings())
    containers.learn({}, frozenset({"1" * 64}))
    families.update(containers.collect())
    assert set(families) == RARE | SOMEWHERE
    for family, readings in families.items():
        for reading in readings:
            assert {*reading.values, "entity_id", "time"} == found[f"{family}_sample"], family


def test_a_tick_names_the_status_of_a_collector_where_it_is_not_ok() -> None:
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    collectors = {"cpu": (Status.OK, 0.2), "disk": (Status.TIMEOUT, 2000.0)}
    quality = Quality(at, at, 0, 0, 0, 0, 0, 0, spooled=False, clock_synchronised=True, collectors=collectors)
    [tick] = rows.of_sample(Sample(at, {}, quality), "here")
    assert tick.values["collectors"] == {"cpu": 0.2, "disk": ["timeout", 2000.0]}


async def test_a_probe_has_the_same_columns_as_its_table() -> None:
    watch = Watch(Probe(name="nobody", target=f"127.0.0.1:{free_port()}"), Host("here"), SystemClock())
    await watch.ask()
    reading = watch.reading()
    assert reading is not None
    assert {*reading.values, "entity_id", "time"} == tables()["probe_sample"]


def test_a_disk_that_says_how_it_is_has_the_same_columns_as_its_table() -> None:
    assert {*disk_health.COLUMNS, "device", "entity_id", "time"} == tables()["smart_sample"]


def test_a_forecast_has_the_same_columns_as_its_table() -> None:
    assert {*space.row(Forecast(1.0, 2.0)), "entity_id", "time"} == tables()["forecast_sample"]


def test_series_of_collectors_that_are_asked_seldom_are_said_to_be_slow() -> None:
    """TimescaleDB makes no minutes of these: there would be as many as there are samples."""
    fast = {"cpu", "cpu_core", "memory", "load", "pressure", "disk", "network", "agent"}
    [said] = re.findall(r"INSERT INTO slow_series \(series\) VALUES(.*?);", schema(), re.DOTALL)
    assert sorted(re.findall(r"'(\w+)'", said)) == sorted(
        set(tables()) - {f"{name}_sample" for name in fast} - {"tick"}
    )
    assert {f"{one.name}_sample" for one in (Units, Containers, Frequency, Throttling, Raid) if one.slow} <= set(
        re.findall(r"'(\w+)'", said)
    )


def test_every_table_is_a_series() -> None:
    sql = schema()
    made = re.findall(r"SELECT make_series\('(\w+)', '(\w+)'\);", sql)
    assert [name for name, _ in made] == list(tables())
    assert all(segment in tables()[name] for name, segment in made)


def test_an_entitys_id_is_the_same_everywhere_and_fits_a_bigint() -> None:
    one = entity.identify("nas", "disk", "wwn-0x5000", "wwn-0x5000")
    assert one == entity.identify("nas", "disk", "wwn-0x5000", "wwn-0x5000")
    assert 0 <= one < 2**63
    assert entity.identify("a", "bc", "d", "e") != entity.identify("ab", "c", "d", "e")
    assert one == 0x1B93C8478EE4B19F >> 1  # printf 'nas\0disk\0wwn-0x5000\0wwn-0x5000' | b2sum -l 64


@given(strategies.binary())
def test_every_name_is_text_that_postgresql_takes(name: bytes) -> None:
    one = entity.Entities("here").get("filesystem", os.fsdecode(name) or "none")
    assert "\0" not in one.label
    assert one.label.encode() == one.key.encode()
    assert one.id == entity.identify("here", "filesystem", one.key, one.label)


@given(strategies.text(strategies.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_proper_name_stays_as_it_is(name: str) -> None:
    assert entity.legible(name) == name
