"""What a run prints: kept within bounds, told in order; what a bound has cost is told as well."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.http import Event
from homelab_agent.core.jobs import RunRecord
from homelab_agent.core.jobs.output import BYTES_MAX, LINES_MAX, PART_BYTES, Output, Part, Watched
from homelab_agent.web import live
from homelab_agent.web.live import Seen

RECORD = RunRecord(
    "01900000-0000-7000-8000-000000000000", "sync", "command", "running", datetime(2026, 1, 1, tzinfo=UTC)
)
ENDED = RunRecord(RECORD.id, "sync", "command", "ok", RECORD.requested_at, "all done", ended_at=RECORD.requested_at)
DROPPED = re.compile(r"\.\.\. (\d+) lines? w(?:as|ere) dropped")


class Follower:
    """Reads an output from the first line on: `lines` is all that it was told, `missed` how many it was not."""

    def __init__(self) -> None:
        self.lines: list[str | None] = []
        self.seen = 0

    def read(self, output: Output) -> Part:
        part = output.after(self.seen)
        for line in part.lines:
            if dropped := DROPPED.fullmatch(line):
                self.lines += [None] * int(dropped[1])
            else:
                self.lines.append(line)
        assert part.upto == len(self.lines)
        self.seen = part.upto
        return part


@given(
    st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=80),
    st.integers(1, 20),
    st.integers(1, 100),
)
def test_a_follower_is_told_every_line_in_order_or_that_it_was_dropped(
    said: list[str | None], lines_max: int, bytes_max: int
) -> None:
    output, follower, printed = Output(lines_max=lines_max, bytes_max=bytes_max), Follower(), list[str]()
    for line in said:
        if line is None:
            follower.read(output)
            continue
        output.add(line)
        printed.append(line)
        kept = output.after(len(printed) - 1).lines
        assert kept == (line,) or len(line.encode()) > bytes_max
    while follower.seen < output.printed:
        follower.read(output)
    assert follower.read(output) == Part((), len(printed))
    assert [mine for mine, line in zip(follower.lines, printed, strict=True) if mine not in {None, line}] == []
    late = Follower()
    late.read(output)
    kept_lines = [line for line in late.lines if line is not None]
    assert len(kept_lines) <= lines_max
    assert sum(len(line.encode()) for line in kept_lines) <= bytes_max
    assert kept_lines == printed[len(printed) - len(kept_lines) :], "the last are kept"


@given(st.lists(st.text("aé☃", max_size=12), max_size=60), st.integers(0, 70))
def test_within_the_bounds_nothing_is_dropped_whoever_comes_when(printed: list[str], seen: int) -> None:
    output = Output()
    for line in printed:
        output.add(line)
    assert output.after(seen) == Part(tuple(printed[seen:]), max(seen, len(printed)))


@pytest.mark.parametrize("length", [0, 100, PART_BYTES, PART_BYTES + 1])
def test_what_is_given_at_once_is_bounded_and_always_something(length: int) -> None:
    output, follower = Output(), Follower()
    for _ in range(30):
        output.add("x" * length)
    while follower.seen < output.printed:
        part = follower.read(output)
        lines = [line for line in part.lines if not DROPPED.fullmatch(line)]
        assert lines
        assert len(lines) == 1 or sum(map(len, lines)) <= PART_BYTES
    assert None not in follower.lines[-(BYTES_MAX // max(length, 1)) :]


def test_what_no_encoding_takes_is_no_reason_to_stop() -> None:
    output = Output()
    output.add("copied \udce9.txt")
    assert output.after(0).lines == ("copied ?.txt",)


@given(
    st.text() | st.builds(str, st.builds(Seen, st.from_regex("[0-9a-f]{16}", fullmatch=True), st.integers(0, 10**9)))
)
def test_whatever_comes_back_as_an_id_is_understood(event_id: str) -> None:
    seen = Seen.of(event_id)
    assert seen.lines >= 0
    assert Seen.of(str(seen)) == seen


async def next_of(events: object) -> Event:
    async with asyncio.timeout(5):
        return await anext(events)  # type: ignore[call-overload, no-any-return]


async def test_who_is_slow_is_told_what_it_missed_and_keeps_nobody_waiting() -> None:
    watched = Watched(RECORD)
    following = live.run(watched, Seen())
    assert (await next_of(following)).data == RECORD
    for number in range(LINES_MAX + 5):
        watched.say(str(number))
    watched.record = ENDED
    told = [event async for event in following]
    assert [event.name for event in told] == ["output"] * (len(told) - 1) + ["run"]
    lines = [line for event in told[:-1] for line in event.data["lines"]]  # type: ignore[index]
    assert lines == ["... 5 lines were dropped", *map(str, range(5, LINES_MAX + 5))]


async def test_all_output_comes_before_the_record_of_the_end_and_an_id_resumes_both() -> None:
    watched = Watched(RECORD)
    following = live.run(watched, Seen())
    first = await next_of(following)
    watched.say("one")
    one = await next_of(following)
    assert one.data == {"lines": ("one",)}
    watched.say("two")
    watched.record = ENDED
    watched.news.publish(None)
    rest = [event async for event in following]
    assert [event.data for event in rest] == [{"lines": ("two",)}, ENDED]
    for seen, left in ((Seen(), 2), (Seen.of(first.id), 2), (Seen.of(one.id), 2), (Seen.of(rest[0].id), 1)):
        assert len([event async for event in live.run(watched, seen)]) == left
        assert not seen.is_all_of(watched)
    assert Seen.of(rest[-1].id).is_all_of(watched)
    assert Seen.of(rest[-1].id).is_all_of(Watched(ENDED)), "also when what it printed is forgotten"
