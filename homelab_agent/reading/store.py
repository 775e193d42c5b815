"""Batches go into PostgreSQL: rows, what is rejected and how far one is, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from homelab_agent.core import journal
from homelab_agent.reading import statements
from homelab_agent.reading.document import Batch, Document, Rejected
from homelab_agent.reading.tally import Tally

log = journal.logger("reading")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: keys that are in the table now, and keys that are not and never will be as they are."""

    tally: Tally
    taken: Sequence[str]
    refused: Sequence[str]


class Store:
    """The tables, for one run at one source, on the connection that holds its lease."""

    def __init__(self, connection: Any, *, origin: str, run: str, stream: str) -> None:
        self._connection = connection
        self._origin = origin
        self._run = run
        self._stream = stream
        self._keys: set[str] = set()

    async def begin(self, host: str) -> Mapping[str, Any]:
        """Record the run, and those as interrupted that ended with their agent; return where the stream goes on."""
        async with self._connection.transaction():
            await self._connection.execute(statements.INTERRUPTED, self._origin, self._run)
            await self.register(host)
            found = await self._connection.fetchval(statements.CURSOR, self._origin, self._stream)
        cursor: Mapping[str, Any] = json.loads(found) if found else {}
        return cursor

    async def register(self, host: str) -> None:
        """Record that there is this run."""
        await self._connection.execute(statements.BEGIN, self._run, self._origin, self._stream, host)

    async def end(self, status: str, tally: Tally, *, backlog: int | None, error: str = "") -> None:
        """Record how the run ended here."""
        await self._connection.execute(
            statements.END, self._run, self._origin, status, tally.inserted, tally.duplicate, tally.marked,
            tally.rejected, tally.skipped, backlog, error,
        )  # fmt: skip

    async def write(self, batch: Batch, so_far: Tally) -> Written:
        """Store a batch: all of it, or nothing when this raises. One bad document stops no other."""
        async with self._connection.transaction():
            keys = [one.key for one in batch.arrived]
            known = {row["key"]: row["state"] for row in await self._fetch(statements.KNOWN, self._origin, keys)}
            passed_over = {key for key, state in known.items() if state != "retry"}
            fresh = [one for one in batch.arrived if one.key not in passed_over]
            inserted, refused = await self._insert([one for one in fresh if isinstance(one, Document)])
            refused += [one for one in fresh if isinstance(one, Rejected)]
            await self._reject(refused)
            bad = {one.key for one in refused}
            taken = [one.key for one in fresh if one.key not in bad]
            if again := [key for key in taken if key in known]:
                await self._connection.execute(statements.ACCEPTED, self._origin, again)
            await self._note_keys(fresh)
            tally = Tally(
                inserted, len(taken) - inserted, rejected=len(refused), skipped=len(batch.arrived) - len(fresh)
            )
            await self._advance(batch.cursor, so_far, tally)
        return Written(tally, taken, [*bad, *passed_over])

    async def count(self, tally: Tally) -> None:
        """Write down what was counted so far."""
        await self._connection.execute(
            statements.COUNT, self._run, self._origin, tally.inserted, tally.duplicate, tally.marked, tally.rejected,
            tally.skipped,
        )  # fmt: skip

    async def _insert(self, documents: Sequence[Document]) -> tuple[int, list[Rejected]]:
        """Return how many are new, and those that cannot be stored; only they are left out, however many they are."""
        if not documents:
            return 0, []
        try:
            async with self._connection.transaction():  # a savepoint: what is refused takes back no more than itself
                return await self._insert_all(documents)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, UnicodeEncodeError) as error:
            if not _is_the_documents_fault(error):
                raise
            if len(documents) == 1:
                return 0, [_refused(documents[0], error)]
        middle = len(documents) // 2
        first, bad = await self._insert(documents[:middle])
        second, worse = await self._insert(documents[middle:])
        return first + second, bad + worse

    async def _insert_all(self, documents: Sequence[Document]) -> tuple[int, list[Rejected]]:
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
            return len(added), []
        differing = {row["mongo_id"] for row in await self._fetch(statements.CHANGED, columns[0], hashes)}
        return len(added), [_changed(one) for one in documents if one.key in differing]

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
        await self._connection.execute(statements.CHECKPOINT, self._origin, self._stream, json.dumps(cursor))
        together = Tally()
        together.add(so_far)
        together.add(new)
        await self.count(together)

    async def _fetch(self, statement: str, *args: object) -> Sequence[Any]:
        rows: Sequence[Any] = await self._connection.fetch(statement, *args)
        return rows


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


def _changed(document: Document) -> Rejected:
    return Rejected(document.key, "changed", "another document with this id is stored already", _raw(document))


def _raw(document: Document) -> str:
    """Return what is stored of one that was not known to be bad."""
    return json.dumps(
        {
            "_id": document.key,
            "event_timestamp": document.at.isoformat(),
            "source": document.source,
            "event_type": document.event_type,
            "payload": document.payload,
            "meta": document.meta,
        }
    )
