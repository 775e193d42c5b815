"""Whether a release that has just been changed over to is as well as the one before it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homelab_agent.core.client import Client
from homelab_agent.core.errors import AgentError

SETTLED_SECONDS = 10.0
"""For so long nothing may be worse than before, nor may the agent start anew."""
_ASK_EVERY = 1.0

Finding = Mapping[str, Any]
"""A finding as `GET /api/health` gives it: `check`, `state`, `detail` among others."""


class NotAsWell(AgentError):
    """The new release is not as well as the one before it: {trouble}."""

    repair = "make logs"


@dataclass(frozen=True, slots=True)
class Picture:
    """What an agent says of itself: since when it runs, and every finding, just asked."""

    started_at: str
    findings: Sequence[Finding]


def look(client: Client) -> Picture:
    """Ask the running agent; raises `AgentError` where none answers."""
    findings = client.post("/api/health/probe")["findings"]
    return Picture(client.get("/")["started_at"], findings)


def worse(before: Iterable[Finding], now: Iterable[Finding]) -> list[Finding]:
    """Return what has failed now and was ok before; what is new, or was in trouble before, is nobody's fault."""
    was_ok = {finding["check"] for finding in before if finding["state"] == "ok"}
    return [finding for finding in now if finding["state"] == "failed" and finding["check"] in was_ok]


def prove(
    ask: Callable[[], Picture],
    before: Sequence[Finding],
    *,
    seconds: float,
    settled: float = SETTLED_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when nothing has been worse than `before` for `settled` seconds; raises `NotAsWell` after `seconds`."""
    end = monotonic() + seconds
    good_since: float | None = None
    started_at = ""
    while True:
        trouble = ""
        try:
            picture = ask()
        except AgentError as error:
            trouble = str(error)
        else:
            failed = worse(before, picture.findings)
            trouble = "; ".join(f"{finding['check']}: {finding['detail']}" for finding in failed)
            if started_at and picture.started_at != started_at:
                trouble = trouble or "it started anew"
            started_at = picture.started_at
        now = monotonic()
        if trouble:
            good_since = None
        elif good_since is None:
            good_since = now
        elif now - good_since >= settled:
            return
        if now >= end:
            raise NotAsWell(trouble=trouble or f"it was well for no {settled:g} s on end")
        sleep(_ASK_EVERY)
