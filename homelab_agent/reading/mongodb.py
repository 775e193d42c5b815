"""MongoDB as a reading source: what has the status `ingested` is to be taken, and then gets another.

A mark is conditional, so that whoever changed a document's status meanwhile is not overruled, and made after PostgreSQL
has committed: who is killed in between finds the document again, and in PostgreSQL that it is there.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import bson
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, ConnectionFailure, ExecutionTimeout, OperationFailure, PyMongoError

from homelab_agent.core.errors import AgentError
from homelab_agent.core.secret import Secrets
from homelab_agent.reading import bson_document
from homelab_agent.reading.credentials import Credentials
from homelab_agent.reading.document import KEY_BYTES_MAX, LATEST, Arrived, Batch, Status, Window, is_hashed
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.source import NotLetIn, SourceRefuses, SourceUnreachable

TO_TAKE = "ingested"

_TIMELESS: Mapping[str, Any] = MappingProxyType({"_id": {"$not": {"$type": "objectId"}}})

_LENGTH = struct.Struct("<i")
_STATUSES = 5000
_PATIENCE_MS = 5_000
_ANSWER_MS = 60_000
_BATCH_BYTES = 8 * 1024 * 1024
"""A batch ends early with so many bytes, and so do the ids of a command: a document and a command may have 16 MB."""

_NOT_LET_IN = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, AtlasError (https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml)."""

_GOES_ON_AFTER = frozenset({1, 6, 7, 43, 50, 89, 91, 136, 189, 9001, 10107, 11600, 11602, 13435, 13436})
"""What a server says that ends, fails over, is late or has forgotten the cursor; asked anew it may well answer."""


class MongoSource:
    """One collection; `batch` documents are given at a time, larger ones than `max_bytes` rejected."""

    def __init__(self, settings: ReadingSource, secrets: Secrets, *, batch: int, max_bytes: int) -> None:
        self.name = settings.name
        self.marks_rejected = settings.on_reject == "mark"
        self._settings = settings
        self._batch = batch
        self._max_bytes = max_bytes
        self._credentials = Credentials(settings, secrets, self._try_out)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OpenedMongo]:
        """Reach it, with the credentials as they are now."""
        url, password = await self._credentials.current()
        with _said(self.name):
            client = await asyncio.to_thread(self._client, url, password)  # it reads certificates
        decoder = ThreadPoolExecutor(1, thread_name_prefix="reading")
        try:
            with _said(self.name):
                await client.admin.command("ping")
            collection = client[self._settings.database][self._settings.collection]
            yield OpenedMongo(self.name, collection, decoder, batch=self._batch, max_bytes=self._max_bytes)
        finally:
            await client.close()
            decoder.shutdown(wait=False)

    async def _try_out(self, url: str, password: str) -> None:
        """Say whether one is let in with these; raises what is wrong."""
        with _said(self.name):
            client = await asyncio.to_thread(self._client, url, password)
        try:
            with _said(self.name):
                await client[self._settings.database][self._settings.collection].find_one({}, {"_id": 1})
        finally:
            await client.close()

    def _client(self, url: str, password: str) -> AsyncMongoClient[dict[str, Any]]:
        given: dict[str, Any] = {"password": password} if password else {}
        return AsyncMongoClient(
            url,
            appname="homelab-agent",
            serverSelectionTimeoutMS=_PATIENCE_MS,
            connectTimeoutMS=_PATIENCE_MS,
            socketTimeoutMS=_ANSWER_MS,
            maxPoolSize=4,
            retryWrites=False,  # a mark is made anew by the next run; older servers and FerretDB know no sessions
            **given,
        )


