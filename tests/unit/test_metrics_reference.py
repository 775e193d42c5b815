"""What a payload of the time before says, and what becomes of rows of it, whatever stands in them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.spool import Row
from homelab_agent.metrics import reference
from homelab_agent.metrics.entity import Entity, identify
from homelab_agent.metrics.lines import Known, Lines
from homelab_agent.metrics.retelling import Record, Retelling
from homelab_agent.metrics.traffic import Traffic

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DISK = {"total": 1000, "used": 400, "free": 500, "used_percent": 44.4}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
keys = st.sampled_from(
    ("usage", "package_temp", "core_temps", "core_1", "total", "available", "used", "free", "used_percent")
) | st.sampled_from(("rx_bytes", "tx_bytes", "/", "total_mb"))
payloads = anything | st.recursive(
    anything, lambda inner: st.dictionaries(keys | st.text(max_size=3), inner, max_size=5), max_leaves=15
)
kinds = st.sampled_from(["cpu", "memory", "disk", "network", "gpu", ""])


def said(kind: str, payload: object) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one.family, one.label): dict(one.values) for one in reference.read(kind, json.dumps(payload)).said}


def test_each_kind_of_payload_becomes_rows_of_our_families() -> None:
    cpu = {"usage": 12.5, "package_temp": 51, "core_temps": {"core_0": 49.5, "core_10": 48}}
    assert said("cpu", cpu) == {
        ("cpu", ""): {"busy_pct": 12.5},
        ("temperature", "coretemp Package id 0"): {"celsius": 51.0},
        ("temperature", "coretemp Core 0"): {"celsius": 49.5},
        ("temperature", "coretemp Core 10"): {"celsius": 48.0},
    }
    assert said("memory", {"total": 8e9, "available": 3, "used": 5, "used_percent": 62.5}) == {
        ("memory", ""): {"total_bytes": 8_000_000_000, "available_bytes": 3, "used_bytes": 5, "used_pct": 62.5}
    }
    assert said("disk", {"/srv": DISK}) == {
        ("filesystem", "/srv"): {
            "size_bytes": 1000,
            "used_bytes": 400,
            "available_bytes": 500,
            "used_pct": 44.4,
            "free_bytes": 600,
        }
    }
    assert said("network", {"eth0": {"rx_bytes": 1, "tx_bytes": None}}) == {
        ("network", "eth0"): {"rx_bytes": 1, "tx_bytes": None}
    }


@pytest.mark.parametrize(
    ("kind", "payload", "fault"),
    [
        ("gpu", {}, "metric_type 'gpu' is none of cpu, memory, disk, network"),
        ("cpu", [1], "cpu: the payload is no object"),
        ("cpu", {"package_temp": 40}, "cpu: usage is missing"),
        ("cpu", {"usage": "12"}, "cpu: usage is no number"),
        ("cpu", {"usage": True}, "cpu: usage is no number"),
        ("cpu", {"usage": math.nan}, "cpu: usage is not finite"),
        ("cpu", {"usage": 1e999}, "cpu: usage is not finite"),
        ("cpu", {"usage": 101}, "cpu: usage is not between 0 and 100 per cent"),
        ("cpu", {"usage": 1, "package_temp": 51_000}, "cpu: package_temp is no temperature in degrees Celsius"),
        ("cpu", {"usage": 1, "core_temps": [40]}, "cpu: core_temps is no object"),
        (
            "memory",
            {"total": 16.5, "available": 1, "used": 1, "used_percent": 1},
            "memory: total is no whole number of bytes",
        ),
        ("memory", {"total": -1}, "memory: total is below 0, or more bytes than there are"),
        ("disk", {}, "disk: the payload says nothing"),
        ("disk", {"/": 12}, "disk: what stands under a name is no object"),
        ("disk", {"": DISK}, "disk: a name is empty, no text, or longer than 1000 letters"),
        ("network", {"eth0": {"rx_bytes": 1}}, "network: tx_bytes is missing"),
        (
            "network",
            {"eth0": {"rx_bytes": 2**63, "tx_bytes": 0}},
            "network: rx_bytes is below 0, or more bytes than there are",
        ),
    ],
)
def test_what_cannot_be_read_is_said_by_its_cause(kind: str, payload: object, fault: str) -> None:
    assert fault in reference.read(kind, json.dumps(payload)).faults


@pytest.mark.parametrize("payload", [None, "", "{", "NaN", "1" * 5000, "[" * 100_000])
def test_a_payload_that_is_no_json_is_a_fault_of_its_row(payload: str | None) -> None:
    found = reference.read("memory", payload)
    assert found.faults
    assert not found.said


def test_keys_without_a_column_are_named() -> None:
    found = reference.read("disk", json.dumps({"/": {**DISK, "inodes": 7}}))
    assert (len(found.said), found.strange, found.faults) == (1, ["disk.*: 'inodes'"], [])
    assert reference.read("cpu", json.dumps({"usage": 1, "core_temps": {"die": 4}})).strange == [
        "cpu: core_temps.'die'"
    ]


@given(kinds, payloads)
def test_whatever_stands_in_a_payload_what_is_taken_fits_its_column(kind: str, payload: object) -> None:
    found = reference.read(kind, json.dumps(payload))
    assert found.said or found.faults or found.strange
    for one in found.said:
        one.label.encode()
        for column, value in one.values.items():
            if value is None:
                continue
            if column.endswith("_bytes"):
                assert isinstance(value, int)
                assert 0 <= value < 2**63
            else:
                assert isinstance(value, float)
                assert math.isfinite(value)


@given(kinds, st.text(max_size=30) | st.none())
def test_whatever_a_payload_is_it_is_answered(kind: str, payload: str | None) -> None:
    found = reference.read(kind, payload)
    assert found.said or found.faults


def record(
    kind: str, payload: object, *, after: float = 0, host: str | None = "old", os: str | None = "debian 12"
) -> Record:
    return Record(NOON + timedelta(seconds=after), host, kind, os, json.dumps(payload))


def told(retelling: Retelling, *records: Record) -> list[Row]:
    return [row for row in retelling.take(records) if row.table.endswith("_sample")]


def test_two_readings_of_one_second_are_a_millisecond_apart_and_the_same_reading_again_is_none() -> None:
    retelling = Retelling([], {})
    rows = told(
        retelling,
        record("cpu", {"usage": 2}),
        record("cpu", {"usage": 1}),
        record("cpu", {"usage": 1}),
        record("cpu", {"usage": 3}, after=0.001),
        record("memory", {"total": 1, "available": 1, "used": 0, "used_percent": 0}),
    )
    assert [(row.at - NOON, row.values["busy_pct"]) for row in rows if row.table == "cpu_sample"] == [
        (timedelta(milliseconds=number), float(number + 1)) for number in range(3)
    ]
    assert [row.at for row in rows if row.table == "memory_sample"] == [NOON]
    assert (retelling.tally.read, retelling.tally.taken, retelling.tally.repeated) == (5, 4, 1)


def test_a_row_without_a_host_or_of_an_unknown_kind_is_counted_and_shown() -> None:
    retelling = Retelling([], {})
    assert (
        told(
            retelling,
            record("cpu", {"usage": 1}, host=""),
            record("gpu", {"usage": 1}),
            record("cpu", {"usage": 1}, host=None),
        )
        == []
    )
    assert retelling.tally.not_understood == 3
    assert dict(retelling.tally.faults) == {
        "host is empty, or too long": 2,
        "metric_type 'gpu' is none of cpu, memory, disk, network": 1,
    }
    assert len(retelling.tally.examples) == 2


def test_the_system_becomes_a_fact_where_it_changes_and_hosts_have_their_new_names() -> None:
    retelling = Retelling([], {"old": "nas"})
    rows = retelling.take(
        [
            record("cpu", {"usage": 1}, after=at, os=os)
            for at, os in ((0, "debian 11"), (60, "debian 11"), (120, None), (180, "debian 12"))
        ]
    )
    facts = [row.values for row in rows if row.table == "fact"]
    assert [(one["host"], one["value"], one["was"]) for one in facts] == [
        ("nas", "debian 11", None),
        ("nas", "debian 12", "debian 11"),
    ]
    assert next(row.values["host"] for row in rows if row.table == "entity") == "nas"


def traffic(*readings: tuple[float, int]) -> list[float | None]:
    """Return how many bytes a second each of these readings (seconds, total) came to."""
    retelling = Retelling([], {})
    rows = told(
        retelling,
        *(record("network", {"eth0": {"rx_bytes": total, "tx_bytes": 0}}, after=at) for at, total in readings),
    )
    return [row.values["rx_bytes_per_s"] for row in rows]  # type: ignore[misc]


def test_rates_are_of_rows_one_after_the_other_and_unknown_after_a_reset_or_a_gap() -> None:
    assert traffic((0, 100), (60, 700), (120, 700)) == [None, 10.0, 0.0]
    assert traffic((0, 100), (60, 700), (120, 50), (180, 650)) == [None, 10.0, None, 10.0]
    assert traffic((0, 0), (60, 60), (120, 120), (1200, 9999), (1260, 10059)) == [None, 1.0, 1.0, None, 1.0]
    assert traffic((0, 0), (60, 60), (60, 70), (120, 130)) == [None, 1.0, None, 1.0]


def test_a_counter_that_fell_is_said_to_have_been_reset() -> None:
    found = Traffic()
    found.observe({"eth0": (5, 5)}, NOON)
    assert found.observe({"eth0": (5, 4), "wg0": (1, 1)}, NOON + timedelta(seconds=60))["eth0"].reset
    later = Traffic.of(json.loads(json.dumps(found.document())))
    assert later.observe({"eth0": (5, 64)}, NOON + timedelta(seconds=120))["eth0"].deltas == [0, 60]


readings = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.sampled_from(["old", "other"]),
        st.sampled_from(["debian 11", "debian 12"]),
        st.sampled_from(["cpu", "network"]),
        st.integers(0, 50),
    ),
    max_size=30,
)


@given(readings, st.lists(st.integers(0, 300), max_size=4))
def test_cut_short_anywhere_and_gone_on_with_the_rows_are_the_same(
    drawn: Sequence[tuple[int, str, str, str, int]], cuts: Sequence[int]
) -> None:
    records = [
        record(
            kind, {"usage": n} if kind == "cpu" else {"e0": {"rx_bytes": n, "tx_bytes": n}}, after=at, host=host, os=os
        )
        for at, host, os, kind, n in sorted(drawn)
    ]
    hosts = {"other": "old"} if len(drawn) % 2 else {}
    whole = Retelling([], hosts).take(records)
    state, parts = None, list[Row]()
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 301], strict=True):
        retelling = Retelling([], hosts, state)
        parts += retelling.take(one for one in records if begin <= (one.time - NOON).total_seconds() < end)
        state = json.loads(json.dumps(retelling.state()))
    assert [row for row in parts if row.table != "entity"] == [row for row in whole if row.table != "entity"]
    keys = [(row.table, row.values["entity_id"], row.at) for row in whole if row.table.endswith("_sample")]
    assert len(keys) == len(set(keys))


def known(family: str, key: str, label: str, host: str = "nas") -> Known:
    return Known(host, Entity(identify(host, family, key, label), family, key, label))


def test_a_line_goes_on_in_the_agents_where_there_is_one_of_that_name_and_no_other() -> None:
    disk, card = known("filesystem", "1234-abcd /srv", "/srv"), known("network", "02:00:00:00:00:01 eth0", "eth0")
    other = known("network", "02:00:00:00:00:02 eth0", "eth0")
    lines = Lines([disk, card, known("filesystem", "x /", "/", host="elsewhere")])
    assert lines.get("nas", "filesystem", "/srv") == disk.entity
    assert lines.get("nas", "network", "eth0") == card.entity
    assert lines.get("nas", "filesystem", "/").key == "/"
    assert Lines([card, other]).get("nas", "network", "eth0").key == "eth0"
    # Chosen once, it stays so, though there are two by now.
    assert Lines([disk, card, other], lines.chosen()).get("nas", "network", "eth0") == card.entity
    own = known("network", "eth0", "eth0")
    assert Lines([own, card]).get("nas", "network", "eth0") == own.entity


def test_the_host_as_a_whole_and_the_sensors_of_one_processor_are_the_agents_own() -> None:
    lines = Lines([])
    assert lines.get("nas", "cpu", "").id == identify("nas", "cpu", "total", "total")
    sensor = lines.get("nas", "temperature", "coretemp Core 3")
    assert sensor.id == identify("nas", "temperature", "coretemp platform/coretemp.0 Core 3", "coretemp Core 3")
    tctl = known("temperature", "k10temp pci0000:00/0000:00:18.3 Tctl", "k10temp Tctl")
    assert Lines([tctl]).get("nas", "temperature", reference.PACKAGE) == tctl.entity
