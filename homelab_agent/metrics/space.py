"""Filesystems that fill: asked of PostgreSQL now and then, a check at once, and the family `forecast`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Database
from homelab_agent.core.health import Check, Finding
from homelab_agent.metrics.forecast import Forecast, forecast
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.standing import Standing

CHECK = "metrics.space"
LOOK_SECONDS = 3600.0
AGAIN_SECONDS = 60.0
"""How soon it is asked again while PostgreSQL is away, or has not made its rollups yet."""
SPAN = timedelta(days=28)
SOON_DAYS = 14.0
NOW_DAYS = 2.0
GONE_AFTER = timedelta(days=1)
"""One of which nothing was heard for longer is not mounted any more."""
_READY = "SELECT to_regclass('homelab.filesystem_1d') IS NOT NULL"
_DAYS = """
    SELECT key, label, time, used_bytes_max::float8 AS peak, available_bytes_min::float8 AS available
      FROM homelab.filesystem_1d WHERE host = $1 AND time >= $2 AND used_bytes_max IS NOT NULL ORDER BY time"""

log = journal.logger("metrics")


@dataclass(frozen=True, slots=True)
class _Place:
    """A filesystem, and where it is mounted."""

    key: str
    label: str


@dataclass(frozen=True, slots=True)
class _Days:
    """What is known of one filesystem: the most used of each day, and what was left at the least on the last one."""

    peaks: Mapping[date, float]
    available: float


class Space:
    """Looks, and keeps what it found; a `Collector`."""

    name = "forecast"
    slow = True
    patience = 1.0

    def __init__(self, host: Host, clock: Clock, database: Database, report: Callable[[str, Finding], None]) -> None:
        self._host = host
        self._clock = clock
        self._database = database
        self._report = report
        self._standing = Standing()
        self._is_known = False

    def check(self) -> Check:
        """Return the check, which hears of each look at once."""
        return Check(CHECK)

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings, none of which is for this."""

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            try:
                pause = LOOK_SECONDS if await self.look() else AGAIN_SECONDS
            except AgentError as error:  # the check "database.connection" says so
                log.debug("metrics.no_forecast", cause=str(error))
                pause = AGAIN_SECONDS
            await self._clock.sleep(about(self._clock.read(), pause))

    def collect(self) -> Families:
        """Return what was found last; raises `NotAvailable` while too little is known."""
        if not self._is_known:
            raise NotAvailable(what="filesystem that is known for ten days")
        return {"forecast": self._standing.tell()}

    async def look(self) -> bool:
        """Ask, and tell what was found; whether there is something to ask. Raises `NeighbourUnreachable`."""
        await self._database.wait_until_up()
        [ready] = await self._database.fetch(_READY)
        if not ready[0]:
            return False
        found = {place: forecast(one.peaks, one.available) for place, one in (await self._days()).items()}
        known = {place: one for place, one in found.items() if one is not None}
        readings = [
            Reading(self._host.entities.get("forecast", place.key, place.label), row(one))
            for place, one in known.items()
        ]
        self._standing.set(readings, self._clock.read().monotonic)
        self._is_known = bool(known)
        self._report(CHECK, judged({place.label: one for place, one in known.items()}))
        return True

    async def _days(self) -> Mapping[_Place, _Days]:
        """Return what is known of each filesystem that is there still."""
        now = self._clock.read().wall
        found: dict[_Place, _Days] = {}
        for one in await self._database.fetch(_DAYS, self._host.name, now - SPAN):
            place = _Place(one["key"], one["label"])
            before = found[place].peaks if place in found else {}
            found[place] = _Days({**before, one["time"].date(): one["peak"]}, one["available"])
        return {place: one for place, one in found.items() if max(one.peaks) >= (now - GONE_AFTER).date()}


def row(one: Forecast) -> Values:
    """Return a filesystem's values."""
    return {"full_in_d": one.full_in_days, "growth_bytes_per_d": round(one.bytes_per_day)}


def judged(known: Mapping[str, Forecast]) -> Finding:
    """Return what is to be said of all filesystems together, by where they are mounted, the soonest first.

    One that was full soon and is full now, nearly, is news, too.
    """
    soon = sorted((days, key) for key, one in known.items() if (days := one.full_in_days) is not None)
    soon = [(days, key) for days, key in soon if days < SOON_DAYS]
    if not soon:
        return Finding.ok(f"none will be full within {SOON_DAYS:.0f} days" if known else "too little is known yet")
    said = "; ".join(f"{key} is full in {days:.1f} days if it grows as in the last weeks" for days, key in soon)
    finding = Finding.failed if soon[0][0] < NOW_DAYS else Finding.degraded
    repair = "; ".join(f"sudo du -xh --max-depth=2 {shlex.quote(key)} | sort -h | tail" for _, key in soon)
    about = [key for _, key in soon] + [f"{key} now" for days, key in soon if days < NOW_DAYS]
    return finding(said, repair, about=about)