class OpenedMongo:
    """A collection that is reached: an `Opened` and a `Keeper`."""

    def __init__(
        self,
        name: str,
        collection: AsyncCollection[dict[str, Any]],
        decoder: ThreadPoolExecutor,
        *,
        batch: int,
        max_bytes: int,
    ) -> None:
        """Documents are decoded by `decoder`, beside the loop."""
        self._name = name
        self._collection = collection
        self._decoder = decoder
        self._batch = batch
        self._max_bytes = max_bytes
        self._long: dict[str, Any] = {}

    async def batches(self, cursor: Mapping[str, Any], window: Window | None) -> AsyncGenerator[Batch]:
        """Give all documents that are to be taken, in the order of their ids; of a window also those that were taken.

        The status alone says what is to be taken, so `cursor` counts only for what was taken.
        """
        after = "" if window is None else str(cursor.get("after", ""))
        wanted = {"status": TO_TAKE} if window is None else _again(window, after)
        async for raw in self._batches_of(wanted):
            loop = asyncio.get_running_loop()
            arrived, long = await loop.run_in_executor(self._decoder, self._read, raw)
            self._long.update(long)
            yield Batch(arrived, {"after": max(after, arrived[-1].key)})

    async def acknowledge(self, keys: Sequence[str], status: Status, run: str) -> int:
        """Give documents that are still to be taken another status."""
        ids = {key: self._long.pop(key) if key in self._long else bson_document.id_of(key) for key in keys}
        change = {"status": status, "processed_at": datetime.now(UTC), "sync_run": run}
        marked = 0
        for part in _in_parts(ids):
            of_these = {"_id": {"$in": [*part.values()]}}
            with _said(self._name):
                done = await self._collection.update_many({**of_these, "status": TO_TAKE}, {"$set": change})
            marked += done.modified_count
        return marked

    async def left(self, window: Window | None) -> int | None:
        """Return how many documents are to be taken."""
        with _said(self._name):
            return await self._collection.count_documents({"status": TO_TAKE} if window is None else _again(window))

    def kept(self, window: Window) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Give key and status of what has an ObjectId of the window."""
        return self._statuses(_of(window))

    def kept_otherwise(self) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Give key and status of what has an id of another type."""
        return self._statuses(_TIMELESS)

    async def timeless(self) -> int:
        """Return how many documents have an id of another type."""
        with _said(self._name):
            return await self._collection.count_documents({**_TIMELESS, "status": {"$in": [TO_TAKE, "processed"]}})

    async def reopen(self, wanted: Mapping[str, str]) -> Mapping[str, str]:
        """Give rejected documents the status of what is to be taken; of what has another status now that is why not."""
        ids = {
            key: bson_document.id_in(kept) if is_hashed(key) else bson_document.id_of(key)
            for key, kept in wanted.items()
        }
        lost: dict[str, str] = {}
        for part in _in_parts(ids):
            of_these = {"_id": {"$in": [*part.values()]}}
            with _said(self._name):
                await self._collection.update_many({**of_these, "status": "rejected"}, {"$set": {"status": TO_TAKE}})
            now = {key: status async for batch in self._statuses(of_these) for key, status in batch}
            lost |= {key: _why_lost(now.get(key)) for key in part if now.get(key) != TO_TAKE}
        return lost

    async def _batches_of(self, wanted: Mapping[str, Any]) -> AsyncIterator[list[bytes]]:
        """Give documents as they came, so many or so large at a time."""
        batch: list[bytes] = []
        size = 0
        async with aclosing(self._found(wanted, batch_size=self._batch)) as answers:
            async for answer in answers:
                for one in _parts(answer):
                    batch.append(one)
                    size += len(one)
                    if len(batch) >= self._batch or size >= _BATCH_BYTES:
                        yield batch
                        batch, size = [], 0
        if batch:
            yield batch

    async def _statuses(self, wanted: Mapping[str, Any]) -> AsyncGenerator[Sequence[tuple[str, str]]]:
        async with aclosing(self._found(wanted, {"status": 1}, batch_size=_STATUSES)) as answers:
            async for answer in answers:
                yield bson_document.statuses(answer)

    async def _found(
        self, wanted: Mapping[str, Any], fields: Mapping[str, Any] | None = None, *, batch_size: int
    ) -> AsyncGenerator[bytes]:
        """Give what is found in the order of its ids, answer by answer: documents as they came, end to end."""
        with _said(self._name):
            cursor: Any = self._collection.find_raw_batches(wanted, fields, batch_size=batch_size).sort("_id", 1)
        try:
            while True:
                with _said(self._name):
                    answer = await anext(cursor, None)
                if answer is None:
                    break
                yield answer
        finally:
            with suppress(PyMongoError):
                await cursor.close()

    def _read(self, raw: Sequence[bytes]) -> tuple[list[Arrived], dict[str, Any]]:
        """Decode, and note the ids whose text does not say what they are."""
        arrived = [bson_document.read(one, max_bytes=self._max_bytes) for one in raw]
        long = {
            one.key: bson_document.bare_id(data) for one, data in zip(arrived, raw, strict=True) if is_hashed(one.key)
        }
        return arrived, long


