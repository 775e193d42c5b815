"""Batches go into PostgreSQL: rows, what is rejected and how far one is, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from homelab_agent.core import journal
from homelab_agent.reading import proof, statements
from homelab_agent.reading.document import Arrived, Batch, Document, Rejected
from homelab_agent.reading.order import Order
from homelab_agent.reading.proof import Proof
from homelab_agent.reading.tally import Tally

log = journal.logger("reading")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch, by keys.

    They are in the table now (`taken`); cannot be stored as they are (`rejected`), as was known before of those
    `passed_over`; or are rows that a backfill found `changed` at the source.
    """

    tally: Tally
    taken: Sequence[str]
    rejected: Sequence[str]
    passed_over: Sequence[str]
    changed: Sequence[str]


@dataclass(slots=True)
class _Inserted:
    """What became of documents: `again` this run had stored already, and counted."""

    new: int = 0
    again: int = 0
    refused: list[Rejected] = field(default_factory=list)


class Store:
    """The tables, for one run at one source, on the connection that holds its lease.

    Every document counts once in a run, however often it comes: what was counted is read from where it was committed.
    """

    def __init__(self, connection: Any, *, origin: str, run: str, order: Order, is_kept: bool) -> None:
        """`is_kept` tells that the source keeps what it gave, so that the days of its documents are to be proven."""
        self._connection = connection
        self._origin = origin
        self._run = run
        self._order = order
        self._is_kept = is_kept
        self._keys: set[str] = set()

    async def begin(self, host: str) -> Tally:
        """Record that there is this run, if nobody has; return what it has counted so far."""
        await self._connection.execute(statements.BEGIN, self._run, self._origin, self._order.stream, host)
        return Tally(**await self._connection.fetchrow(statements.COUNTED, self._run, self._origin))

    async def cursor(self) -> Mapping[str, Any]:
        """Return where the stream goes on."""
        found = await self._connection.fetchval(statements.CURSOR, self._origin, self._order.stream)
        cursor: Mapping[str, Any] = json.loads(found) if found else {}
        return cursor

    async def unproven(self) -> set[str]:
        """Return the days that were touched, by whatever run, and have not been compared since."""
        return {row["day"] for row in await self._fetch(statements.UNPROVEN, self._origin)}

    async def end(
        self, status: str, tally: Tally, *, backlog: int | None, error: str = "", found: Proof | None = None
    ) -> None:
        """Record how the run ended here; where it had `found` its proof, that too, and a backfill is over."""
        async with self._connection.transaction():
            if found is not None:
                rows = [(self._run, self._origin, *row) for row in proof.as_rows(found)]
                await self._connection.executemany(statements.PROVEN, rows)
                await self._connection.execute(statements.COMPARED, self._origin, [one.day for one in found.days])
                if self._order.window is not None:
                    await self._connection.execute(statements.FORGET_CURSOR, self._origin, self._order.stream)
            await self._count(tally)
            await self._connection.execute(statements.END, self._run, self._origin, status, backlog, error)

    async def write(self, batch: Batch, so_far: Tally) -> Written:
        """Store a batch: all of it, or nothing when this raises. One bad document stops no other."""
        async with self._connection.transaction():
            keys = [one.key for one in batch.arrived]
            known = {row["key"]: row for row in await self._fetch(statements.KNOWN, self._origin, keys)}
            fresh = to_take(batch.arrived, {key: row["state"] for key, row in known.items()})
            to_store = {one.key for one in fresh}
            passed_over = [key for key in keys if key not in to_store]
            inserted = await self._insert([one for one in fresh if isinstance(one, Document)])
            unfit = [*inserted.refused, *(one for one in fresh if isinstance(one, Rejected))]
            changed = await self._changed(unfit)
            rejected = [one for one in unfit if one.key not in changed]
            await self._reject(rejected)
            bad = {one.key for one in unfit}
            taken = [one.key for one in fresh if one.key not in bad]
            if accepted := [key for key in (*taken, *changed) if key in known]:
                await self._connection.execute(statements.ACCEPTED, self._origin, accepted)
            await self._note_keys(fresh)
            if self._is_kept:
                await self._connection.execute(statements.TOUCHED, self._origin, sorted(proof.days_of(keys)))
            tally = Tally(
                inserted=inserted.new,
                duplicate=len(taken) - inserted.new - inserted.again,
                changed=len(changed),
                rejected=len(rejected),
                skipped=sum(str(known[key]["last_run"]) != self._run for key in passed_over),
            )
            await self._advance(batch.cursor, so_far, tally)
        return Written(tally, taken, [one.key for one in rejected], passed_over, sorted(changed))

    async def _insert(self, documents: Sequence[Document]) -> _Inserted:
        """Store documents; only those that cannot be stored are left out, however many they are."""
        if not documents:
            return _Inserted()
        try:
            async with self._connection.transaction():  # a savepoint: what is refused takes back no more than itself
                return await self._insert_all(documents)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, UnicodeEncodeError) as error:
            if not _is_the_documents_fault(error):
                raise
            if len(documents) == 1:
                return _Inserted(refused=[_refused(documents[0], error)])
        middle = len(documents) // 2
        first, second = await self._insert(documents[:middle]), await self._insert(documents[middle:])
        return _Inserted(first.new + second.new, first.again + second.again, first.refused + second.refused)

    async def _insert_all(self, documents: Sequence[Document]) -> _Inserted:
        hashes = [one.content_hash for one in documents]
        columns: Sequence[Sequence[Any]] = (
            [one.key for one in documents],
            [one.at for one in documents],
            [one.source for one in documents],
            [one.event_type for one in documents],
            [one.payload for one in documents],
            [one.meta for one in documents],
            hashes,
        )
        added = await self._fetch(statements.INSERT, *columns, self._origin, self._run)
        if len(added) == len(documents):
            return _Inserted(len(added))
        new = {row["mongo_id"] for row in added}
        met = await self._fetch(statements.MET, columns[0], hashes, self._run)
        differing = differences(met, self._origin)
        again = sum(row["is_ours"] and row["mongo_id"] not in {*new, *differing} for row in met)
        return _Inserted(len(new), again, conflicts(documents, differing, self._origin))

    async def _changed(self, unfit: Sequence[Rejected]) -> set[str]:
        """Return which of the documents that a backfill cannot store are rows, as the source has marked them."""
        if self._order.window is None or not unfit:
            return set()
        keys = [one.key for one in unfit]
        return {row["mongo_id"] for row in await self._fetch(statements.THERE, keys, self._origin)}

    async def _reject(self, refused: Sequence[Rejected]) -> None:
        if not refused:
            return
        once = list({one.key: one for one in refused}.values())
        columns = ([getattr(one, name) for one in once] for name in ("key", "cause", "detail", "raw"))
        await self._connection.execute(statements.REJECT, self._origin, self._run, *columns)
        for one in once:
            log.warning("reading.rejected", source=self._origin, key=one.key, reason=one.cause, detail=one.detail)

    async def _note_keys(self, fresh: Sequence[Document | Rejected]) -> None:
        """Log each key once that documents of this source have not had before."""
        met = {key for one in fresh if isinstance(one, Document) for key in one.keys} - self._keys
        if not met:
            return
        self._keys |= met
        new = await self._fetch(statements.NEW_KEYS, self._origin, sorted(met), self._run)
        if new:
            log.info("reading.new_keys", source=self._origin, keys=sorted(row["key"] for row in new))

    async def _advance(self, cursor: Mapping[str, Any], so_far: Tally, new: Tally) -> None:
        await self._connection.execute(statements.CHECKPOINT, self._origin, self._order.stream, json.dumps(cursor))
        together = Tally()
        together.add(so_far)
        together.add(new)
        await self._count(together)

    async def _count(self, tally: Tally) -> None:
        await self._connection.execute(
            statements.COUNT, self._run, self._origin, tally.inserted, tally.duplicate, tally.changed, tally.marked,
            tally.rejected, tally.skipped,
        )  # fmt: skip

    async def _fetch(self, statement: str, *args: object) -> Sequence[Any]:
        rows: Sequence[Any] = await self._connection.fetch(statement, *args)
        return rows


