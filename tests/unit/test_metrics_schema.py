"""What collectors read has a column, and every column is read by a collector; both editions have the same."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, strategies

from homelab_agent.core.clock import Drift, Instant
from homelab_agent.metrics import entity, rows, service
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.names import METRICS
from homelab_agent.metrics.sample import Quality, Sample
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick

SCHEMA = Path(service.__file__).parent / "schema"
FACTS_OF_THE_LOOP = {"late_ms", "collect_ms", "spool_rows", "spool_bytes", "state_written_bytes", "database_ms"}


def tables(name: str) -> dict[str, set[str]]:
    sql = re.sub(r"--.*", "", (SCHEMA / name).read_text())
    return {
        table: {line.split()[0] for line in re.split(r",\s*\n", body) if not line.strip().startswith("PRIMARY KEY")}
        for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", sql, re.DOTALL)
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
    found = tables("0001_samples.sql")
    seen = set()
    for row in rows.of_sample(Sample(tick.due, taken.families, quality), "here"):
        expected = found[row.table] - (FACTS_OF_THE_LOOP if row.table == "agent_sample" else set())
        assert set(row.values) == expected, row.table
        seen.add(row.table)
    assert {*seen, "temperature_sample"} == set(found)  # a virtual machine has no temperatures
    assert {f"{family}_sample" for family in METRICS} | {"tick"} == set(found)


def test_every_table_is_a_series() -> None:
    sql = (SCHEMA / "0001_samples.sql").read_text()
    made = re.findall(r"SELECT make_series\('(\w+)', '(\w+)'\);", sql)
    assert [name for name, _ in made] == list(tables("0001_samples.sql"))
    assert all(segment in tables("0001_samples.sql")[name] for name, segment in made)


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
