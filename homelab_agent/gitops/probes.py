"""What must hold after a deployment: probes, asked again and again until each holds once or its time is over.

A page and a port are asked from here; what needs more than the agent may (units, containers, commands) the root half
asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from homelab_agent.core import asking
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import AWAY, VerbRefused
from homelab_agent.gitops.settings import Probe
from homelab_agent.gitops.working_copy import Done

AGAIN_SECONDS = 1.0
ANSWER_SECONDS = 5.0
"""How long one answer may take."""

Ask = Callable[[], Awaitable[Done | asking.Answer]]


class Gate:
    """The probes of one repository; `elsewhere` asks the one of that index where the agent cannot."""

    def __init__(self, probes: Sequence[Probe], elsewhere: Callable[[int], Awaitable[Done]], clock: Clock) -> None:
        self._probes = probes
        self._elsewhere = elsewhere
        self._clock = clock

    async def trouble(self) -> str:
        """Return what does not hold within its time, in words; "" if everything does.

        Raises `AWAY` or `VerbRefused` if there is nothing but what the root half was not there to tell, or did not.
        """
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._until_it_holds(probe, self._way(index, probe)))
                for index, probe in enumerate(self._probes)
            ]
        found = [task.result() for task in asked]
        trouble = "; ".join(filter(None, (one for one in found if isinstance(one, str))))
        unknown = [one for one in found if isinstance(one, AgentError)]
        if unknown and not trouble:
            raise unknown[0]
        return trouble

    def _way(self, index: int, probe: Probe) -> Ask:
        match probe.kind:
            case "http":
                return partial(asking.page, probe.target, within=ANSWER_SECONDS)
            case "tcp":
                return partial(asking.port, probe.target, within=ANSWER_SECONDS)
            case "unit" | "container" | "command":
                return partial(self._elsewhere, index)

    async def _until_it_holds(self, probe: Probe, ask: Ask) -> str | AgentError:
        """Return "", or what is wrong when its time is over; the error is that nobody knows."""
        end = self._clock.read().monotonic + probe.within
        while isinstance(answer := await _asked(ask), AgentError) or not answer.ok:
            left = end - self._clock.read().monotonic
            if left <= 0:
                if isinstance(answer, AgentError):
                    return answer
                what = probe.target or " ".join(probe.command)
                return f"{probe.kind} {what} does not hold after {probe.within:g} s: {answer.detail}"
            await self._clock.sleep(min(AGAIN_SECONDS, left))
        return ""


async def _asked(ask: Ask) -> Done | asking.Answer | AgentError:
    """Return what a probe says; the error is that the root half was not there to ask it, or refused to."""
    try:
        return await ask()
    except (*AWAY, VerbRefused) as error:
        return error
