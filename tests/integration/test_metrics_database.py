"""Samples arrive in PostgreSQL, on every edition, once, and come back as charts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.health import State as Standing
from homelab_agent.core.spool import Row
from homelab_agent.metrics import service
from homelab_agent.metrics.collectors.containers import Containers
from homelab_agent.metrics.collectors.sensors import Sensors
from homelab_agent.metrics.collectors.units import Seen, Units
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.names import METRICS
from homelab_agent.metrics.roster import Container
from homelab_agent.metrics.rows import of_entities, of_families
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import until
from tests.founded import foundation
from tests.machines import ASKED_FOR, RARE, SOMEWHERE, chip, container, with_groups
from tests.neighbours.postgres import Postgres
from tests.recorded import Recorded


async def test_samples_arrive_once_and_come_back_as_charts(any_postgres: Postgres, tmp_path: Path) -> None:
    settings = MetricsSettings(interval=1, slow_interval=1)
    async with foundation(tmp_path, any_postgres.url) as base:
        capability = service.build(settings, base)
        task, *_ = capability.tasks
        running = asyncio.ensure_future(task.run())
        await base.database.wait_until_up()

        async def arrived() -> int:
            rows = await base.database.fetch("SELECT count(*) FROM tick")
            return int(rows[0][0])

        async with asyncio.timeout(30):
            while await arrived() < 4:  # noqa: ASYNC110 - what another process holds
                await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: not base.spool.status().rows_memory, "the last rows to be shipped")
        for family in METRICS:
            [row] = await base.database.fetch(f"SELECT count(*), count(DISTINCT (key, time)) FROM {family}")
            assert row[0] == row[1]
            assert row[0] >= 4 or family in RARE | ASKED_FOR | SOMEWHERE
        [row] = await base.database.fetch("SELECT host, label, busy_pct, time FROM cpu ORDER BY time DESC LIMIT 1")
        assert (row["host"], row["label"]) == ("here", "total")
        assert 0 <= row["busy_pct"] <= 100
        assert row["time"].microsecond == 0
        assert base.spool.status().rejected == 0
        assert base.spool.status().thinned == 0
        assert not (await check(capability, "metrics.sampling")).startswith("no sample")

        before = await base.database.fetch(
            "SELECT * FROM system_metrics WHERE time > now() - interval '1 hour' ORDER BY time"
        )
        assert {(row["host"], row["metric_type"]) for row in before} == {
            ("here", kind) for kind in ("cpu", "memory", "disk", "network")
        }
        assert list(before[0].keys()) == ["time", "host", "os", "metric_type", "payload"]
        payloads = {row["metric_type"]: json.loads(row["payload"]) for row in before}
        assert set(payloads["memory"]) == {"total", "available", "used", "used_percent"}
        assert 0 <= payloads["cpu"]["usage"] <= 100
        assert set(next(iter(payloads["disk"].values()))) == {"total", "used", "free", "used_percent"}
        assert set(next(iter(payloads["network"].values()))) == {"rx_bytes", "tx_bytes"}

        fresh = service.Service(settings, base)
        await fresh._seed()
        assert len(fresh.charts()[0].series[0].points) >= 1
        assert fresh.charts()[1].series[0].points[0][1] is not None


async def check(capability: Capability, name: str) -> str:
    [found] = [one for one in capability.checks if one.name == name]
    assert found.probe is not None
    finding = await found.probe()
    assert finding.state is Standing.OK
    return str(finding.detail)


def warm(directory: Path) -> tuple[Sequence[Entity], Families]:
    """Return the entities and readings of a machine that says how warm its cores are."""
    recorded = Recorded(directory)
    labels = {"temp1_label": "Package id 0", "temp2_label": "Core 0"}
    chip(
        recorded,
        "sys/devices/platform/coretemp.0/hwmon/hwmon3",
        "coretemp",
        **labels,
        temp1_input="54000",
        temp2_input="51500",
    )
    busy = Reading(recorded.host.entities.get("cpu", "total"), {"busy_pct": 12.5})
    families: Families = {"cpu": [busy], **Sensors(recorded.host, MetricsSettings()).collect()}
    return [reading.entity for readings in families.values() for reading in readings], families


def system(since: datetime, was: str | None, value: str) -> Row:
    """Return the row that says which system a host has."""
    values: Values = {"host": "recorded", "name": "os", "key": "", "since": since, "value": value, "was": was}
    return Row("fact", ("host", "name", "key", "since"), values, since)


async def test_the_view_of_before_has_temperatures_by_core_and_the_system_that_it_was_then(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    noon, later = datetime(2026, 11, 24, 12, tzinfo=UTC), datetime(2026, 11, 24, 12, 5, tzinfo=UTC)
    entities, families = await asyncio.to_thread(warm, tmp_path / "machine")
    async with foundation(tmp_path, any_postgres.url) as base:
        await base.database.wait_until_up()
        samples = [*of_families(families, noon), *of_families(families, later)]
        systems = [system(noon, None, "debian 12"), system(later, "debian 12", "debian 13")]
        await base.spool.put([*of_entities(entities, "recorded", noon), *samples, *systems])
        await until(lambda: not base.spool.status().rows_memory, "the rows to be shipped")
        query = "SELECT os, payload FROM system_metrics WHERE host = 'recorded' AND metric_type = 'cpu' ORDER BY time"
        found = await base.database.fetch(query)
        assert [row["os"] for row in found] == ["debian 12", "debian 13"]
        cores = {"core_0": 51.5}
        assert json.loads(found[0]["payload"]) == {"usage": 12.5, "package_temp": 54.0, "core_temps": cores}


@pytest.mark.parametrize(
    ("name", "label"), [("k10temp", "Tctl"), ("zenpower", "Tdie"), ("coretemp", "Package id 0"), ("cpu_thermal", "")]
)
async def test_the_view_of_before_knows_a_processor_of_any_maker(
    name: str, label: str, postgres: Postgres, tmp_path: Path
) -> None:
    recorded, noon = Recorded(tmp_path / "machine"), datetime(2026, 11, 24, 12, tzinfo=UTC)
    labels = {"temp1_label": label} if label else {}

    def read() -> Families:
        chip(recorded, "sys/devices/pci0000:00/hwmon/hwmon1", name, temp1_input="61250", **labels)
        chip(recorded, "sys/devices/pci0000:01/hwmon/hwmon2", "nvme", temp1_input="80000", temp1_label="Composite")
        busy = Reading(recorded.host.entities.get("cpu", "total"), {"busy_pct": 12.5})
        return {"cpu": [busy], **Sensors(recorded.host, MetricsSettings()).collect()}

    families = await asyncio.to_thread(read)
    entities = [reading.entity for readings in families.values() for reading in readings]
    async with foundation(tmp_path, postgres.url) as base:
        await base.database.wait_until_up()
        await base.spool.put([*of_entities(entities, "recorded", noon), *of_families(families, noon)])
        await until(lambda: not base.spool.status().rows_memory, "the rows to be shipped")
        [found] = await base.database.fetch("SELECT payload FROM system_metrics WHERE metric_type = 'cpu'")
        assert json.loads(found["payload"])["package_temp"] == 61.25


def tick(host: str, at: datetime) -> Row:
    """Return the row of a sample that was taken in time."""
    values: Values = {
        "host": host, "time": at, "scheduled_at": at, "started_at": at, "late_ms": 0.0, "total_ms": 1.0, "step_s": 0.0,
        "asleep_s": 0.0, "skipped": 0, "moved_ms": 0, "spooled": False, "clock_synchronised": True, "collectors": {},
    }  # fmt: skip
    return Row("tick", ("host", "time"), values, at)


def start(host: str, at: datetime, boot_at: datetime) -> Row:
    """Return the row of an agent's start."""
    values: Values = {"host": host, "time": at, "boot_at": boot_at, "interval_s": 10, "version": "0"}
    return Row("agent_start", ("host", "time"), values, at)


