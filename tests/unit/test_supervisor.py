"""The supervisor: what falls is started again, what cannot stand is given up, and signals end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.capability import Task
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.health import Finding, Health, State
from homelab_agent.core.supervisor import Supervisor, restart
from tests.clock import MovableClock, until

ROOT = Path(__file__).parents[2]


class DiskGone(AgentError):
    """The disk is gone."""

    repair = "Plug it in."


async def nothing() -> None:
    pass


async def for_ever() -> None:
    await asyncio.Event().wait()


class House:
    """A supervisor with tasks that note what they do."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.health = Health(self.clock)
        self.supervisor = Supervisor(self.health, self.clock, shutdown_deadline=20.0)
        self.said: list[str] = []

    def task(self, name: str, *, critical: bool = False) -> Task:
        async def run() -> None:
            self.said.append(f"{name} starts")
            try:
                await for_ever()
            finally:
                self.said.append(f"{name} stops")

        return Task(name, run, critical=critical)

    @asynccontextmanager
    async def running(self, *tasks: Task) -> AsyncIterator[asyncio.Task[Exit]]:
        async def say(what: str) -> None:
            self.said.append(what)

        main = asyncio.create_task(self.supervisor.run(tasks, lambda: say("ready"), lambda: say("stopping")))
        await until(lambda: "ready" in self.said, "ready")
        yield main
        self.supervisor.stop()
        async with asyncio.timeout(5):
            await main

    def finding(self, task: str) -> Finding:
        return next(s.finding for s in self.health.picture() if s.check == f"task.{task}")


def failing(
    error: BaseException | None, times: int = 10**6
) -> tuple[Callable[[], Coroutine[None, None, None]], list[int]]:
    """Return a task that raises `error` (or returns, if None) so many times and then stays, and its starts."""
    starts: list[int] = []

    async def run() -> None:
        starts.append(len(starts))
        if len(starts) > times:
            await for_ever()
        if error is not None:
            raise error

    return run, starts


async def test_tasks_start_in_order_and_stop_in_reverse() -> None:
    house = House()
    async with house.running(house.task("a"), house.task("b"), house.task("c")) as main:
        pass
    assert house.said == [
        "a starts", "b starts", "c starts", "ready", "stopping", "c stops", "b stops", "a stops",
    ]  # fmt: skip
    assert main.result() is Exit.OK


@pytest.mark.parametrize("error", [DiskGone(), ValueError("bad"), asyncio.CancelledError(), None])
async def test_a_task_that_ends_in_whatever_way_is_started_again(error: BaseException | None) -> None:
    house = House()
    run, starts = failing(error, times=2)
    async with house.running(Task("sampler", run)):
        await house.clock.advance(10)
        assert len(starts) == 3
        assert house.finding("sampler").state is State.DEGRADED
        await house.clock.advance(restart.STABLE_SECONDS)
        assert house.finding("sampler") == Finding.ok("running")


async def test_a_task_whose_group_failed_or_ran_out_of_time_was_not_told_to_stop() -> None:
    house = House()
    starts: list[str] = []

    async def run() -> None:
        starts.append("")
        if len(starts) == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing(DiskGone())[0]())
                await for_ever()
        if len(starts) == 2:
            async with asyncio.timeout(0.01):
                await for_ever()
        await for_ever()

    async with house.running(Task("group", run)):
        await house.clock.advance(2)
        await until(lambda: "TimeoutError" in house.finding("group").detail, "the second fall")
        await house.clock.advance(3)
        assert len(starts) == 3


async def test_a_task_beyond_its_intensity_is_parked_and_health_says_why() -> None:
    house = House()
    run, starts = failing(DiskGone(cause="no such device"))
    async with house.running(Task("sampler", run), house.task("web")) as main:
        await house.clock.advance(3600)
        assert len(starts) == 1 + restart.INTENSITY
        found = house.finding("sampler")
        assert found.state is State.FAILED
        assert "The disk is gone. (no such device)" in found.detail
        assert found.repair == "Plug it in."
        assert house.finding("web").state is State.OK
        assert not main.done()
    assert main.result() is Exit.OK


async def test_a_fault_of_ours_is_repaired_by_a_restart() -> None:
    house = House()
    run, _ = failing(ZeroDivisionError("division by zero"))
    async with house.running(Task("sampler", run)):
        await house.clock.advance(3600)
        assert house.finding("sampler").repair == "systemctl restart homelab-agent"


async def test_a_critical_task_beyond_its_intensity_ends_the_process_and_the_rest_in_order() -> None:
    house = House()
    run, _ = failing(DiskGone())
    async with house.running(house.task("web"), Task("state", run, critical=True)) as main:
        await house.clock.advance(60)
        async with asyncio.timeout(5):
            assert await main is Exit.FAILED
    assert house.said[-2:] == ["stopping", "web stops"]
    assert [one.check for one in house.health.blocking("gate", pushed=True)] == ["task.state"]


async def test_a_task_that_is_stable_for_five_minutes_between_falls_goes_on_for_good() -> None:
    house = House()
    lived = restart.STABLE_SECONDS + 1
    starts: list[float] = []

    async def run() -> None:
        starts.append(house.clock.read().monotonic)
        await house.clock.sleep(lived)

    async with house.running(Task("shaky", run, critical=True)) as main:
        await house.clock.advance(100 * 310)
        assert not main.done()
    waits = [later - earlier - lived for earlier, later in pairwise(starts)]
    assert len(waits) >= 99
    assert all(0 <= wait <= restart.FIRST_CEILING_SECONDS for wait in waits)


