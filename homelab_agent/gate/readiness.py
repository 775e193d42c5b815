"""Whether visitors would be served well: what health says, and one real request over the whole way of a delivery.

What visitors are answered is never asked: else whoever finds a request that fails could shut the door.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from homelab_agent.core.door import FUNNEL_HEADER, PROBE_HEADER, PUBLIC_PATH, PublicDoor
from homelab_agent.core.errors import describe
from homelab_agent.core.health import Health, Standing

REQUEST_SECONDS = 2.0

STOPS = "the agent stops"

_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a look at ourselves found; `why_not` and `urgent` in words, "" where there is nothing.

    `checks` names what decided it.
    """

    ready: bool
    why_not: str = ""
    urgent: str = ""
    checks: tuple[str, ...] = ()


class Public:
    """Asks whether the internet would be served."""

    def __init__(self, health: Health, door: PublicDoor, *, port: int) -> None:
        """`port` is where the web server listens on 127.0.0.1."""
        self._health = health
        self._door = door
        self._url = f"http://127.0.0.1:{port}{PUBLIC_PATH}"

    async def look(self) -> Readiness:
        """Look once; raises nothing."""
        if self._door.is_barred:
            return Readiness(ready=False, why_not=STOPS, urgent=STOPS)
        if pushed := self._health.blocking("gate", pushed=True):
            return Readiness(ready=False, why_not=_said(pushed), urgent=_said(pushed), checks=_names(pushed))
        if blocking := self._health.blocking("gate"):
            return Readiness(ready=False, why_not=_said(blocking), checks=_names(blocking))
        trouble = await self._request()
        return Readiness(ready=not trouble, why_not=trouble, checks=("request",) if trouble else ())

    async def _request(self) -> str:
        """Send the webhook's route a request as from the internet; return what is wrong, "" if nothing."""
        with self._door.probing() as nonce:
            headers = {FUNNEL_HEADER: "?1", PROBE_HEADER: nonce}
            try:
                async with (
                    asyncio.timeout(REQUEST_SECONDS),
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
                    session.post(self._url, headers=headers, allow_redirects=False) as answer,
                ):
                    if answer.status == _NO_CONTENT and answer.headers.get(PROBE_HEADER) == nonce:
                        return ""
                    return f"a request to ourselves is answered {answer.status}"
            except TimeoutError:
                return f"a request to ourselves is not answered within {REQUEST_SECONDS:g} s"
            except (aiohttp.ClientError, OSError) as error:
                return f"a request to ourselves fails: {describe(error)}"


def _said(standings: Sequence[Standing]) -> str:
    return "; ".join(f"{one.check}: {one.finding.detail}" for one in standings)


def _names(standings: Sequence[Standing]) -> tuple[str, ...]:
    return tuple(one.check for one in standings)


class Always:
    """Looks for the doors inside the tailnet: who may come in there is at home, and wants to see what is amiss."""

    async def look(self) -> Readiness:
        """Say that all is ready."""
        return Readiness(ready=True)
