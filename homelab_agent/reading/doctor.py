"""What can be said of the reading sources from outside, while no agent runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.reading import kinds
from homelab_agent.reading.settings import ReadingSettings, ReadingSource

_DEADLINE_SECONDS = 30.0


def checks(settings: ReadingSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return a check of each source."""
    if not settings.source:
        return [Check("reading.sources", _nothing)]
    return beside(settings, directory, secrets)


def beside(settings: ReadingSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:  # noqa: ARG001
    """Return those that a running agent does not ask itself: whether each source lets us in, and what waits there."""
    return [
        Check(f"reading.{one.name}.source", partial(_ask, one, settings, secrets), deadline=_DEADLINE_SECONDS)
        for one in settings.source
    ]


async def _nothing() -> Finding:
    return Finding.degraded("there is no source to sync", "add a [[reading.source]]")


async def _ask(source: ReadingSource, settings: ReadingSettings, secrets: Secrets) -> Finding:
    """Reach a source, as a run would."""
    try:
        async with kinds.make(source, settings, secrets, SystemClock()).open() as opened:
            left = await opened.left(None)
    except AgentError as error:
        return Finding.of(error)
    return Finding.ok("is reached" if left is None else f"lets us in; {left} documents are to be taken")
