"""MongoDB as a reading source: what has the status `ingested` is to be taken, and then gets another.

A mark is conditional, so that whoever changed a document's status meanwhile is not overruled, and made after PostgreSQL
has committed: who is killed in between finds the document again, and in PostgreSQL that it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, ConnectionFailure, ExecutionTimeout, OperationFailure, PyMongoError

from homelab_agent.core.errors import AgentError
from homelab_agent.core.secret import Secrets
from homelab_agent.reading import bson_document
from homelab_agent.reading.credentials import Credentials
from homelab_agent.reading.document import Arrived, Batch, Status, Window
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.source import NotLetIn, SourceRefuses, SourceUnreachable

TO_TAKE = "ingested"

_PATIENCE_MS = 5_000
_ANSWER_MS = 60_000
_BATCH_BYTES = 8 * 1024 * 1024
"""A batch ends early with so many bytes: a document may have 16 MB."""

_NOT_LET_IN = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, AtlasError (https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml)."""

_GOES_ON_AFTER = frozenset({1, 6, 7, 43, 50, 89, 91, 136, 189, 9001, 10107, 11600, 11602, 13435, 13436})
"""What a server says that ends, fails over, is late or has forgotten the cursor; asked anew it may well answer."""

_Raw: TypeAlias = AsyncCollection[RawBSONDocument]


class MongoSource:
    """One collection; `batch` documents are given at a time, larger ones than `max_bytes` rejected."""

    def __init__(self, settings: ReadingSource, secrets: Secrets, *, batch: int, max_bytes: int) -> None:
        self.name = settings.name
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

    def _client(self, url: str, password: str) -> AsyncMongoClient[RawBSONDocument]:
        given: dict[str, Any] = {"password": password} if password else {}
        return AsyncMongoClient(
            url,
            document_class=RawBSONDocument,
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

    def __init__(self, name: str, collection: _Raw, decoder: ThreadPoolExecutor, *, batch: int, max_bytes: int) -> None:
        """Documents are decoded by `decoder`, beside the loop."""
        self._name = name
        self._collection = collection
        self._decoder = decoder
        self._batch = batch
        self._max_bytes = max_bytes
        self._long: dict[str, Any] = {}

    async def batches(self, cursor: Mapping[str, Any], window: Window | None) -> AsyncGenerator[Batch]:
        """Give all documents that are to be taken, in the order of their ids; of a window also those that were taken.

        The status alone says what is to be taken, so `cursor` counts only within a window.
        """
        wanted = {"status": TO_TAKE} if window is None else _again(window, after=str(cursor.get("after", "")))
        async for raw in self._batches_of(wanted):
            loop = asyncio.get_running_loop()
            arrived, long = await loop.run_in_executor(self._decoder, self._read, raw)
            self._long.update(long)
            yield Batch(arrived, {"after": arrived[-1].key})

    async def acknowledge(self, keys: Sequence[str], status: Status, run: str) -> int:
        """Give documents that are still to be taken another status."""
        ids = [self._long[key] if key in self._long else bson_document.id_of(key) for key in keys]
        change = {"status": status, "processed_at": datetime.now(UTC), "sync_run": run}
        with _said(self._name):
            done = await self._collection.update_many({"_id": {"$in": ids}, "status": TO_TAKE}, {"$set": change})
        return done.modified_count

    async def left(self, window: Window | None) -> int | None:
        """Return how many documents are to be taken."""
        with _said(self._name):
            return await self._collection.count_documents({"status": TO_TAKE} if window is None else _again(window))

    def kept(self, window: Window) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Give key and status of what has an ObjectId of the window."""
        return self._statuses(_of(window))

    def kept_otherwise(self) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Give key and status of what has an id of another type."""
        return self._statuses({"_id": {"$not": {"$type": "objectId"}}})

    async def reopen(self, keys: Sequence[str]) -> int:
        """Give rejected documents the status of what is to be taken."""
        ids = []
        for key in keys:
            with suppress(ValueError):  # that of a very long id does not lead back to it: it stays rejected
                ids.append(bson_document.id_of(key))
        with _said(self._name):
            done = await self._collection.update_many(
                {"_id": {"$in": ids}, "status": "rejected"}, {"$set": {"status": TO_TAKE}}
            )
        return done.modified_count

    async def _batches_of(self, wanted: Mapping[str, Any]) -> AsyncIterator[list[bytes]]:
        """Give documents as they came, so many or so large at a time."""
        batch: list[bytes] = []
        size = 0
        with _said(self._name):
            cursor = self._collection.find(wanted, batch_size=self._batch).sort("_id", 1)
        try:
            while True:
                with _said(self._name):
                    found = await anext(cursor, None)
                if found is None:
                    break
                batch.append(bytes(found.raw))
                size += len(found.raw)
                if len(batch) >= self._batch or size >= _BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
            if batch:
                yield batch
        finally:
            with suppress(PyMongoError):
                await cursor.close()

    async def _statuses(self, wanted: Mapping[str, Any]) -> AsyncIterator[Sequence[tuple[str, str]]]:
        plain: CodecOptions[dict[str, Any]] = CodecOptions()
        collection = self._collection.with_options(plain)
        with _said(self._name):
            cursor = collection.find(wanted, {"status": 1}, batch_size=5000)
        batch: list[tuple[str, str]] = []
        while True:
            with _said(self._name):
                found = await anext(cursor, None)
            if found is None:
                break
            batch.append((bson_document.key_of(found["_id"]), str(found.get("status", ""))))
            if len(batch) >= 1000:
                yield batch
                batch = []
        yield batch

    def _read(self, raw: Sequence[bytes]) -> tuple[list[Arrived], dict[str, Any]]:
        """Decode, and note the ids whose text does not say what they are."""
        arrived = [bson_document.read(one, max_bytes=self._max_bytes) for one in raw]
        long = {
            one.key: bson_document.bare_id(data)
            for one, data in zip(arrived, raw, strict=True)
            if one.key.startswith("sha256:")
        }
        return arrived, long


def _again(window: Window, after: str = "") -> dict[str, Any]:
    """Return what finds the documents of a window that are to be taken, or were; not those that are somebody else's."""
    return {**_of(window, after), "status": {"$in": [TO_TAKE, "processed"]}}


def _of(window: Window, after: str = "") -> dict[str, Any]:
    """Return what finds the ObjectIds of a window; `after` is the last that was taken."""
    bounds: dict[str, Any] = {}
    if window.since is not None:
        bounds["$gte"] = ObjectId.from_datetime(window.since)
    if window.until is not None:
        bounds["$lt"] = ObjectId.from_datetime(window.until)
    if after:
        bounds["$gt"] = bson_document.id_of(after)
        bounds.pop("$gte", None)
    return {"_id": {"$type": "objectId", **bounds}}


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
