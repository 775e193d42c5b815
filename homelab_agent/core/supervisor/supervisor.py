"""Keeps the agent's tasks running, and stops them in order."""

from __future__ import annotations

import asyncio
import faulthandler
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from homelab_agent.core import journal
from homelab_agent.core.capability import Task
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, Exit, describe
from homelab_agent.core.health import Check, Finding, Health
from homelab_agent.core.supervisor import signals
from homelab_agent.core.supervisor.restart import INTENSITY, STABLE_SECONDS, WINDOW_SECONDS, Tally, after_end
from homelab_agent.core.waiting import all_done

RESTART_AGENT = "systemctl restart homelab-agent"

log = journal.logger("supervisor")


class TaskEnded(AgentError):
    """The task {task} ended without being told to."""


class Supervisor:
    """Runs tasks until told to stop; each has the check `task.NAME`.

    A task that fails or ends is started again (see `restart`). One that cannot be kept running ends the
    process when it is critical, and otherwise is parked: its check is failed and says why.
    """

    def __init__(self, health: Health, clock: Clock, *, shutdown_deadline: float) -> None:
        """`shutdown_deadline` in seconds is for the whole stop; a stage may take half of what is left."""
        self._health = health
        self._clock = clock
        self._shutdown_deadline = shutdown_deadline
        self._end = asyncio.Event()
        self._exit = Exit.OK
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._late: list[str] = []

    def stop(self) -> None:
        """Ask for an orderly stop; from the loop's thread."""
        self._end.set()

    async def run(
        self,
        tasks: Sequence[Task],
        ready: Callable[[], Awaitable[None]],
        stopping: Callable[[], Awaitable[None]],
    ) -> Exit:
        """Start `tasks` in order and keep them; return the exit code when they have been stopped, in reverse.

        `ready` is awaited once all have started (it may wait for what they bring up), `stopping` first of all
        when the stop begins. What `ready` raises stops the agent and is raised here.
        """
        gate = frozenset({"gate"})
        self._health.add(Check(f"task.{task.name}", blocks=gate if task.critical else frozenset()) for task in tasks)
        with signals.handled(self.stop), _faults_logged(asyncio.get_running_loop()):
            try:
                for task in tasks:
                    self._health.report(f"task.{task.name}", Finding.ok("running"))
                    self._keepers[task.name] = asyncio.create_task(self._keep(task), name=task.name)
                announced = asyncio.ensure_future(self._announce(ready))
                await self._end.wait()
                announced.cancel()
                await self._shut_down(stopping)
            finally:
                for keeper in self._keepers.values():
                    keeper.cancel()
            if announced.done() and not announced.cancelled():
                announced.result()
        return self._exit

    async def _announce(self, ready: Callable[[], Awaitable[None]]) -> None:
        try:
            await ready()
        except Exception:
            self._end.set()
            raise

    async def _keep(self, task: Task) -> None:
        tally = Tally()
        while True:
            begun = self._clock.read().monotonic
            error = await self._run_once(task)
            if _is_told_to_stop():
                return
            now = self._clock.read().monotonic
            chance = random.random()  # noqa: S311 - not a secret
            tally, delay = after_end(tally, ran=now - begun, now=now, chance=chance)
            if delay is None:
                self._give_up(task, error)
                return
            count = len(tally.restarts)
            log.warning("supervisor.task_ended", task=task.name, restart=count, delay=delay, exc_info=error)
            cause = f"{describe(error)}; started again ({count} of at most {INTENSITY} times)"
            self._health.report(f"task.{task.name}", Finding.degraded(cause, _repair(error)))
            await self._clock.sleep(delay)

    async def _run_once(self, task: Task) -> Exception:
        """Run a task until it ends by itself; return what it raised, or that it ended."""
        stable = asyncio.create_task(self._report_stable(task), name=f"{task.name} is stable")
        try:
            await task.run()
        except asyncio.CancelledError as error:
            if _is_told_to_stop():
                raise
            return TaskEnded(task=task.name, cause=error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the task is started again
            return error
        finally:
            stable.cancel()
        return TaskEnded(task=task.name)

    async def _report_stable(self, task: Task) -> None:
        await self._clock.sleep(STABLE_SECONDS)
        self._health.report(f"task.{task.name}", Finding.ok("running"))

    def _give_up(self, task: Task, error: Exception) -> None:
        cause = f"given up after {INTENSITY} restarts within {WINDOW_SECONDS:g} s: {describe(error)}"
        finding = Finding.failed(cause, _repair(error) or RESTART_AGENT)
        self._health.report(f"task.{task.name}", finding)
        log.critical("supervisor.task_given_up", task=task.name, critical=task.critical, exc_info=error)
        if task.critical:
            self._exit = Exit.FAILED
            self._end.set()

    async def _shut_down(self, stopping: Callable[[], Awaitable[None]]) -> None:
        end = self._clock.read().monotonic + self._shutdown_deadline
        await self._stage("stopping", asyncio.ensure_future(stopping()), end)
        for name, keeper in reversed(self._keepers.items()):
            keeper.cancel()
            await self._stage(name, keeper, end)
        if self._late:
            # Something does not let itself be cancelled, and asyncio.run would wait for it for ever.
            faulthandler.dump_traceback_later(self._shutdown_deadline, exit=True)

    async def _stage(self, name: str, stage: asyncio.Future[None], end: float) -> None:
        share = (end - self._clock.read().monotonic) / 2
        if not await all_done([stage], self._clock, within=share):
            self._late.append(name)
            stage.cancel()
            log.error("supervisor.stage_late", stage=name, seconds=share)
        elif not stage.cancelled() and (error := stage.exception()) is not None:
            log.error("supervisor.stage_failed", stage=name, exc_info=error)


def _is_told_to_stop() -> bool:
    """Whether this task was cancelled from outside: a CancelledError may also come from within."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _repair(error: Exception) -> str:
    return error.repair if isinstance(error, AgentError) else ""


@contextmanager
def _faults_logged(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Log what no task awaited, while the context lasts."""

    def on_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("supervisor.loop_fault", cause=context["message"], exc_info=context.get("exception"))

    before = loop.get_exception_handler()
    loop.set_exception_handler(on_fault)
    try:
        yield
    finally:
        loop.set_exception_handler(before)