async def test_a_silence_is_the_hosts_or_the_agents_also_where_its_samples_come_late(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def at(seconds: int) -> datetime:
        return noon + timedelta(seconds=seconds)

    boots, starts = [at(-9000), at(-9000), at(1500)], [at(0), at(600), at(1560)]
    before, late = [at(0), at(10), at(600), at(610), at(1560)], [at(20), at(620)]
    async with foundation(tmp_path, any_postgres.url) as base:
        await base.database.wait_until_up()
        begun = [start("lit", one, boot) for one, boot in zip(starts, boots, strict=True)]
        await base.spool.put([*begun, *(tick("lit", one) for one in before)])
        await until(lambda: not base.spool.status().rows_memory, "the rows to be shipped")
        await base.spool.put([tick("lit", one) for one in late])
        await until(lambda: not base.spool.status().rows_memory, "those that had waited to be shipped")
        found = await base.database.fetch("SELECT from_at, to_at, cause FROM silence WHERE host = 'lit' ORDER BY 1")
        assert [(row["from_at"], row["to_at"], row["cause"]) for row in found] == [
            (at(20), at(600), "agent down"),
            (at(620), at(1500), "host off"),
            (at(1500), at(1560), "agent down"),
        ]


def busy(directory: Path, at: datetime) -> tuple[Sequence[Entity], Families]:
    """Return the entities and readings of a machine with a service that has failed and a container."""
    recorded, container_id = with_groups(Recorded(directory)), "1" * 64
    container(recorded, f"docker/{container_id}")
    containers = Containers(recorded.host, MetricsSettings())
    containers.learn({container_id: Container(container_id, "x", "postgres:18", "shop", "db", "1")}, frozenset())
    seen = {
        "nginx.service": Seen("failed", "failed", "simple", 3, "exit-code", at),
        "srv.mount": Seen("active", "mounted"),
    }
    units = Units(recorded.host, MetricsSettings()).readings(seen)
    families: Families = {"unit": units, **containers.collect()}
    return [reading.entity for readings in families.values() for reading in readings], families


async def test_units_and_containers_arrive_by_their_names(any_postgres: Postgres, tmp_path: Path) -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    entities, families = await asyncio.to_thread(busy, tmp_path / "machine", noon)
    async with foundation(tmp_path, any_postgres.url) as base:
        await base.database.wait_until_up()
        await base.spool.put([*of_entities(entities, "recorded", noon), *of_families(families, noon)])
        await until(lambda: not base.spool.status().rows_memory, "the rows to be shipped")
        query = "SELECT key, state, result, since, restarts, restarted FROM unit WHERE host = 'recorded' ORDER BY key"
        assert [tuple(row) for row in await base.database.fetch(query)] == [
            ("nginx.service", "failed", "exit-code", noon, 3, None),
            ("srv.mount", "active", None, None, None, None),
        ]
        query = "SELECT key, image, cpu_s, memory_bytes, memory_limit_bytes FROM container WHERE host = 'recorded'"
        [found] = await base.database.fetch(query)
        assert tuple(found) == ("shop/db/1", "postgres:18", 2.5, 83886080, None)
        assert base.spool.status().rejected == 0
