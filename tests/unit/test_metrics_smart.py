"""Disks that say how they are: asked without being woken, understood whatever they say, and told in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.health import Finding, State
from homelab_agent.core.privilege import Answer, PrivilegedUnavailable, Unprivileged
from homelab_agent.metrics import smart
from homelab_agent.metrics.disk_health import DiskHealth
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.sample import Values
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import MovableClock, until
from tests.disks import ASLEEP, ata, attribute, nvme, sas, silent, stand_in
from tests.neighbours import neighbour
from tests.recorded import Recorded


def host_with(directory: Path, *names: str, suspended: Sequence[str] = ()) -> Recorded:
    recorded = Recorded(directory)
    for name in names:
        recorded.write(f"sys/block/{name}/size", "1000\n")
        state = "suspended" if name in suspended else "active"
        recorded.write(f"sys/block/{name}/device/power/runtime_status", f"{state}\n")
    return recorded


def said(found: Mapping[str, Any]) -> smart.Said:
    return smart.said(json.dumps(found).encode())


def test_an_nvme_disk_tells_wear_and_bytes() -> None:
    found = said(nvme())
    assert (found["passed"], found["wear_pct"], found["spare_pct"], found["celsius"]) == (True, 3, 100, 36)
    assert found["written_bytes"] == 7773431 * 512_000
    assert found["powered_s"] == 2401 * 3600
    assert (found["uncorrectable"], found["pending"]) == (0, None)


def test_a_spinning_disk_tells_its_sectors_and_has_no_wear() -> None:
    table = [
        attribute(5, "Reallocated_Sector_Ct", 8),
        attribute(194, "Temperature_Celsius", 163210330144, 51),
        attribute(197, "Current_Pending_Sector", (7 << 32) + 2),
        attribute(198, "Offline_Uncorrectable", 1),
        attribute(199, "UDMA_CRC_Error_Count", 4),
        attribute(202, "Data_Address_Mark_Errs", 0),
    ]
    found = said(ata(*table))
    names = ("reallocated", "pending", "uncorrectable", "crc_errors", "celsius", "wear_pct", "written_bytes")
    assert [found[name] for name in names] == [8, 2, 1, 4, 32, None, None]


@pytest.mark.parametrize(
    ("name", "raw", "written"),
    [
        ("Total_LBAs_Written", 1000, 512_000),
        ("Host_Writes_32MiB", 3, 3 * 2**25),
        ("Lifetime_Writes_GiB", 2, 2 * 2**30),
        ("Unknown_Attribute", 2, None),
    ],
)
def test_an_ssd_tells_its_wear_and_what_it_has_written_in_whatever_unit(name: str, raw: int, written: int) -> None:
    found = said(ata(attribute(233, "Media_Wearout_Indicator", 0, 88), attribute(241, name, raw), rotation_rate=0))
    assert (found["wear_pct"], found["written_bytes"]) == (12, written)


def test_a_sas_disk_tells_its_defects() -> None:
    found = said(sas())
    assert (found["passed"], found["reallocated"], found["uncorrectable"]) == (True, 56, 3)


def test_what_cannot_be_asked_says_why() -> None:
    assert said(silent()) == {"cause": "/dev/vda: Unable to detect device type"}
    assert smart.said(b"Segmentation fault") == {"cause": "smartctl did not answer in JSON"}
    assert smart.said(b"[" * 100_000) == {"cause": "smartctl did not answer in JSON"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.data())
def test_whatever_is_where_a_number_should_be_is_no_number(data: st.DataObject) -> None:
    found = data.draw(st.sampled_from([nvme(), ata(attribute(5, "Reallocated_Sector_Ct", 1)), sas()]))
    place: Any = found
    path = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    for step in path:
        keys = list(place) if isinstance(place, dict) else range(len(place)) if isinstance(place, list) else []
        if not keys:
            break
        key = keys[step % len(keys)]
        if data.draw(st.booleans()):
            place[key] = data.draw(json_values)
            break
        place = place[key]
    for value in said(found).values():
        assert value is None or isinstance(value, bool | int | float | str)


async def test_a_disk_that_sleeps_is_not_asked_at_all_where_the_kernel_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await asyncio.to_thread(stand_in, tmp_path / "bin", {"sda": (0, ata()), "sdb": (ASLEEP, {})})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    recorded = host_with(tmp_path / "host", "sda", "sdb", "sdc", suspended=["sdc"])
    found = await smart.read(recorded.host, MetricsSettings())
    assert {name: one["asleep"] for name, one in found.items()} == {"sda": False, "sdb": True, "sdc": True}
    asked = log.read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["/dev/sda", "/dev/sdb"]
    assert all("--nocheck=standby" in line for line in asked), "it asks for the power mode before anything else"


def test_a_disk_whose_name_has_a_slash_is_asked_by_that(tmp_path: Path) -> None:
    """Under /sys/block it is an exclamation mark; under /dev, and for filters, it is none."""
    recorded = host_with(tmp_path, "cciss!c0d0", "sda")
    assert smart.disks(recorded.host, MetricsSettings()) == ["cciss/c0d0", "sda"]
    assert smart.disks(recorded.host, MetricsSettings(disks_include=["cciss/*"])) == ["cciss/c0d0"]


async def test_the_real_smartctl_takes_what_it_is_given(tmp_path: Path) -> None:
    neighbour.program("smartctl", "apt install smartmontools")
    found = await smart.ask(Recorded(tmp_path).host, "null")
    assert found == {"cause": "/dev/null: Unable to detect device type"}


class Half(Unprivileged):
    """The root half, which answers with what each call finds in `disks`; None: it is not there."""

    def __init__(self, *answers: Mapping[str, smart.Said] | None) -> None:
        self._answers = list(answers)

    async def call(self, verb: str, **_: object) -> Answer:
        assert verb == smart.VERB
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if found is None:
            raise PrivilegedUnavailable(cause="it is away")
        return {"installed": True, "disks": {name: dict(one) for name, one in found.items()}}


@asynccontextmanager
async def asked(
    directory: Path, *answers: Mapping[str, smart.Said] | None
) -> AsyncIterator[tuple[DiskHealth, MovableClock, list[Finding]]]:
    """Give the agent's side, which has asked once; and what its check has heard."""
    clock, heard = MovableClock(), list[Finding]()
    names = {name for answer in answers for name in answer or ()}
    host = host_with(directory, *names).host
    health = DiskHealth(host, MetricsSettings(), clock, Half(*answers), lambda _, finding: heard.append(finding))
    task = asyncio.create_task(health.run())
    try:
        await until(lambda: heard and clock.sleepers, "it has asked, and waits")
        yield health, clock, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def again(clock: MovableClock, heard: Sequence[Finding], seconds: float = 6 * 3600) -> Finding:
    before = len(heard)
    await clock.advance(seconds)
    await until(lambda: len(heard) > before and clock.sleepers, "the next answer")
    return heard[-1]


