"""Looks at health, has it decided what is told, and promises it: a thin loop around `decision.py`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from homelab_agent.core import journal, systemd
from homelab_agent.core.clock import about, boot_id
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Standing, State
from homelab_agent.core.state import StateUnavailable
from homelab_agent.notify import book, ending, life, message
from homelab_agent.notify.courier import Courier
from homelab_agent.notify.decision import Case, Item, Seen, Timing, decide, merged
from homelab_agent.notify.ending import Ended
from homelab_agent.notify.mute import Mute
from homelab_agent.notify.promise import Promise, save
from homelab_agent.notify.queue import Beside, Queue
from homelab_agent.notify.severity import Scale
from homelab_agent.notify.trial import Trials

LOOK_SECONDS = 30.0
"""Nobody tells that an announced outage is over, or that a clock was set: the picture is looked at this often."""

log = journal.logger("notify")


class Teller:
    """What becomes news, for all targets."""

    def __init__(
        self,
        base: Foundation,
        couriers: Sequence[Courier],
        queue: Queue,
        mute: Mute,
        trials: Trials,
        timing: Timing,
        scale: Scale,
    ) -> None:
        """`couriers` are those of the moment."""
        self._base = base
        self._couriers = couriers
        self._queue = queue
        self._mute = mute
        self._trials = trials
        self._timing = timing
        self._scale = scale
        self._book: Mapping[str, Case] = {}
        self._is_known = False
        self._has_begun = False
        self._is_said = False
        queue.book = self._writes_book

    def adopt(self, timing: Timing, scale: Scale) -> None:
        """Take new settings; they count from the next look on."""
        self._timing, self._scale = timing, scale

    async def run(self) -> None:
        """Take up what was left, then look until cancelled; when told to stop, note that this was no accident."""
        with self._base.health.changes.subscribe() as changes:
            try:
                while True:
                    while not changes.empty():  # what changes from here on is looked at again
                        changes.get_nowait()
                    await self._take_up()
                    again = await self._look()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._pause(again)):
                            await changes.get()
            except asyncio.CancelledError:
                await self._queue.settle()
                with suppress(StateUnavailable):
                    now = self._now()
                    await self._base.state.write(lambda connection: life.end(connection, now))
                raise

    async def _take_up(self) -> None:
        """Take up, once, what the agent before this one has left, and note that a life begins; later if need be."""
        if self._has_begun:
            return
        try:
            if not self._is_known:
                await self._recover()
            await self._begin()
        except StateUnavailable as error:  # which is what must be told now
            if not self._is_said:
                log.warning("notify.nothing_known", error=error)
            self._is_said = True

    async def _recover(self) -> None:
        kept = await self._base.state.read(book.read)
        await self._mute.recover()
        await self._trials.recover()
        await self._queue.recover()
        self._book = merged(kept, self._book)
        self._is_known = True
        for courier in self._couriers:
            courier.report(courier.finding())
        self._wake()
        await self._queue.note()

    async def _begin(self) -> None:
        boot, now, noted = await asyncio.to_thread(boot_id), self._now(), systemd.state_directory()
        ended = await asyncio.to_thread(ending.read, noted) if noted is not None else None
        news = await self._base.state.write(lambda connection: _begin(connection, boot, now, ended, self))
        self._has_begun = True
        if noted is not None:
            await asyncio.to_thread(ending.begin, noted)
        self._queue.take_up(news)
        self._wake()

    async def _look(self) -> float | None:
        """Decide once, and promise what is told; return when (monotonic) to look again though nothing changes."""
        await self._queue.drop_all_but([one.target.name for one in self._couriers])
        now = self._base.clock.read()
        picture = self._picture()
        decision = decide(self._book, picture, now, self._timing, muted=self._mute.current() is not None)
        before, self._book = self._book, decision.book
        if decision.told:
            await self._promise(self.promises([self._clean(item) for item in decision.told], now.wall))
        elif _tells(before) != _tells(self._book):
            await self._queue.note()
        else:
            await self._queue.settle()
        return decision.again

    async def _promise(self, promises: Sequence[Promise]) -> None:
        await self._queue.promise(promises)
        self._wake()

    def _writes_book(self) -> Beside | None:
        """Return what writes down what counts as told; what was on disk before is not lost while it is not known."""
        cases = self._book
        return (lambda connection: book.write(connection, cases)) if self._is_known else None

    def promises(self, items: Sequence[Item], now: datetime) -> list[Promise]:
        """Return a message for each target that wants one; none for what nobody wants."""
        wanted = [(one.target, tuple(item for item in items if one.target.wants(item))) for one in self._couriers]
        return [Promise(target.name, message.condensed(some), now) for target, some in wanted if some]

    def _wake(self) -> None:
        for courier in self._couriers:
            courier.news.give()

    def _picture(self) -> list[Seen]:
        answered = {standing.check for standing in self._base.health.answered()}
        return [self._seen(standing, known=standing.check in answered) for standing in self._base.health.picture()]

    def _seen(self, standing: Standing, *, known: bool) -> Seen:
        """Return how a check stands; what nobody knows of, or was announced, is neither trouble nor well."""
        if not known or standing.expected:
            return Seen(standing.check, None, standing.since)
        finding = standing.finding
        how = self._scale.of(standing.check, finding.state)
        is_known = finding.state not in {State.DISABLED, State.NOT_AVAILABLE}
        parts = frozenset(_written(part) for part in finding.about)
        return Seen(standing.check, how, standing.since, finding.detail, finding.repair, is_known, parts)

    def _clean(self, item: Item) -> Item:
        """Return what is told without secrets, and without what could pass for a line of a message."""
        mask = self._base.redactor.mask
        detail = message.one_line(mask(item.detail), message.DETAIL_MAX)
        return replace(item, detail=detail, repair=message.one_line(mask(item.repair), message.REPAIR_MAX))

    def _pause(self, again: float | None) -> float:
        now = self._base.clock.read()
        return about(now, LOOK_SECONDS) if again is None else min(max(again - now.monotonic, 0.05), LOOK_SECONDS)

    def _now(self) -> datetime:
        return self._base.clock.read().wall


def _begin(
    connection: sqlite3.Connection, boot: str, now: datetime, ended: Ended | None, teller: Teller
) -> list[Promise]:
    """Note that a life begins, and promise in the same transaction what is to be told of the one before."""
    news = life.begin(connection, boot, now, ended)
    promises = teller.promises([news], now) if news is not None else []
    save(connection, [one.kept() for one in promises])
    return promises


def _written(part: str) -> str:
    """Return the key of a part as a disk takes it: a file's name may be no UTF-8."""
    return part.encode("utf-8", "backslashreplace").decode()


def _tells(cases: Mapping[str, Case]) -> Mapping[str, object]:
    """Return what of the cases is to be on disk."""
    return {
        check: (case.told, case.tells, {name: (part.is_told, part.tells) for name, part in case.parts.items()})
        for check, case in cases.items()
        if case.told or case.tells
    }
