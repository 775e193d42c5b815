"""Following a run over real sockets: what it prints, line by line, and how it stands; left and come back to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.jobs import Job, Outcome, Run
from homelab_agent.core.jobs.output import LINES_MAX, PART_BYTES
from homelab_agent.core.jobs.runner import WATCHED_RUNS
from tests.website import Site, serving

EVENT_MAX = 8 * PART_BYTES
"""Bytes of one event as JSON, in which a character may take six."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event, as it came."""

    name: str
    id: str
    data: Any


class Talk:
    """A job that prints `before`, waits until it may go on, and prints `after`."""

    def __init__(self) -> None:
        self.before: Sequence[str] = ()
        self.after: Sequence[str] = ()
        self.go_on = asyncio.Event()

    async def __call__(self, run: Run) -> Outcome:
        for line in self.before:
            run.say(line)
        await self.go_on.wait()
        for line in self.after:
            run.say(line)
        return Outcome(ok=True, detail="talked")


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
async def site(tmp_path: Path, talk: Talk) -> AsyncIterator[Site]:
    async with serving(tmp_path, [Capability(name="talk", jobs=[Job("talk", talk, deadline=30)])]) as site:
        yield site


async def begun(site: Site) -> str:
    run_id: str = (await site.local("POST", "/api/jobs/talk/run"))["run"]
    return run_id


async def told(reader: asyncio.StreamReader) -> Told:
    """Read the next event."""
    async with asyncio.timeout(10):
        while True:
            block = (await reader.readuntil(b"\n\n")).decode()
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                return Told(fields["event"], fields["id"], json.loads(fields["data"]))


async def follow(site: Site, run_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin to follow a run; without chunks, which HTTP/1.0 has not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=EVENT_MAX)
    writer.write(f"GET /api/runs/{run_id}/events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return reader, writer


async def rest(site: Site, run_id: str, last: str = "") -> list[Told]:
    """Return all events to the last, the record of the run's end; those after the one with the id `last`."""
    headers = {"Last-Event-ID": last} if last else {}
    answer = await asyncio.wait_for(site.ask("GET", f"/api/runs/{run_id}/events", headers=headers), 10)
    reader = asyncio.StreamReader(EVENT_MAX)
    reader.feed_data(answer.body)
    reader.feed_eof()
    events = []
    while not reader.at_eof():
        try:
            events.append(await told(reader))
        except asyncio.IncompleteReadError:
            break
    assert events[-1].name == "run"
    assert [event.name == "run" and event.data["ended_at"] is not None for event in events].index(True) == len(
        events
    ) - 1
    return events


def lines(events: Sequence[Told]) -> list[str]:
    """Return the lines of output."""
    return [line for event in events if event.name == "output" for line in event.data["lines"]]


async def test_what_a_run_prints_comes_while_it_runs_and_the_rest_to_who_comes_back(site: Site, talk: Talk) -> None:
    talk.before, talk.after = ["one", "two ☃", ""], ["three", "four"]
    run_id = await begun(site)
    reader, writer = await follow(site, run_id)
    seen = [await told(reader)]
    while len(lines(seen)) < 3:
        seen.append(await told(reader))
    assert lines(seen) == ["one", "two ☃", ""]
    writer.close()
    talk.go_on.set()
    events = await rest(site, run_id, seen[-1].id)
    assert lines(events) == ["three", "four"]
    assert (events[-1].data["state"], events[-1].data["detail"]) == ("ok", "talked")
    again = await site.ask("GET", f"/api/runs/{run_id}/events", headers={"Last-Event-ID": events[-1].id})
    assert again.status == 204
    last_line = next(event for event in reversed(events) if event.name == "output")
    assert [event.name for event in await rest(site, run_id, last_line.id)] == ["run"]


async def test_who_comes_late_is_told_what_is_kept(site: Site, talk: Talk) -> None:
    talk.before = [f"line {number}" for number in range(LINES_MAX + 7)]
    run_id = await begun(site)
    reader, writer = await follow(site, run_id)
    early = [await told(reader)]
    talk.go_on.set()
    while early[-1].name != "run" or not early[-1].data["ended_at"]:
        early.append(await told(reader))
    writer.close()
    expected = ["... 7 lines were dropped", *talk.before[7:]]
    assert lines(early) == expected
    assert lines(await rest(site, run_id)) == expected


async def test_many_follow_and_each_is_told_everything(site: Site, talk: Talk) -> None:
    talk.before, talk.after = ["one", "two"], ["three"]
    run_id = await begun(site)
    following = [asyncio.ensure_future(rest(site, run_id)) for _ in range(10)]
    await site.until_connections(10)
    talk.go_on.set()
    for events in await asyncio.gather(*following):
        assert lines(events) == ["one", "two", "three"]


async def test_of_the_last_runs_that_printed_something_it_is_kept(site: Site, talk: Talk) -> None:
    talk.go_on.set()
    runs = []
    for number in range(WATCHED_RUNS + 1):
        talk.after = [f"run {number}"]
        runs.append(await begun(site))
        assert lines(await rest(site, runs[-1])) == [f"run {number}"]
        talk.after = []
        assert lines(await rest(site, await begun(site))) == []
    assert [len(lines(await rest(site, run_id))) for run_id in runs] == [0] + [1] * WATCHED_RUNS
    assert (await rest(site, runs[0]))[-1].data["state"] == "ok"


async def test_an_id_that_is_none_of_ours_is_as_good_as_none(site: Site, talk: Talk) -> None:
    talk.after = ["one"]
    talk.go_on.set()
    run_id = await begun(site)
    for last in ("x", ".", "x.y", "x.-1", "x." + "9" * 400, "x.²", "0123456789abcdef"):
        assert lines(await rest(site, run_id, last)) == ["one"], last