def rows(health: DiskHealth) -> Sequence[Values]:
    return [reading.values for reading in health.collect().get("smart", ()) if reading.news]


async def test_all_well_is_said_in_one_line_and_is_a_row_each(tmp_path: Path) -> None:
    answer = {"nvme0n1": said(nvme()), "sda": said(ata()), "sdb": {"asleep": True}, "vda": said(silent())}
    async with asked(tmp_path, answer) as (health, _, heard):
        assert heard == [Finding.ok("disks: 2 well, 1 asleep, and left so, 1 that cannot be asked")]
        found = {str(row["device"]): row for row in rows(health)}
        assert set(found) == {"nvme0n1", "sda", "sdb"}
        assert found["sdb"]["asleep"] is True
        assert found["sdb"]["celsius"] is None
        assert rows(health) == [], "each answer is a row once"


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (ata(passed=False), State.FAILED, "sda (A Disk 14TB) says that it fails"),
        (nvme(critical_warning=5), State.FAILED, "says that it fails, little spare is left and it is unreliable"),
        (ata(attribute(197, "Current_Pending_Sector", 2)), State.DEGRADED, "2 sectors cannot be read"),
        (nvme(media_errors=1), State.DEGRADED, "1 errors that it could not correct"),
        (nvme(percentage_used=104), State.DEGRADED, "104 % of what it was made for is used up"),
    ],
)
async def test_a_disk_that_is_not_well_is_named_with_what_to_do(
    tmp_path: Path, found: Mapping[str, Any], state: State, words: str
) -> None:
    async with asked(tmp_path, {"sda": said(found), "sdb": said(ata())}) as (_, _, [finding]):
        assert finding.state is state
        assert words in finding.detail
        assert "smartctl -x /dev/sda" in finding.repair
        assert "sdb" not in finding.detail


async def test_each_disk_that_is_not_well_is_told_apart_by_a_key_that_stays(tmp_path: Path) -> None:
    worn, failing = said(nvme(percentage_used=104)), said(ata(passed=False))
    answers = ({"sda": failing, "sdb": said(ata())}, {"sda": failing, "sdb": worn}, {"sda": failing, "sdb": failing})
    async with asked(tmp_path, *answers) as (_, clock, heard):
        first, second, third = heard[0], await again(clock, heard), await again(clock, heard)
    assert first.about == {"sda", "sda fails"}, "without udev that is its key"
    assert second.about == {*first.about, "sdb"}
    assert third.about == {*second.about, "sdb fails"}


async def test_of_two_answers_between_two_samples_the_later_one_is_a_row(tmp_path: Path) -> None:
    """Both would be rows of one disk and one time, and PostgreSQL would refuse the second."""
    new, worn = said(nvme(percentage_used=1)), said(nvme(percentage_used=7))
    async with asked(tmp_path, {"sda": new, "sdb": new}, {"sda": worn}) as (health, clock, heard):
        await again(clock, heard)
        assert [(row["device"], row["wear_pct"]) for row in rows(health)] == [("sda", 7)], "sdb was taken out"
        [stands] = health.collect()["smart"]
        assert (stands.values["device"], stands.news) == ("sda", False)


async def test_a_failing_disk_that_falls_asleep_still_fails(tmp_path: Path) -> None:
    failing = {"sda": said(ata(passed=False))}
    async with asked(tmp_path, failing, {"sda": {"asleep": True}}, {}) as (_, clock, heard):
        assert (await again(clock, heard)).state is State.FAILED
        assert (await again(clock, heard)).state is State.NOT_AVAILABLE, "it was taken out"


async def test_a_machine_without_such_disks_is_told_so_and_has_no_such_family(tmp_path: Path) -> None:
    async with asked(tmp_path, {"vda": said(silent())}) as (health, _, [finding]):
        assert finding == Finding(State.NOT_AVAILABLE, "no disk here says how it is")
        with pytest.raises(NotAvailable):
            health.collect()


async def test_a_half_that_is_away_is_asked_again_soon(tmp_path: Path) -> None:
    async with asked(tmp_path, None, {"sda": said(ata())}) as (_, clock, heard):
        assert heard[0].state is State.DEGRADED
        assert (await again(clock, heard, 300)).state is State.OK
