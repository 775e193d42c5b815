"""The thread in which OpenBao is asked: one call after the other, and none that hangs holds anybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from homelab_agent.secrets.lane import Closed, Lane
from tests import clock, threads


class Late(Exception):
    pass


class Made:
    """What the thread works with: it knows its thread."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()

    def use(self) -> Made:
        assert threading.current_thread() is self.thread
        return self


class Hang:
    """A call that comes back when the test lets it."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.released = threading.Event()

    def __call__(self, made: Made) -> str:
        made.use()
        self.began.set()
        self.released.wait()
        return "at last"


@pytest.fixture
def lane() -> Iterator[Lane[Made]]:
    lane = Lane("test.lane", Made, within=60, late=Late)
    yield lane
    lane.close()


@pytest.fixture
def hasty() -> Iterator[Lane[Made]]:
    """A lane that gives a call up at once, until it is made `patient`."""
    lane = Lane("test.lane", Made, within=0.05, late=Late)
    yield lane
    lane.close()


def patient(lane: Lane[Made]) -> None:
    """Let the calls that begin from now on take their time, on however busy a host."""
    lane._within = 60


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.released.set()


async def test_all_calls_are_made_in_one_thread_in_order(lane: Lane[Made]) -> None:
    order: list[int] = []

    def note(number: int, made: Made) -> Made:
        order.append(number)
        return made.use()

    found = await asyncio.gather(*(lane.run(partial(note, number)) for number in range(100)))
    assert order == list(range(100))
    assert {id(one) for one in found} == {id(lane.made)}


async def test_what_a_call_raises_is_raised_where_it_is_awaited(lane: Lane[Made]) -> None:
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lane.run_blocking, lambda _: 1 // 0)
    assert await lane.run(lambda _: "and on it goes") == "and on it goes"


async def test_a_call_that_hangs_is_given_up_and_the_next_gets_a_new_thread(hasty: Lane[Made], hang: Hang) -> None:
    stuck = asyncio.create_task(hasty.run(hang))
    await asyncio.to_thread(hang.began.wait)
    patient(hasty)
    before = hasty.made
    behind = asyncio.create_task(hasty.run(lambda made: made.use()))
    with pytest.raises(Late):
        await stuck
    assert await behind is not before
    hang.released.set()  # what the old thread still has to say is not listened to
    assert await hasty.run(lambda made: made.use()) is await behind


async def test_the_loop_turns_while_a_call_hangs(lane: Lane[Made], hang: Hang) -> None:
    stuck = asyncio.create_task(lane.run(hang))
    await asyncio.to_thread(hang.began.wait)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not stuck.done()
    hang.released.set()
    assert await stuck == "at last"


async def test_who_waits_in_a_thread_is_told_of_a_late_call_too(hasty: Lane[Made], hang: Hang) -> None:
    with pytest.raises(Late):
        await asyncio.to_thread(hasty.run_blocking, hang)
    patient(hasty)
    assert await asyncio.to_thread(hasty.run_blocking, lambda _: "and on it goes") == "and on it goes"


async def test_a_late_call_that_nobody_awaits_any_more_still_gives_way(hasty: Lane[Made], hang: Hang) -> None:
    stuck = asyncio.create_task(hasty.run(hang))
    await asyncio.to_thread(hang.began.wait)
    patient(hasty)
    stuck.cancel()
    with suppress(asyncio.CancelledError):
        await stuck
    assert await hasty.run(lambda made: made.use()) is hasty.made


async def test_who_is_cancelled_in_the_queue_is_not_called(lane: Lane[Made], hang: Hang) -> None:
    called: list[object] = []
    stuck = asyncio.create_task(lane.run(hang))
    await asyncio.to_thread(hang.began.wait)
    behind = asyncio.create_task(lane.run(called.append))
    await asyncio.sleep(0)
    behind.cancel()
    with suppress(asyncio.CancelledError):
        await behind
    hang.released.set()
    await stuck
    await lane.run(lambda made: made.use())
    assert called == []


async def test_closed_it_ends_its_thread_and_takes_no_more(lane: Lane[Made]) -> None:
    made = await lane.run(lambda made: made.use())
    lane.close()
    await clock.until(lambda: not made.thread.is_alive(), "the thread ends")
    assert lane.made is None
    with pytest.raises(Closed):
        await lane.run(lambda made: made)


async def test_what_cannot_be_made_fails_the_call_and_is_tried_again_by_the_next() -> None:
    failures = iter([OSError("no"), None])

    def make() -> Made:
        if (failure := next(failures)) is not None:
            raise failure
        return Made()

    lane = Lane("test.lane", make, within=60, late=Late)
    with pytest.raises(OSError, match="no"):
        await lane.run(lambda made: made)
    assert isinstance(await lane.run(lambda made: made), Made)
    lane.close()


async def test_where_the_host_has_no_thread_to_give_the_call_fails(
    lane: Lane[Made],
) -> None:
    called: list[object] = []
    with threads.no_more(), pytest.raises(RuntimeError, match="can't start new thread"):
        await lane.run(called.append)
    assert await lane.run(lambda made: made.use()) is lane.made
    assert called == []


async def test_who_waits_behind_a_late_call_learns_that_there_is_no_thread_to_go_on(
    hasty: Lane[Made], hang: Hang
) -> None:
    stuck = asyncio.create_task(hasty.run(hang))
    await asyncio.to_thread(hang.began.wait)
    patient(hasty)
    behind = asyncio.create_task(hasty.run(lambda made: made.use()))
    with threads.no_more():
        with pytest.raises(Late):
            await stuck
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await behind
    assert await hasty.run(lambda made: made.use()) is hasty.made
