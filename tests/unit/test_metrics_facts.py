"""What a host is made of is noted when it is first seen and when it changes, and at no other time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import homelab_agent
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.metrics import facts
from homelab_agent.metrics.facts import Facts
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import MovableClock, until
from tests.machines import raspberry
from tests.recorded import Recorded
from tests.write_ahead import commits

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return raspberry(tmp_path / "machine")


class Noted:
    """Looks at a machine, as a process that was started anew each time would, and gives what was put for PostgreSQL."""

    def __init__(self, recorded: Recorded, state: State, spool: Spool, clock: MovableClock) -> None:
        self._parts = (clock, state, spool)
        self._spool = spool
        self._host = recorded.host
        self.images: Mapping[str, str] = {}
        self.state = state

    async def look(self) -> list[Mapping[str, object]]:
        parts = (*self._parts, lambda: self.images)
        await Facts(self._host, MetricsSettings(), *parts, synchronised=lambda: True).look()
        rows: list[Row] = []
        while (batch := await self._spool.take()) is not None:
            rows += [row for parcel in batch.parcels for row in parcel.rows]
            await self._spool.done(batch)
        assert {row.table for row in rows} <= {"fact"}
        return [row.values for row in rows]


@pytest.fixture
async def noted(recorded: Recorded, tmp_path: Path) -> AsyncIterator[Noted]:
    clock = MovableClock(NOON)
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="recorded", max_bytes=2**24, max_age=86400)
    yield Noted(recorded, state, spool, clock)
    await spool.close()
    await state.close()


def test_a_machine_says_what_it_is(recorded: Recorded) -> None:
    assert facts.read(recorded.host, MetricsSettings()) == {
        ("os", ""): "debian 12",
        ("kernel", ""): "6.6.31+rpt-rpi-v8",
        ("machine", ""): "Raspberry Pi 4 Model B Rev 1.4",
        ("disk", "usb-Samsung_T7_1-0:0"): "T7 1000204886016 bytes",
        ("disk", "usb-WD_Elements_2-0:0"): "Elements 1000204886016 bytes",
        ("network", "dc:a6:32:00:00:01"): "eth0",
        ("mount", "/"): "ext4 1111-2222",
    }


def test_this_host_says_what_it_is() -> None:
    found = facts.read(Host("here"), MetricsSettings())
    assert found["kernel", ""] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert found["os", ""]
    assert ("mount", "/") in found or not any(name == "mount" for name, _ in found)


async def test_what_is_first_seen_is_noted_and_what_stays_is_not(noted: Noted) -> None:
    first = await noted.look()
    assert len(first) == 7
    assert {(row["host"], row["was"], row["since"]) for row in first} == {("recorded", None, NOON)}
    assert await noted.look() == []


async def test_a_change_is_noted_with_what_was_before_though_nobody_looked_meanwhile(
    noted: Noted, recorded: Recorded
) -> None:
    await noted.look()
    recorded.write("proc/sys/kernel/osrelease", "6.12.1+rpt-rpi-v8\n")
    (recorded.root / "sys/block/sdb/size").unlink()
    found = {(row["name"], row["key"]): (row["was"], row["value"]) for row in await noted.look()}
    assert found == {
        ("kernel", ""): ("6.6.31+rpt-rpi-v8", "6.12.1+rpt-rpi-v8"),
        ("disk", "usb-WD_Elements_2-0:0"): ("Elements 1000204886016 bytes", None),
    }


async def test_disks_that_change_their_names_are_the_same_disks(noted: Noted, recorded: Recorded) -> None:
    await noted.look()
    for name, other in (("usb-Samsung_T7_1-0:0", "sdb"), ("usb-WD_Elements_2-0:0", "sda")):
        link = recorded.root / "dev/disk/by-id" / name
        link.unlink()
        link.symlink_to(f"../../{other}")
        recorded.write(f"sys/block/{other}/device/model", f"{name.split('_')[1]}\n")
    (recorded.root / "dev/disk/by-uuid/1111-2222").unlink()
    recorded.link("dev/disk/by-uuid/1111-2222", "../../sdb1")
    recorded.write("proc/1/mountinfo", "26 1 8:17 / / rw,noatime shared:1 - ext4 /dev/sdb1 rw\n")
    assert await noted.look() == []


async def test_before_the_clock_is_set_nothing_is_dated(recorded: Recorded, tmp_path: Path) -> None:
    clock = MovableClock(datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC))
    clock._boot = 20.0
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="recorded", max_bytes=2**24, max_age=86400)
    is_set = False
    watching = Facts(recorded.host, MetricsSettings(), clock, state, spool, synchronised=lambda: is_set)
    task = asyncio.create_task(watching.watch())
    await until(lambda: clock.sleepers, "it waits")
    await clock.advance(30)
    await until(lambda: clock.sleepers, "it waits again")
    clock.step((NOON - clock.read().wall).total_seconds())
    is_set = True
    await clock.advance(10)
    await until(lambda: spool.status().rows_disk, "the facts are noted")
    batch = await spool.take()
    assert batch is not None
    assert len(batch.rows) == 7
    assert all(NOON <= row.values["since"] <= NOON + timedelta(seconds=10) for row in batch.rows)  # type: ignore[operator]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await spool.close()
    await state.close()


async def test_a_containers_image_is_noted_when_it_is_another_one_and_not_when_the_container_rests(
    noted: Noted,
) -> None:
    noted.images = {"shop/db/1": "postgres:18 aaaaaaaaaaaa", "shop/app/1": "shop:1 cccccccccccc"}
    found = {row["key"]: row for row in await noted.look() if row["name"] == "image"}
    assert {key: row["value"] for key, row in found.items()} == noted.images
    noted.images = {"shop/app/1": "shop:1 cccccccccccc"}
    assert await noted.look() == []
    noted.images = {"shop/db/1": "postgres:18 bbbbbbbbbbbb"}
    [change] = await noted.look()
    assert (change["key"], change["was"], change["value"]) == (
        "shop/db/1", "postgres:18 aaaaaaaaaaaa", "postgres:18 bbbbbbbbbbbb",
    )  # fmt: skip


async def test_containers_under_names_that_are_made_up_are_not_remembered_for_ever(noted: Noted) -> None:
    for day in range(6):
        noted.images = {"shop/db/1": "postgres:18", **{f"made_up_{day}_{number}": "busybox" for number in range(500)}}
        assert len(await noted.look()) >= 500
    noted.images = {"shop/db/1": "postgres:18"}
    assert await noted.look() == []
    count = "SELECT count(*), max(key = 'shop/db/1') FROM metrics_fact WHERE name = 'image'"
    kept, db = await noted.state.read(lambda connection: connection.execute(count).fetchone())
    assert (kept <= facts.RESTING_MAX + 500, db) == (True, 1)


async def test_where_nothing_has_changed_nothing_is_written(noted: Noted) -> None:
    noted.images = {"shop/db/1": "postgres:18"}
    await noted.look()
    before = await asyncio.to_thread(commits, noted.state.directory)
    for _ in range(3):
        assert await noted.look() == []
    assert await asyncio.to_thread(commits, noted.state.directory) == before
