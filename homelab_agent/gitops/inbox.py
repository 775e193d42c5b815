"""The inbox in state.db: every verified delivery, what was tried for it, and one verdict for each attempt.

What a caller is told was committed before; a verdict and its row for PostgreSQL are committed together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from homelab_agent.core.clock import Clock, microseconds
from homelab_agent.core.http import Conflict, HttpError, NotFound
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.spool.parcel import footprint
from homelab_agent.core.state import State
from homelab_agent.gitops import table
from homelab_agent.gitops.delivery import GOOD, OPEN, Attempt, Delivery, DeliveryRecord, Receipt, Verdict
from homelab_agent.gitops.selection import Decision, Ignored, Pong, Sync

_TIDY_SECONDS = 3600.0
_ROOM_MADE = 16
"""When it is full, one part in so many of the bound is made free at once."""

_RECORD_BYTES = 1024
"""What a delivery takes up beside its body, with its attempts and in the indexes."""


class InboxFull(HttpError):
    """The inbox is full of deliveries that wait."""

    status = 503
    retry_after = 60


class GuidTaken(Conflict):
    """A delivery of this GUID is known, with another body."""


class StillOpen(Conflict):
    """The delivery {guid} is being worked on."""

    repair = "homelab-agent deliveries show {guid}"


class NoSuchDelivery(NotFound):
    """There is no delivery {guid}; they are kept for 30 days."""

    repair = "homelab-agent deliveries list"


class Inbox:
    """Holds at most `max_bytes` of disk, for 30 days; what is open is never dropped.

    Every method raises `StateUnavailable` when state.db cannot be written or read.
    """

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str, max_bytes: int) -> None:
        self._state = state
        self._spool = spool
        self._clock = clock
        self._host = host
        self._max_bytes = max_bytes
        self._tidy_at = 0.0

    # Receiving.

    async def accept(self, delivery: Delivery, decision: Decision) -> Receipt:
        """Record a delivery and what follows from it; both are on disk when this returns.

        One whose GUID is known is tried again if it did not end well, or was ignored and is not today. A body that came
        for the repository under another GUID, and is open or ended well, is `duplicate` if something would follow from
        it: Gitea and Forgejo redeliver under a new GUID. Raises `GuidTaken` or `InboxFull`. Cancelled, it may still be
        done.
        """
        now = self._clock.read()
        is_due = now.monotonic >= self._tidy_at
        if is_due:
            self._tidy_at = now.monotonic + _TIDY_SECONDS
        at = microseconds(now.wall)

        def work(connection: sqlite3.Connection) -> Receipt:
            known = table.last(connection, delivery.guid)
            if known is not None:
                digest, last = known
                if digest != delivery.digest:
                    raise GuidTaken
                table.sign(connection, delivery.guid, delivery.signers)
                if not _runs_again(connection, delivery, last, decision):
                    return last
                return _next(connection, last, decision, at)
            if is_due:
                table.forget(connection, at)
            size = footprint(len(delivery.body) + _RECORD_BYTES)
            self._make_room(connection, size)
            verdict = _verdict(decision)
            if verdict is None and (twin := table.twin(connection, delivery.digest, decision.repository)):
                verdict = Verdict("duplicate", f"its body came before, as delivery {twin}")
            table.store(connection, delivery, decision.repository, size)
            return _open(connection, Receipt(delivery.guid, decision.repository, 1, OPEN, "", is_new=True), verdict, at)

        return await self._commit(work)

    async def reopen(self, guid: str, decision: Decision) -> Receipt:
        """Open a known delivery's next attempt, however the last one ended, for the repository of `decision`.

        Raises `NoSuchDelivery`, or `StillOpen` while one is open.
        """
        at = microseconds(self._clock.read().wall)

        def work(connection: sqlite3.Connection) -> Receipt:
            known = table.last(connection, guid)
            if known is None:
                raise NoSuchDelivery(guid=guid)
            if known[1].status == OPEN:
                raise StillOpen(guid=guid)
            return _next(connection, known[1], decision, at)

        return await self._commit(work)

    # Working.

    async def waiting(self) -> list[str]:
        """Return the repositories that have open attempts."""
        return await self._state.read(table.waiting)

    async def open_attempts(self, repository: str) -> list[Attempt]:
        """Return a repository's open attempts, in the order in which their deliveries first came."""
        return await self._state.read(lambda connection: table.open_attempts(connection, repository))

    async def close(self, ended: Sequence[tuple[Attempt, Verdict]]) -> None:
        """Give each attempt its verdict, all in one transaction; one that has a verdict keeps it."""
        at = microseconds(self._clock.read().wall)

        def work(connection: sqlite3.Connection) -> list[Row]:
            return [
                self._row(connection, attempt.guid, attempt.number)
                for attempt, verdict in ended
                if table.end(connection, attempt.guid, attempt.number, verdict, at)
            ]

        await self._spool.promise(work)

    # Telling.

    async def newest(self, limit: int, repository: str = "") -> list[DeliveryRecord]:
        """Return the newest deliveries, of one repository or of all (""), the newest first."""
        return await self._state.read(lambda connection: table.newest(connection, limit, repository))

    async def get(self, guid: str) -> DeliveryRecord:
        """Return one delivery; raises `NoSuchDelivery`."""
        record = await self._state.read(lambda connection: table.record(connection, guid))
        if record is None:
            raise NoSuchDelivery(guid=guid)
        return record

    async def content(self, guid: str) -> tuple[Mapping[str, str], bytes]:
        """Return what was kept of a delivery's headers, and its body as it came; raises `NoSuchDelivery`."""
        content = await self._state.read(lambda connection: table.content(connection, guid))
        if content is None:
            raise NoSuchDelivery(guid=guid)
        return content

    # What follows runs in a transaction of state.db.

    async def _commit(self, work: Callable[[sqlite3.Connection], Receipt]) -> Receipt:
        """Do `work`, and send the row on its way if the attempt of its receipt has ended by it."""
        receipts: list[Receipt] = []

        def both(connection: sqlite3.Connection) -> list[Row]:
            receipts[:] = [work(connection)]
            (one,) = receipts
            return [self._row(connection, one.guid, one.attempt)] if one.is_new and one.status != OPEN else []

        await self._spool.promise(both)
        return receipts[0]

    def _row(self, connection: sqlite3.Connection, guid: str, number: int) -> Row:
        told = table.told(connection, guid, number)
        return Row("gitops_verdict", ("host", "guid", "attempt"), {"host": self._host, **told}, told["closed_at"])

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        over = table.held(connection) + size - self._max_bytes
        if over > 0 and table.make_room(connection, over + self._max_bytes // _ROOM_MADE) < over:
            raise InboxFull


def _runs_again(connection: sqlite3.Connection, delivery: Delivery, last: Receipt, decision: Decision) -> bool:
    """Return whether a redelivery opens the next attempt."""
    match last.status:
        case "ignored":
            return isinstance(decision, Sync)
        case "duplicate":
            return isinstance(decision, Sync) and not table.twin(connection, delivery.digest, decision.repository)
        case status:
            return status != OPEN and status not in GOOD


def _next(connection: sqlite3.Connection, last: Receipt, decision: Decision, at: int) -> Receipt:
    table.aim(connection, last.guid, decision.repository)
    new = Receipt(last.guid, decision.repository, last.attempt + 1, OPEN, "", is_new=True)
    return _open(connection, new, _verdict(decision), at)


def _open(connection: sqlite3.Connection, new: Receipt, verdict: Verdict | None, at: int) -> Receipt:
    """Open an attempt, and end it if it has its verdict at once."""
    table.begin(connection, new.guid, new.attempt, at)
    if verdict is None:
        return new
    table.end(connection, new.guid, new.attempt, verdict, at)
    return replace(new, status=verdict.word, detail=verdict.detail)


def _verdict(decision: Decision) -> Verdict | None:
    """Return how an attempt ends at once; None if it is open."""
    match decision:
        case Sync():
            return None
        case Pong(hints=hints):
            return Verdict("pong", "; ".join(hints) or "the hook is set up as it should be")
        case Ignored(why=why):
            return Verdict("ignored", why)
        case _:
            assert_never(decision)
