"""A chart's drawing says what was measured, no more and no less."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.capability import Chart, Series
from homelab_agent.web.page import chart, words
from tests.overviews import NOW, points

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUES = st.none() | st.floats(0, 1e15) | st.sampled_from([float("nan"), float("inf"), -1.0])


def drawn(*series: Sequence[tuple[datetime, float | None]], unit: str = "percent") -> chart.Drawing:
    return chart.draw(
        Chart("CPU", unit, [Series(f"s{number}", each) for number, each in enumerate(series)], "23 %"),
        now=NOW,
    )


def subpaths(path: str) -> list[list[tuple[float, float]]]:
    return [[(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", part)] for part in path.split("M")[1:]]


def test_a_missing_value_breaks_the_line() -> None:
    line = drawn(points(lambda n: None if 100 <= n < 140 else 50.0)).lines[0]
    left, right = subpaths(line.path)
    assert left[-1][0] < right[0][0] - 100
    assert line.area.count("z") == 2


def test_time_left_out_breaks_the_line_without_anybody_writing_none() -> None:
    asleep = [point for point in points(lambda _: 50.0) if not 600 < (NOW - point[0]).total_seconds() < 1200]
    assert len(subpaths(drawn(asleep).lines[0].path)) == 2


def test_one_late_sample_does_not_break_the_line() -> None:
    late = points(lambda _: 50.0)
    del late[180:182]
    assert len(subpaths(drawn(late).lines[0].path)) == 1


def test_a_value_alone_between_gaps_is_drawn_as_a_dot() -> None:
    assert drawn(points(lambda n: 50.0 if n == 200 else None)).lines[0].path.endswith("h0")


def test_a_peak_of_one_sample_reaches_its_height() -> None:
    ys = [y for _, y in subpaths(drawn(points(lambda n: 100.0 if n == 123 else 5.0)).lines[0].path)[0]]
    assert min(ys) == 0.0
    assert max(ys) == 95.0


def test_at_most_180_points_are_drawn_of_any_number() -> None:
    for count in (360, 3600):
        many = [(NOW - timedelta(hours=1) * (1 - n / count), float(n % 97)) for n in range(count + 1)]
        assert sum(len(part) for part in subpaths(drawn(many).lines[0].path)) <= chart.MAX_POINTS + 4


def test_the_line_moves_without_a_shimmer() -> None:
    start = int(NOW.timestamp()) // 40 * 40
    run = [(start + 10.0 * n, float(n * 31 % 17)) for n in range(360)]
    assert set(chart.thin(run)[2:]) == set(chart.thin(run[4:]))


def test_what_is_older_than_an_hour_or_yet_to_come_is_not_drawn() -> None:
    places = subpaths(drawn(points(lambda _: 50.0, 1000, end=NOW + timedelta(minutes=30))).lines[0].path)
    assert all(0 <= x <= chart.WIDTH for part in places for x, _ in part)


def test_the_first_minute_has_no_line_and_says_so() -> None:
    for drawing in (drawn([]), drawn(points(lambda _: None, 6)), drawn()):
        assert drawing.is_empty
        assert drawing.description == "No values yet."
        assert all(line.path == "" and line.end is None for line in drawing.lines)


def test_a_drawing_is_described_in_words() -> None:
    one = drawn(points(lambda n: None if n == 50 else 3 + n / 10))
    assert one.description == (
        "Now 23 %. In the last hour between 3 % and 39 %. Some values are missing in between."
    ).replace(" %", f"{words.NO_BREAK}%").replace(f"23{words.NO_BREAK}%", "23 %")
    two = drawn(points(lambda _: 2048.0), points(lambda _: None), unit="bytes_per_second")
    assert "S0: in the last hour between 2\N{NO-BREAK SPACE}KiB/s and" in two.description
    assert two.description.endswith("s1: no values yet.")


@given(st.lists(st.lists(VALUES, max_size=60), max_size=3), st.sampled_from(["percent", "bytes", "celsius"]))
def test_whatever_was_measured_stays_within_the_plot(series: list[list[float | None]], unit: str) -> None:
    drawing = drawn(*(points(values.__getitem__, len(values)) for values in series), unit=unit)
    for line in drawing.lines:
        for x, y in (place for part in subpaths(line.path + line.area) for place in part):
            assert 0 <= x <= chart.WIDTH
            assert 0 <= y <= chart.HEIGHT
    assert [level.y for level in drawing.levels] == [0.0, 50.0, 100.0]


@given(st.floats(0.001, 1e15))
def test_a_rate_s_axis_ends_at_a_round_number_above_it(rate: float) -> None:
    scale = chart.fit("bytes_per_second", [rate], None)
    assert rate <= scale.high <= max(2 * rate, 16384)
    assert "." not in words.amount(scale.high, "bytes_per_second")


def test_a_given_maximum_is_the_end_of_the_axis() -> None:
    assert chart.fit("bytes", [1.0], 8e9).high == 8e9
    assert chart.fit("percent", [340.0], None).high == 340


def test_a_temperature_s_axis_need_not_begin_at_zero() -> None:
    assert chart.fit("celsius", [41.0, 48.5], None) == chart.Scale(40, 60)
    assert chart.fit("celsius", [-12.0, 3.0], None) == chart.Scale(-20, 10)


def test_an_unknown_unit_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="furlong"):
        drawn([], unit="furlong")
    with pytest.raises(ValueError, match="furlong"):
        words.amount(1, "furlong")


def test_ticks_are_quarters_of_the_local_hour() -> None:
    labels = [tick.label for tick in chart.ticks(NOW, ZoneInfo("Asia/Kathmandu"))]  # 5 h 45 min ahead
    assert labels == ["19:15", "19:30", "19:45", "20:00"]
    assert [tick.label for tick in chart.ticks(NOW, UTC)] == ["13:30", "13:45", "14:00", "14:15"]


def test_ticks_read_right_when_the_clocks_go_back() -> None:
    autumn = datetime(2026, 10, 25, 1, 20, tzinfo=UTC)  # 02:20 for the second time
    labels = [tick.label for tick in chart.ticks(autumn, ZoneInfo("Europe/Berlin"))]
    assert labels == ["02:30", "02:45", "02:00", "02:15"]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0, "percent", "0 %"),
        (-0.04, "celsius", "0 °C"),
        (3.14159, "percent", "3.1 %"),
        (9.96, "percent", "10 %"),
        (99.7, "percent", "100 %"),
        (0, "bytes", "0 B"),
        (999, "bytes", "999 B"),
        (1000, "bytes", "1 KiB"),
        (8.2e9, "bytes", "7.6 GiB"),
        (1536, "bytes_per_second", "1.5 KiB/s"),
        (3e30, "bytes", "2602085213965 EiB"),
        (-17.6, "celsius", "-18 °C"),
    ],
)
def test_amounts_read_well(value: float, unit: str, said: str) -> None:
    assert words.amount(value, unit).replace(words.NO_BREAK, " ") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0.3, "0.3 s"),
        (0.97, "1 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (734, "12 min"),
        (3599, "1 h"),
        (4000, "1 h 7 min"),
        (86399, "1 d"),
        (12.2 * 86400, "12 d 5 h"),
    ],
)
def test_lengths_of_time_read_well(seconds: float, said: str) -> None:
    assert words.duration(seconds).replace(words.NO_BREAK, " ") == said


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(), "15:23"),
        (timedelta(hours=-14), "01:23"),
        (timedelta(hours=-16), "yesterday 23:23"),
        (timedelta(hours=13), "tomorrow 04:23"),
        (timedelta(days=-3), "21 Nov 15:23"),
        (timedelta(days=40), "3 Jan 2027 15:23"),
    ],
)
def test_a_moment_has_as_much_date_as_it_needs(ahead: timedelta, said: str) -> None:
    read = words.moment(NOW + ahead, NOW, ZoneInfo("Europe/Berlin"))
    assert read.replace(words.NO_BREAK, " ") == said


def test_a_repair_is_a_command_unless_it_reads_like_a_sentence() -> None:
    assert words.repair("sudo systemctl start x") == [words.Piece("sudo systemctl start x", is_code=True)]
    assert words.repair("database.url") == [words.Piece("database.url", is_code=True)]
    assert words.repair("HOMELAB_AGENT__WEB__LISTEN=x") == [words.Piece("HOMELAB_AGENT__WEB__LISTEN=x", is_code=True)]
    assert words.repair("Free some space.") == [words.Piece("Free some space.", is_code=False)]
    assert words.repair("Run `a b`, then `c`.") == [
        words.Piece("Run ", is_code=False),
        words.Piece("a b", is_code=True),
        words.Piece(", then ", is_code=False),
        words.Piece("c", is_code=True),
        words.Piece(".", is_code=False),
    ]
    assert words.repair("") == []