def _parts(documents: bytes) -> Iterator[bytes]:
    """Give one document after the other; each begins with its length (https://bsonspec.org/spec.html)."""
    first = 0
    while first < len(documents):
        (length,) = _LENGTH.unpack_from(documents, first)
        yield documents[first : first + length]
        first += length


def _in_parts(ids: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give ids by their keys, so many at a time as fit into a command."""
    part: dict[str, Any] = {}
    size = 0
    for key, one in ids.items():
        more = len(bson.encode({"": one})) if is_hashed(key) else KEY_BYTES_MAX
        if part and size + more > _BATCH_BYTES:
            yield part
            part, size = {}, 0
        part[key] = one
        size += more
    if part:
        yield part


def _again(window: Window, after: str = "") -> dict[str, Any]:
    """Return what finds the documents of a window that are to be taken, or were; not those that are somebody else's.

    Of those that were taken it finds what comes after the id `after`. What is to be taken may be stored already, by who
    was cut short before it was marked.
    """
    later = {"_id": {"$gt": bson_document.id_of(after)}} if after else {}
    return {**_of(window), "$or": [{"status": TO_TAKE}, {"status": "processed", **later}]}


def _of(window: Window) -> dict[str, Any]:
    """Return what finds the ObjectIds of a window."""
    bounds: dict[str, Any] = {}
    if window.since is not None:
        bounds["$gte"] = ObjectId.from_datetime(window.since)
    if window.until is not None and window.until <= LATEST:  # of the last day there is no id that is later
        bounds["$lt"] = ObjectId.from_datetime(window.until)
    return {"_id": {"$type": "objectId", **bounds}}


def _why_lost(status: str | None) -> str:
    """Return why a document is not given again that has this status, or is gone."""
    return "it is not at the source any more" if status is None else f"at the source its status is {status!r} now"


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Have what the driver raises said in our words, without the address: that may hold a password."""
    try:
        yield
    except AgentError:
        raise
    except OperationFailure as error:
        cause = f"{error.details.get('codeName') or error.code}: {_reason(error)}" if error.details else _reason(error)
        if error.code in _GOES_ON_AFTER or isinstance(error, ExecutionTimeout):
            raise SourceUnreachable(source=name, cause=cause) from None
        if error.code in _NOT_LET_IN:
            raise NotLetIn(source=name, cause=cause) from None
        raise SourceRefuses(source=name, cause=cause) from None
    except ConnectionFailure as error:
        raise SourceUnreachable(source=name, cause=_reason(error)) from None
    except ConfigurationError as error:
        raise SourceRefuses(source=name, cause=_reason(error)) from None
    except PyMongoError as error:
        raise SourceUnreachable(source=name, cause=f"{type(error).__name__}: {_reason(error)}") from None


def _reason(error: PyMongoError) -> str:
    """Return the first line of what the driver says; what follows is its picture of the servers."""
    return str(error).split(", Timeout:")[0].split(", full error:")[0].splitlines()[0][:300]
