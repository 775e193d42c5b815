"""The main job: at every tick ask the collectors, stamp what they read, hand it to the spool."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from homelab_agent.core import clock, journal
from homelab_agent.core.clock import Clock, Instant
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.foundation import Database
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.spool.spool import TEND_SECONDS
from homelab_agent.core.state import State
from homelab_agent.metrics import instants, rows
from homelab_agent.metrics.collection import Collection, Taken
from homelab_agent.metrics.entity import KNOWN_MAX, Entity
from homelab_agent.metrics.instants import HighWater, Instants
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.recent import Recent
from homelab_agent.metrics.sample import Quality, Sample
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.silences import Silences
from homelab_agent.metrics.ticker import DISTURBED_SECONDS, Tick, Ticker

ANNOUNCE_AGAIN_SECONDS = 3600.0
"""An older dump may be put back without our hearing of it; rows whose entity it lacks would be seen by nobody."""

log = journal.logger("metrics")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where samples go, and how this host is called there."""

    host: str
    spool: Spool
    state: State
    database: Database


@dataclass(slots=True)
class _Waiting:
    """A sample that waits for the clock to be set; once it is `stamped` its time stays, however often it is put."""

    tick: Tick
    taken: Taken
    spooled: bool
    stamped: Sample | None = None


class Sampler:
    """Takes samples as long as it runs.

    `beat` is the monotonic time at which the last due sample was dealt with: put in the spool, held until the clock is
    set, or counted in `lost`; `loss` says why and `lost_at` when the last one was.
    """

    def __init__(
        self, source: Clock, collection: Collection, destination: Destination, latest: Latest, recent: Recent
    ) -> None:
        self._clock = source
        self._collection = collection
        self._to = destination
        self._latest = latest
        self._recent = recent
        self._instants: Instants | None = None
        self._announced: set[int] = set()
        self._announce_again_at = source.read().monotonic + ANNOUNCE_AGAIN_SECONDS
        self._database_is_up = False
        self._waiting: deque[_Waiting] = deque()
        self._silences = Silences(destination.host)
        self.ticker = Ticker(source, collection.settings.interval)
        self.beat = source.read().monotonic
        self.lost = 0
        self.loss = ""
        self.lost_at: datetime | None = None

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings; the next sample is due by the new interval, counted from now."""
        self._collection.adopt(settings)
        self.ticker.adopt(settings.interval)
        self.beat = self._clock.read().monotonic

    async def run(self) -> None:
        """Sample until cancelled; then stamp what still waits and keep the high-water mark.

        Run again after it has failed, it goes on: what was missed meanwhile is counted and has its cause.
        """
        if self._instants is None:
            self._instants = await self._resume()
            self.ticker = Ticker(self._clock, self._collection.settings.interval)
        self.beat = self._clock.read().monotonic
        try:
            while True:
                await self.take(await self.ticker.next())
        finally:
            now = self._clock.read()
            await self._release(now)
            await self._keep(self._instants.last_high_water(now))

    async def take(self, tick: Tick) -> None:
        """Take the sample of one tick."""
        status, answered = self._to.spool.status(), self._to.database.round_trip_seconds
        self._see_to_announcements(tick.at, is_up=answered is not None)
        self._collection.notice(
            late_ms=round(tick.late * 1000, 3),
            collect_ms=None if self._latest.quality is None else self._latest.quality.total_ms,
            spool_rows=status.rows_memory + status.rows_disk,
            spool_bytes=status.bytes_disk,
            state_written_bytes=self._to.state.bytes_written,
            database_ms=None if answered is None else round(answered * 1000, 3),
        )
        taken = await self._collection.take(tick)
        now = self._clock.read()
        in_time = self._to.spool.spill_after + TEND_SECONDS  # what has waited longer is on disk
        spooled = status.waited is not None and status.waited > in_time
        self._waiting.append(_Waiting(tick, taken, spooled))
        self._latest.take(taken.families, self._quality(self._waiting[-1], moved_ms=0), tick.at.monotonic, taken.gone)
        self._recent.take(taken.families, tick.due)
        _report(tick)
        if instants.may_stamp(now, synchronised=taken.clock_synchronised):
            await self._release(now)
        self.beat = self._clock.read().monotonic
        if self._instants is not None and (high_water := self._instants.due_high_water(now)) is not None:
            await self._keep(high_water)

    async def _release(self, now: Instant) -> None:
        """Stamp and put what waits; one that waited for the clock, or met its setting, is stamped from boot time."""
        while self._waiting:
            one = self._waiting[0]
            if one.stamped is None:
                one.stamped = self._stamp(one, now)
            await self._put(one.stamped, one.tick)
            self._waiting.popleft()  # only now: who is cancelled in the middle of a put finds it here again

    def _stamp(self, one: _Waiting, now: Instant) -> Sample:
        assert self._instants is not None  # noqa: S101 - run() opens it before any tick
        taken = one.tick.at
        at_once = len(self._waiting) == 1 and now.monotonic - taken.monotonic < self.ticker.interval
        same_clock = abs(clock.drift(taken, now).step) < DISTURBED_SECONDS
        wanted = one.tick.due if at_once and same_clock else instants.from_boot(taken, now)
        at, moved_ms = self._instants.free(wanted)
        return Sample(at, one.taken.families, self._quality(one, moved_ms=moved_ms))

    async def _put(self, sample: Sample, tick: Tick) -> None:
        entities = [reading.entity for readings in sample.families.values() for reading in readings]
        new = [entity for entity in entities if entity.id not in self._announced]
        silence = self._silences.before(sample, tick, self.ticker.interval)
        put = [*silence, *rows.of_sample(sample, self._to.host)]
        try:
            if new:
                put = [*await self._announce(new, sample.at), *put]
            await self._to.spool.put(put)
        except Exception as error:  # noqa: BLE001 - whatever the reason, the loss is counted and the next one taken
            self.lost += 1
            self.loss = describe(error)
            self.lost_at = self._clock.read().wall
            log.error("metrics.sample_lost", cause=self.loss, lost=self.lost)  # noqa: TRY400 - said in words
            self._silences.ended(sample, lost=True)
        else:
            self._silences.ended(sample, lost=False)

    def _see_to_announcements(self, now: Instant, *, is_up: bool) -> None:
        """Have all entities announced anew when PostgreSQL has come back: it may be another, or an older one."""
        if (is_up and not self._database_is_up) or now.monotonic >= self._announce_again_at:
            self._announced.clear()
            self._announce_again_at = now.monotonic + ANNOUNCE_AGAIN_SECONDS
        self._database_is_up = is_up

    async def _announce(self, entities: Sequence[Entity], at: datetime) -> Sequence[Row]:
        """Promise the rows that say what ids mean; return those that must travel with the sample instead."""
        put = rows.of_entities(entities, self._to.host, at)
        try:
            await self._to.spool.put(put, promise=True)
        except AgentError:
            return put
        if len(self._announced) >= KNOWN_MAX:
            self._announced.clear()  # those that are still there are announced once more, which changes nothing
        self._announced.update(entity.id for entity in entities)
        return ()

    def _quality(self, one: _Waiting, *, moved_ms: int) -> Quality:
        tick, taken = one.tick, one.taken
        return Quality(
            scheduled_at=tick.due,
            started_at=tick.at.wall,
            late_ms=round(tick.late * 1000, 3),
            total_ms=round(taken.seconds * 1000, 3),
            step=round(tick.drift.step, 3),
            asleep=round(tick.drift.asleep, 3),
            skipped=tick.skipped,
            moved_ms=moved_ms,
            spooled=one.spooled,
            clock_synchronised=taken.clock_synchronised,
            collectors=taken.collectors,
        )

    async def _resume(self) -> Instants:
        now = self._clock.read()
        try:
            return await instants.resume(self._to.state, now)
        except AgentError as error:
            log.warning("metrics.high_water_unreadable", cause=describe(error))
            return Instants(HighWater(), now, "")

    async def _keep(self, high_water: HighWater) -> None:
        assert self._instants is not None  # noqa: S101 - only asked after it was opened
        try:
            await self._instants.keep(high_water, self._to.state)
        except AgentError as error:  # the check "state" says so too; the next tick tries again
            log.debug("metrics.high_water_not_kept", cause=describe(error))


def _report(tick: Tick) -> None:
    """Say what happened to the clock or to our rhythm."""
    if tick.drift.step:
        log.warning("metrics.clock_stepped", seconds=round(tick.drift.step, 3))
    if tick.drift.asleep:
        log.info("metrics.host_slept", seconds=round(tick.drift.asleep, 1))
    if tick.skipped:
        log.warning("metrics.ticks_skipped", ticks=tick.skipped, late_seconds=round(tick.late, 3))