async def test_a_stage_that_does_not_end_is_left_behind_at_its_deadline() -> None:
    house = House()
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    async with house.running(house.task("first"), Task("stubborn", stubborn)) as main:
        house.supervisor.stop()
        await until(lambda: "stopping" in house.said, "the stop")
        await house.clock.advance(9.9)
        assert "first stops" not in house.said
        await house.clock.advance(0.2)
        await until(lambda: "first stops" in house.said, "the next stage")
        async with asyncio.timeout(5):
            await main
    faulthandler.cancel_dump_traceback_later()
    let_go.set()


async def test_what_ready_raises_stops_the_tasks_and_is_raised() -> None:
    house = House()

    async def ready() -> None:
        raise DiskGone

    with pytest.raises(DiskGone):
        await house.supervisor.run([house.task("web")], ready, nothing)
    assert house.said == ["web starts", "web stops"]


async def test_the_loops_own_exception_handler_is_put_back() -> None:
    house = House()
    loop = asyncio.get_running_loop()
    async with house.running(house.task("web")):
        assert loop.get_exception_handler() is not None
    assert loop.get_exception_handler() is None


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1, exclude_max=True)), max_size=60))
def test_waits_grow_stay_below_the_ceiling_and_the_intensity_holds(lives: list[tuple[float, float]]) -> None:
    tally, now = restart.Tally(), 0.0
    restarts: list[float] = []
    for ran, chance in lives:
        now += ran
        tally, delay = restart.after_end(tally, ran=ran, now=now, chance=chance)
        recent = [at for at in restarts if now - at < restart.WINDOW_SECONDS]
        assert (delay is None) == (len(recent) >= restart.INTENSITY)
        if delay is None:
            return
        assert 0 <= delay <= restart.LONGEST_CEILING_SECONDS
        assert ran < restart.STABLE_SECONDS or delay <= restart.FIRST_CEILING_SECONDS
        restarts.append(now)
        now += delay


# With real signals, in a process of its own.

PROGRAM = textwrap.dedent("""
    import asyncio, os, sys, time
    from homelab_agent.core.capability import Task
    from homelab_agent.core.clock import SystemClock
    from homelab_agent.core.health import Health
    from homelab_agent.core.supervisor import Supervisor

    def say(what):
        os.write(1, what.encode() + b"\\n")

    def task(name, last):
        async def run():
            try:
                await asyncio.Event().wait()
            finally:
                say(name + " stops")
                await last()
        return Task(name, run)

    async def at_once():
        pass

    async def never():
        await asyncio.Event().wait()

    async def deaf():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def blocks():
        time.sleep(3600)

    async def ready():
        say("ready")

    async def stopping():
        say("stopping")

    async def main():
        clock = SystemClock()
        supervisor = Supervisor(Health(clock), clock, shutdown_deadline=float(sys.argv[2]))
        tasks = [task("first", at_once), task("last", globals()[sys.argv[1]])]
        return await supervisor.run(tasks, ready, stopping)

    sys.exit(asyncio.run(main()))
""")


@contextmanager
def program(last: str = "at_once", deadline: float = 30.0) -> Iterator[subprocess.Popen[str]]:
    """The supervisor as a process whose last task does `last` when it is stopped; it is ready."""
    command = [sys.executable, "-c", PROGRAM, last, str(deadline)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_stop_in_order(number: signal.Signals) -> None:
    with program() as child:
        child.send_signal(number)
        said, _ = child.communicate(timeout=10)
        assert said.splitlines() == ["stopping", "last stops", "first stops"]
        assert child.returncode == Exit.OK


@pytest.mark.parametrize("last", ["never", "blocks"])
def test_a_second_sigint_ends_the_process_at_once(last: str) -> None:
    with program(last) as child:
        child.send_signal(signal.SIGINT)
        assert child.stdout is not None
        assert [child.stdout.readline() for _ in range(2)] == ["stopping\n", "last stops\n"]
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=10) == 130
        assert time.monotonic() - sent < 5


def test_a_task_that_does_not_let_itself_be_stopped_cannot_keep_the_process() -> None:
    with program("deaf", deadline=1.0) as child:
        child.send_signal(signal.SIGTERM)
        said, complaint = child.communicate(timeout=10)
        assert "first stops" in said
        assert "Timeout (0:00:01)!" in complaint
        assert child.returncode == 1


def test_sigusr1_shows_every_threads_stack_and_the_agent_goes_on() -> None:
    with program() as child:
        child.send_signal(signal.SIGUSR1)
        assert child.stderr is not None
        assert "most recent call first" in child.stderr.readline()
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=10)
        assert "first stops" in said
        assert child.returncode == Exit.OK


def test_sigabrt_of_the_watchdog_leaves_the_stacks_behind() -> None:
    with program() as child:
        child.send_signal(signal.SIGABRT)
        _, stacks = child.communicate(timeout=10)
        assert "Fatal Python error: Aborted" in stacks
        assert child.returncode == -signal.SIGABRT
