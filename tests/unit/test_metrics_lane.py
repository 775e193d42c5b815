"""A lane: calls that hang are left alone, the others go on."""

from __future__ import annotations

import asyncio
import threading
import time

from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.lane import Call, Lane
from homelab_agent.metrics.sample import Status
from tests.clock import until


def fail() -> int:
    raise OSError(5, "the disk is broken")


def lack() -> int:
    raise NotAvailable(what="such thing")


async def test_every_call_has_its_outcome_and_the_loop_is_free_meanwhile() -> None:
    lane: Lane[int] = Lane("test")
    begun, release = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        return int(release.wait())

    calls = {"one": Call(lambda: 1, 5), "broken": Call(fail, 5), "lacking": Call(lack, 5), "slow": Call(slow, 5)}
    gathering = asyncio.create_task(lane.gather(calls))
    await asyncio.to_thread(begun.wait)
    await asyncio.sleep(0.05)
    assert not gathering.done()
    release.set()
    found = await gathering
    assert [found[name].status for name in calls] == [
        Status.OK,
        Status.FAILED,
        Status.NOT_AVAILABLE,
        Status.OK,
    ]
    assert (found["one"].value, found["broken"].cause) == (1, "[Errno 5] the disk is broken")
    assert found["slow"].ms >= 45
    lane.close()


async def test_a_call_that_hangs_is_late_then_stuck_then_asked_again() -> None:
    lane: Lane[int] = Lane("test")
    release, asked = threading.Event(), []

    def hang() -> int:
        asked.append(time.monotonic())
        release.wait()
        return 7

    calls = {"hangs": Call(hang, 0.1), "after": Call(lambda: 2, 0.1)}
    first = await lane.gather(calls)
    assert (first["hangs"].status, first["after"].value) == (Status.TIMEOUT, 2)
    second = await lane.gather(calls)
    assert (second["hangs"].status, second["after"].value) == (Status.STUCK, 2)
    assert second["hangs"].ms >= 100
    assert len(asked) == 1
    release.set()
    await until(lambda: "hangs" not in lane._stuck, "the call to return")
    third = await lane.gather(calls)
    assert third["hangs"].value == 7
    assert len(asked) == 2
    lane.close()


async def test_several_that_hang_take_one_deadline_each_and_leave_one_thread_working() -> None:
    lane: Lane[int] = Lane("test of many")
    release = threading.Event()
    calls = {f"hangs {n}": Call(lambda: int(release.wait()), 0.05) for n in range(3)} | {"good": Call(lambda: 1, 0.05)}
    found = await lane.gather(calls)
    assert [outcome.status for outcome in found.values()].count(Status.TIMEOUT) == 3
    assert found["good"].value == 1
    release.set()
    lane.close()
    await until(lambda: not [one for one in threading.enumerate() if one.name == "test of many"], "its threads to end")
