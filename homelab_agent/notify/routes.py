"""Notifications over HTTP: how targets stand, what was told, a test, a mute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from homelab_agent.core import http, journal
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.http import Answer, BadRequest, Json, NotFound, Request, Route, limit
from homelab_agent.notify import sender
from homelab_agent.notify.answer import Answer as Said
from homelab_agent.notify.courier import Courier
from homelab_agent.notify.message import Text
from homelab_agent.notify.mute import Mute, Muted
from homelab_agent.notify.promise import Promise
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.severity import Severity
from homelab_agent.notify.trial import Trials

MUTE_SECONDS_MAX = 30 * 86400
TEST_SECONDS = 2 * sender.DEADLINE_SECONDS + 15
"""The courier's own send comes first, then the test."""

_REASON_MAX = 500

log = journal.logger("notify")


class NoTarget(NotFound):
    """There is no target called {target}."""

    repair = "homelab-agent notify status"


class NoTargets(NotFound):
    """There is no target to test."""

    repair = "add a [[notify.target]], then: homelab-agent reload"


class Api:
    """The handlers and what they ask."""

    def __init__(
        self,
        base: Foundation,
        couriers: Sequence[Courier],
        queue: Queue,
        mute: Mute,
        trials: Trials,
        heartbeat: Callable[[], Said | None],
    ) -> None:
        """`couriers` are those of the moment; `heartbeat` gives the last call's answer."""
        self._base = base
        self._couriers = couriers
        self._queue = queue
        self._mute = mute
        self._trials = trials
        self._heartbeat = heartbeat

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/notify", self.status),
            Route("POST", "/api/notify/test", self.test, deadline=TEST_SECONDS),
            Route("POST", "/api/notify/mute", self.mute),
            Route("POST", "/api/notify/unmute", self.unmute),
        ]

    async def status(self, request: Request) -> Answer:
        """Give each target as it stands with its last test, the newest messages, and the mute in force."""
        messages = await self._queue.last(limit(request, usual=20, most=200))
        return Json(
            {
                "muted": muted(self._mute.current()),
                "targets": [
                    {
                        "name": one.target.name,
                        "severity": one.target.least.word,
                        "state": one.finding().state,
                        "detail": one.finding().detail,
                        "waiting": len(self._queue.waiting(one.target.name)),
                        "test": self._trials.last(one.target.name),
                    }
                    for one in self._couriers
                ],
                "messages": [told(one) for one in messages],
                "heartbeat": self._heartbeat(),
            }
        )

    async def test(self, request: Request) -> Answer:
        """Send a test to the `target`, or to all, and give what each answers."""
        asked = await http.body(request)
        name = asked.get("target", "")
        if not isinstance(name, str):
            raise BadRequest(cause="target is a name")
        wanted = [one for one in self._couriers if name in ("", one.target.name)]
        if not wanted:
            raise NoTarget(target=name) if name else NoTargets
        return Json({"tests": await asyncio.gather(*(self._test(one) for one in wanted))})

    async def _test(self, courier: Courier) -> Mapping[str, object]:
        host, now, name = self._base.host, self._base.clock.read().wall, courier.target.name
        text = Text(f"{host}: a test", f"{host} reaches {name}: homelab-agent notify test {name}", Severity.NONE)
        answer = await courier.sender.send(text)
        await self._trials.note(name, now, answer)
        log.info("notify.tested", target=name, ok=answer.ok, answer=answer.words)
        if answer.ok:
            courier.begin_anew()
            await self._queue.settle()
        return {"target": name, **said(answer)}

    async def mute(self, request: Request) -> Answer:
        """Have nothing told for `seconds`; `reason` says why."""
        asked = await http.body(request)
        seconds, reason = asked.get("seconds"), asked.get("reason")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= MUTE_SECONDS_MAX:
            raise BadRequest(cause=f"seconds is a number from 1 to {MUTE_SECONDS_MAX}")
        if not isinstance(reason, str) or not reason.strip() or len(reason) > _REASON_MAX:
            raise BadRequest(cause=f"reason is a text of 1 to {_REASON_MAX} characters")
        until = self._base.clock.read().wall + timedelta(seconds=seconds)
        caller = request.caller
        who = caller.name or caller.login or caller.address
        return Json(muted(await self._mute.set(who=who, reason=" ".join(reason.split()), until=until)))

    async def unmute(self, _request: Request) -> Answer:
        """Have all told again; what still needs a person is told then."""
        return Json({"was": muted(await self._mute.end())})


def said(answer: Said) -> Mapping[str, object]:
    """Return what is told of an answer."""
    return {"ok": answer.ok, "answer": answer.words}


def muted(word: Muted | None) -> Mapping[str, Any] | None:
    """Return what is told of a mute."""
    if word is None:
        return None
    return {"who": word.who, "reason": word.reason, "since": word.since, "until": word.until}


def told(one: Promise) -> Mapping[str, object]:
    """Return what is told of a message."""
    return {
        "id": one.id,
        "target": one.target,
        "severity": one.severity.word,
        "checks": one.checks,
        "made_at": one.made_at,
        "ended_at": one.ended_at,
        "outcome": one.outcome or "waits",
        "tries": one.tries,
        "answer": one.answer,
    }
