"""The gate over HTTP: how the doors stand, which openings there were, a hold and its release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from homelab_agent.core.clock import Clock
from homelab_agent.core.door import PublicDoor
from homelab_agent.core.http import Answer, BadRequest, Json, NotFound, Request, Route, limit
from homelab_agent.gate import telling
from homelab_agent.gate.intent import Intent
from homelab_agent.gate.keeper import Keeper
from homelab_agent.gate.ledger import KEPT, Ledger

HOLD_SECONDS_MAX = 366 * 86400
_REASON_MAX = 500


class NoPublicDoor(NotFound):
    """There is no door to the internet."""

    repair = "[gate] funnel = true, then restart the agent"


class Api:
    """The handlers and what they ask."""

    def __init__(
        self,
        keepers: Sequence[Keeper],
        public: Keeper | None,
        intent: Intent,
        ledger: Ledger,
        door: PublicDoor,
        clock: Clock,
    ) -> None:
        self._keepers = keepers
        self._public = public
        self._intent = intent
        self._ledger = ledger
        self._door = door
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/gate", self.doors),
            Route("GET", "/api/gate/history", self.history),
            Route("POST", "/api/gate/hold", self.hold),
            Route("POST", "/api/gate/release", self.release),
        ]

    async def doors(self, _request: Request) -> Answer:
        """Give every door as it stands; the one to the internet with its present opening."""
        opening = telling.present(self._ledger, self._door)
        told = [
            {**telling.as_fields(one), "exposure": opening if one is self._public else None} for one in self._keepers
        ]
        return Json({"doors": told})

    async def history(self, request: Request) -> Answer:
        """Give the newest openings to the internet, at most `limit`."""
        openings = await self._ledger.newest(limit(request, usual=20, most=KEPT))
        return Json({"openings": [telling.exposure(one) for one in openings]})

    async def hold(self, request: Request) -> Answer:
        """Shut the door to the internet, for `seconds` or until it is released; `reason` says why."""
        keeper = self._internet()
        asked = await request.json()
        reason, until = _reason(asked), self._until(asked)
        await self._intent.hold(who=_name(request), why=reason, until=until)
        return Json(await self._looked_again(keeper), status=202)

    async def release(self, request: Request) -> Answer:
        """Leave the door to the agent again."""
        keeper = self._internet()
        await self._intent.release(who=_name(request))
        return Json(await self._looked_again(keeper), status=202)

    async def _looked_again(self, keeper: Keeper) -> Mapping[str, object]:
        await keeper.look_now()
        return telling.as_fields(keeper)

    def _internet(self) -> Keeper:
        if self._public is None:
            raise NoPublicDoor
        return self._public

    def _until(self, asked: Any) -> datetime | None:
        seconds = asked.get("seconds")
        if seconds is None:
            return None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= HOLD_SECONDS_MAX:
            raise BadRequest(cause=f"seconds is a number from 1 to {HOLD_SECONDS_MAX}")
        return self._clock.read().wall + timedelta(seconds=seconds)


def _name(request: Request) -> str:
    """Return who asks, as the operator is told."""
    caller = request.caller
    return caller.name or caller.login or caller.address


def _reason(asked: Any) -> str:
    if not isinstance(asked, dict):
        raise BadRequest(cause='the body is an object: {"reason": "...", "seconds": 7200}')
    reason = asked.get("reason")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > _REASON_MAX:
        raise BadRequest(cause=f"reason is a text of 1 to {_REASON_MAX} characters")
    return " ".join(reason.split())
