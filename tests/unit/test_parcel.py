"""A parcel comes back from its bytes as it was, and one that is damaged says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.clock import moment
from homelab_agent.core.spool import Row, Scalar, parcel
from homelab_agent.core.spool.parcel import Packed, Parcel, ParcelDamaged

times = st.datetimes(
    min_value=datetime(1900, 1, 1),
    max_value=datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=3))]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
scalars: st.SearchStrategy[Scalar] = times | json_values


@st.composite
def rows(draw: st.DrawFn) -> Row:
    names = draw(st.lists(st.sampled_from(["id", "time", "a", "b", "c"]), min_size=1, unique=True))
    key = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    values = {name: draw(scalars) for name in names}
    return Row(draw(st.sampled_from(["cpu_sample", "job_run"])), tuple(key), values, draw(times))


@given(st.lists(rows(), max_size=8))
def test_rows_come_back_in_order_as_they_were(given_rows: list[Row]) -> None:
    back = parcel.decode(parcel.encode(given_rows))
    assert back == tuple(given_rows)
    assert [list(row.values) for row in back] == [list(row.values) for row in given_rows]
    for before, after in zip(given_rows, back, strict=True):
        assert after.at.tzinfo is UTC
        for one, other in zip(before.values.values(), after.values.values(), strict=True):
            assert type(other) is type(one)


def test_what_is_not_a_number_stays_not_a_number() -> None:
    row = Row("t", ("a",), {"a": float("nan"), "b": float("inf"), "c": -0.0}, datetime(2026, 1, 1, tzinfo=UTC))
    (back,) = parcel.decode(parcel.encode([row]))
    assert [str(value) for value in back.values.values()] == ["nan", "inf", "-0.0"]


@given(st.lists(rows(), min_size=1, max_size=3), st.data())
def test_a_damaged_parcel_says_so_and_never_comes_back_changed(given_rows: list[Row], data: st.DataObject) -> None:
    body = bytearray(parcel.encode(given_rows))
    position = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(ParcelDamaged):
        parcel.decode(bytes(body[:position]))
    body[position] ^= data.draw(st.integers(1, 255))
    try:
        back = parcel.decode(bytes(body))
    except ParcelDamaged:
        return
    assert back == tuple(given_rows)  # the bit carried nothing


def test_a_parcel_of_another_format_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("t", ("a",), {"a": 1}, datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(parcel, "FORMAT", 2)
    body = parcel.encode([row])
    monkeypatch.undo()
    with pytest.raises(ParcelDamaged, match="its format is 2, this release reads 1"):
        parcel.decode(body)


@pytest.mark.parametrize(
    ("key", "values"),
    [((), {"a": 1}), (("a", "b"), {"a": 1}), ((), {})],
    ids=["no key", "key not there", "empty"],
)
def test_a_row_without_a_value_for_its_key_cannot_be_made(key: tuple[str, ...], values: dict[str, Scalar]) -> None:
    with pytest.raises(ValueError, match="a value for each column of its key"):
        Row("t", key, values, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("unfit", [b"bytes", {1, 2}, datetime(2026, 1, 1)], ids=["bytes", "set", "no zone"])
def test_a_value_that_has_no_place_is_refused(unfit: Scalar) -> None:
    row = Row("t", ("a",), {"a": unfit}, datetime(2026, 1, 1, tzinfo=UTC))
    (outcome,) = parcel.pack_all([Parcel(1, promise=False, rows=(row,))])
    assert isinstance(outcome, TypeError)


def test_what_is_known_of_a_parcel_is_that_of_its_rows() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = tuple(Row("t", ("a",), {"a": n}, start + timedelta(seconds=n)) for n in (5, 1, 9))
    packed = parcel.pack(Parcel(7, promise=True, rows=made))
    assert (packed.waybill.id, packed.waybill.promise, packed.waybill.rows) == (7, True, 3)
    assert moment(packed.waybill.at) == start + timedelta(seconds=1)
    assert moment(packed.waybill.until) == start + timedelta(seconds=9)
    assert parcel.unpack(packed).rows == made
    assert isinstance(packed, Packed)


def test_a_sample_takes_little_room() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    counters = {f"read_{number}_bytes": number * 1000 for number in range(18)}
    sample = [
        Row("disk_sample", ("entity_id", "time"), {"entity_id": n, "time": at, **counters}, at) for n in range(15)
    ]
    assert len(parcel.encode(sample)) < 1500
