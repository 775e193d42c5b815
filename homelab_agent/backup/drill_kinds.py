"""Whether a container that was started on a copy lives, by what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from homelab_agent.backup import answering
from homelab_agent.backup.drill_trial import Trial
from homelab_agent.backup.drilled import Shown

_PORTS_MAX = 8
_SERVER_ERROR = "5"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits, in seconds: for a database's recovery, for a container's own check, for an answer on a port.

    `stays` is how long a program has to run of which nothing else can be asked; `check` bounds each look at what a
    database has.
    """

    ready: float = 1800.0
    health: float = 180.0
    answer: float = 20.0
    stays: float = 5.0
    check: float = 4 * 3600.0
    look: float = 0.25


PATIENCE = Patience()
Load: TypeAlias = Callable[[Trial], Awaitable[str]]


async def program(trial: Trial, patience: Patience, *, others: Sequence[str], load: Load) -> Shown:
    """Look at what is no database that is known: by its own check, by its ports, by whether it goes on running.

    Then it is given its dumps, if it has any. `others` are the containers of its set, which it cannot reach here, and
    may need.
    """
    if trial.boot.has_check:
        well = await trial.docker.wait_healthy(trial.container.id, seconds=patience.health)
        said = "started, and its own check says that it is well" if well else ""
    else:
        said = await _answer(trial, patience)
    if said:
        done = ", ".join(filter(None, [said, await load(trial)]))
        return Shown(trial.name, "good", f"{done}{trial.lacks}")
    return await _unwell(trial, patience, others)


async def _answer(trial: Trial, patience: Patience) -> str:
    """Return in words what it answers, or that it runs; "" where it ended, or says itself that something is wrong."""
    ports = sorted(int(one.partition("/")[0]) for one in trial.container.ports if one.endswith("/tcp"))[:_PORTS_MAX]
    loop = asyncio.get_running_loop()
    end = loop.time() + (patience.answer if ports else patience.stays)
    last = ""
    while loop.time() < end:
        found = await trial.docker.container(trial.container.id)
        if found is None or not found.running:
            return ""
        for port in ports:
            said = await answering.asked(trial.container.id, port)
            if said is None:
                continue
            if not said:
                return f"started, and listens on {port}"
            if not said.partition(" ")[2].startswith(_SERVER_ERROR):
                return f"started, and answers {said} on {port}"
            last = f"answers {said} on {port}"
        await asyncio.sleep(patience.look)
    waited = patience.answer if ports else patience.stays
    return f"started, and runs on after {waited:g} s{f'; it {last}' if last else ''}"


async def _unwell(trial: Trial, patience: Patience, others: Sequence[str]) -> Shown:
    """Say how it is not well; where it lacks what is not here, that shows nothing of the copy."""
    said = await trial.end()
    if not said:
        words = await trial.last_words()
        said = f"runs, but its own check does not say within {patience.health:g} s that it is well"
        said = f"{said}; it has written: {words}" if words else said
    if others or trial.without:
        lacks = f"; it has no network here, and so not {', '.join(others)}" if others else ""
        return Shown(trial.name, "open", f"{said}{lacks}{trial.lacks}")
    return Shown(trial.name, "bad", said, repair(trial.name))


def repair(name: str) -> str:
    """Return what is to be done where a container does not come to life on a copy."""
    return f"docker logs {name}, whether the living one is well; then back up again, and drill that"
