"""The course of a copy: counted on both sides, what differs is copied, and so on until nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.jobs import Run
from homelab_agent.database import editions, migrations
from homelab_agent.database.catalogue import FIRST
from homelab_agent.database.moving import refusal, rolled
from homelab_agent.database.moving.pieces import Accepted
from homelab_agent.database.moving.records import Notes
from homelab_agent.database.moving.side import Side, Table
from homelab_agent.database.moving.stretch import Difference, Stretch
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import Level
from homelab_agent.database.rollups.series import Series


class TablesDiffer(AgentError):
    """{name} is not the same table in both databases."""

    repair = "homelab-agent db migrate --plan"


class RollupsDiffer(AgentError):
    """What {series} came to by {level} on {day} is not the same in both databases."""

    repair = "homelab-agent jobs run database.rollups, then the same command again"


class Cancelled(AgentError):
    """The move was cancelled."""

    repair = "the same command again goes on where it was"


@dataclass(slots=True)
class Course:
    """A move from `source` to `target`; both are connected, and made anew after either was lost.

    `accepted` lasts over that: what `pieces.lacking` says of each stretch.
    """

    source: Side
    target: Side
    keep: Keep
    clock: Clock
    run: Run
    accepted: dict[str, Accepted]
    notes: Notes
    bounds: dict[str, datetime] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)

    async def prepare(self) -> None:
        """Make the target's schema and rollups, bring the source's up to date, find out what is to be copied."""
        target = self.target
        await refusal.examine(self.source, target)
        self.run.say("making the schema")
        target.edition = await editions.prepare(target.connection)
        loaded = await asyncio.to_thread(migrations.load, target.edition.name)
        await migrations.apply(target.connection, loaded, edition=target.edition.name)
        await target.look()
        await self.source.look()
        await self._same_tables()
        await rolled.make(self.source)
        await rolled.make(target)
        await self.notes.begin(target)
        for table in self._first():
            await self.notes.mirror(self.source, target, table)
        self.run.say("rolling up what is new")
        for each in self.source.series:
            self._go_on()
            await rolled.up_to_date(self.source, each, self.keep, self._now())
        await self._bound()

    async def look(self) -> None:
        """Find out what is to be copied, and change nothing: for a target that has its schema already."""
        await self.source.look()
        await self.target.look()
        known = {each.name for each in self.target.series}
        for each in self.source.series:
            if each.name in known:
                self.bounds[each.name] = await self._boundary(each)
        await self._stretch()

    async def compare(self) -> list[Difference]:
        """Count all stretches on both sides."""
        found: list[Difference] = []
        for each in self.stretches:
            self._go_on()
            self.run.progress(len(found), len(self.stretches), "tables", f"counting {each.name}")
            found.append(await each.compare(self.source, self.target))
        return found

    async def level(self, differences: Sequence[Difference], on_piece: Callable[[int, str], None]) -> int:
        """Copy what differs; return how many rows that were. `on_piece` is told each piece's rows and name."""
        copied = 0
        for difference in differences:
            stretch = difference.stretch
            for piece in difference.pieces:
                self._go_on()
                await stretch.copy(self.source, self.target, piece)
                copied += piece.rows
                on_piece(piece.rows, f"{stretch.name} {piece.begin:%Y-%m-%d}")
            if difference.pieces:
                difference.accept(await stretch.count(self.target, all_subjects=False))
        return copied

    async def mirror(self) -> tuple[int, int]:
        """Have all other tables be as they are in the source; return how many rows there are, and how many were not."""
        held = differed = 0
        for table in self.source.records:
            self._go_on()
            rows, other = await self.notes.mirror(self.source, self.target, table)
            held, differed = held + rows, differed + other
        return held, differed

    async def roll(self) -> None:
        """Make the target's rollups from the boundary on; raises `RollupsDiffer` where they are wrong."""
        now = self._now()
        for each in self.source.series:
            self._go_on()
            bound = self.bounds[each.name]
            theirs = self._theirs(each)
            await rolled.up_to_date(self.target, theirs, self.keep, now)
            wrong = await rolled.made(self.target, theirs, bound, now)
            if wrong:
                days = sorted({day for _, day in wrong})
                await rolled.again(self.target, theirs, days, self.keep, now)
                await self._expect_made(each, bound, now)

    async def _expect_made(self, each: Series, bound: datetime, now: datetime) -> None:
        """Accept what the source has no better: rows without an entity, say, are rolled up nowhere."""
        here = set(await rolled.made(self.target, self._theirs(each), bound, now))
        if worse := sorted(here - set(await rolled.made(self.source, each, bound, now)), key=lambda pair: pair[1]):
            level, day = worse[0]
            raise RollupsDiffer(series=each.name, level=level.name, day=f"{day:%Y-%m-%d}")

    async def _bound(self) -> None:
        for each in self.source.series:
            self.bounds[each.name] = bound = await self._boundary(each)
            await rolled.prepare(self.target, self._theirs(each), bound, self._now())
        await self._stretch()

    async def _stretch(self) -> None:
        """List what is copied by stretches: samples that are kept, and of each level what is before the boundary."""
        now, by_day = self._now(), self.source.is_timescale or self.target.is_timescale
        subjects = await self._subjects()
        for each in self.source.series:
            if each.name not in self.bounds:
                continue
            bound = self.bounds[each.name]
            theirs = subjects.get(each.subject)
            table = await self.source.table(each.name)
            kept = await rolled.samples_from(self.source, each, self.keep, now)
            begin = min(bound, rolled.whole(kept, by_day=by_day))
            self._add(Stretch(each.name, each.subject, list(table.columns), begin, subjects=theirs))
            for level in self._both(each):
                self._add(self._of_level(each, level, bound, theirs, by_day=by_day))

    def _of_level(
        self, each: Series, level: Level, bound: datetime, subjects: Sequence[object] | None, *, by_day: bool
    ) -> Stretch:
        begin = rolled.kept(level, self.keep, self._now(), by_day=by_day)
        return rolled.stretch(each, level, min(begin, bound), bound, subjects)

    async def _boundary(self, each: Series) -> datetime:
        theirs = self._theirs(each)
        return await rolled.boundary(self.source, self.target, each, theirs, self.keep, self._now())

    def _theirs(self, each: Series) -> Series:
        return next(other for other in self.target.series if other.name == each.name)

    def _both(self, each: Series) -> Sequence[Level]:
        """Return the levels that both sides keep: a slow series has no minutes on TimescaleDB."""
        theirs = next((other.levels for other in self.target.series if other.name == each.name), each.levels)
        return [level for level in each.levels if level in theirs]

    def _add(self, stretch: Stretch) -> None:
        stretch.accepted = self.accepted.setdefault(stretch.name, {})
        self.stretches.append(stretch)

    async def _subjects(self) -> dict[str, list[object]]:
        """Return whose rows the source has, where the target has others'; nothing where it has nobody else's."""
        if not any(table.name == FIRST for table in self.target.records):
            return {}
        query = "SELECT id, host FROM homelab.entity"
        ours = await self.source.connection.fetch(query)
        theirs = await self.target.connection.fetch(query)
        if {row["id"] for row in theirs} <= {row["id"] for row in ours}:
            return {}
        return {"entity_id": [row["id"] for row in ours], "host": sorted({row["host"] for row in ours})}

    async def _same_tables(self) -> None:
        """Raise `TablesDiffer` where a table of the source is missing in the target, or has other columns there."""
        there = {table.name: table for table in self.target.records}
        for table in self.source.records:
            other = there.get(table.name)
            if other is None or other.columns != table.columns or not table.key:
                raise TablesDiffer(name=table.name, cause="" if table.key else "its rows have no key")
        for each in self.source.series:
            if _essence(each) not in map(_essence, self.target.series):
                raise TablesDiffer(name=each.name)

    def _first(self) -> Sequence[Table]:
        """Return the table whose rows others point to: what is rolled up is rolled up for each of them."""
        return [table for table in self.source.records if table.name == FIRST]

    def _go_on(self) -> None:
        if self.run.cancelled.is_set():
            raise Cancelled

    def _now(self) -> datetime:
        return self.clock.read().wall


def _essence(each: Series) -> tuple[object, ...]:
    """Return what must be the same on both sides: which levels are kept is the edition's."""
    return each.name, each.subject, each.measures