def to_take(arrived: Sequence[Arrived], known: Mapping[str, str]) -> list[Arrived]:
    """Return what is to be stored; `known` are the states of those that were rejected before.

    They are passed over, but for those that are to be tried again, and those that come again only when they were
    changed: mended, perhaps.
    """

    def is_passed_over(one: Arrived) -> bool:
        state = known.get(one.key, "retry")
        mended = state == "rejected" and isinstance(one, Document) and one.first_stays
        return state != "retry" and not mended

    return [one for one in arrived if not is_passed_over(one)]


def differences(met: Sequence[Mapping[str, Any]], origin: str) -> dict[str, str]:
    """Return from where each row came that says something else, or came from somewhere else than `origin`."""
    return {row["mongo_id"]: row["origin"] for row in met if row["differs"] or row["origin"] != origin}


def conflicts(documents: Sequence[Document], differing: Mapping[str, str], origin: str) -> list[Rejected]:
    """Return which documents of `origin` cannot be stored for another row that has their id.

    `differing` gives, for each such row that says something else or came from somewhere else, from where it came.
    """
    found = []
    for one in documents:
        where = differing.get(one.key, origin)
        if where != origin:
            detail = f"a row with this id came from the source {where}"
            found.append(Rejected(one.key, "elsewhere", detail, _raw(one)))
        elif one.key in differing and not one.first_stays:
            found.append(Rejected(one.key, "changed", "another document with this id is stored already", _raw(one)))
    return found


def _is_the_documents_fault(error: Exception) -> bool:
    """Whether PostgreSQL, or the way to it, refuses what a document says and always will.

    Classes 22 and 23 are about data, 54 about limits: too deeply nested, too long for an index
    (https://www.postgresql.org/docs/current/errcodes-appendix.html).
    """
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate)[:2] in {"22", "23", "54"}
    return isinstance(error, ValueError)  # asyncpg's own DataError, and a text that is none


def _refused(document: Document, error: Exception) -> Rejected:
    return Rejected(document.key, "refused", str(error)[:500], _raw(document))


def _raw(document: Document) -> str:
    """Return what is stored of one that was not known to be bad."""
    return json.dumps(
        {
            "_id": json.loads(document.whole_id) if document.whole_id else document.key,
            "event_timestamp": document.at.isoformat(),
            "source": document.source,
            "event_type": document.event_type,
            "payload": document.payload,
            "meta": document.meta,
        }
    )
