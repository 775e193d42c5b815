"""A stand-in for MongoDB, for documents that FerretDB cannot hold and for connections cut at a given moment.

It speaks OP_MSG (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/) and knows the few commands that
the driver and the tests send; one collection, in memory, without log-in. The contract tests of FerretDB hold for it.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from homelab_agent.reading.bson_document import bare_id, key_of

_LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
_HEADER = struct.Struct("<iiii")
_OP_MSG, _OP_REPLY, _OP_QUERY = 2013, 1, 2004
_ORDER = (int, float, str, dict, bytes, ObjectId)
"""In which order MongoDB sorts the types of ids that the tests have."""

When = Literal["before", "after"]


@dataclass(slots=True)
class Hold:
    """A command that is not done before it is `let_go`, or never where it `is_lost`; `reached` once it has come."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    is_lost: bool = False


class _Held(NamedTuple):
    """A document by its key, as it was sent and as it is read."""

    key: str
    raw: bytes
    document: Mapping[str, Any]


class StandIn:
    """The server; `cut` ends a connection with a command to come, before or after it is done, `hold` keeps it waiting.

    Both are for the command that is the next of its name, or the so manyth.
    """

    def __init__(self) -> None:
        self.port = 0
        self.documents: dict[str, bytes] = {}
        self._cursors: dict[int, list[RawBSONDocument]] = {}
        self._numbers = itertools.count(1)
        self._cuts: dict[tuple[str, When], int] = {}
        self._holds: dict[str, tuple[int, Hold]] = {}
        self._refusals: dict[str, tuple[int, str]] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """What goes into a source's `url`."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def insert(self, documents: Sequence[Mapping[str, Any] | bytes]) -> None:
        """Put documents into the collection: whatever BSON holds, or bytes that are none."""
        for one in documents:
            raw = one if isinstance(one, bytes) else bson.encode(one)
            self.documents[key_of(bare_id(raw))] = raw

    def statuses(self) -> dict[Any, str]:
        """Return how each document is marked, by id."""
        return {bare_id(raw): _lenient(raw).get("status", "") for raw in self.documents.values()}

    def cut(self, command: str, when: When, *, number: int = 1) -> None:
        """End the connection with a command."""
        self._cuts[command, when] = number

    def hold(self, command: str, *, number: int = 1) -> Hold:
        """Keep a command waiting."""
        self._holds[command] = number, (hold := Hold())
        return hold

    def refuse(self, command: str, code: int, name: str) -> None:
        """Answer a command with an error of MongoDB's from now on."""
        self._refusals[command] = code, name

    def allow(self, command: str) -> None:
        """Answer a command again."""
        del self._refusals[command]

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End it, with all connections."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._connections):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, request, _, opcode = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                command = _parse(opcode, await reader.readexactly(length - _HEADER.size))
                name = next(iter(command))
                if self._is_cut(name, "before"):
                    break
                if await self._waits_in_vain(name):
                    break
                answer = bson.encode(self._answer(name, command))
                if self._is_cut(name, "after"):
                    break
                writer.write(_reply(opcode, next(self._numbers), request, answer))
                await writer.drain()
        self._connections.discard(writer)
        writer.close()

    def _is_cut(self, name: str, when: When) -> bool:
        left = self._cuts.get((name, when), 0)
        self._cuts[name, when] = max(left - 1, 0)
        return left == 1

    async def _waits_in_vain(self, name: str) -> bool:
        left, hold = self._holds.get(name, (0, None))
        if hold is None:
            return False
        self._holds[name] = left - 1, hold
        if left != 1:
            return False
        hold.reached.set()
        await hold.let_go.wait()
        return hold.is_lost

    def _answer(self, name: str, command: Mapping[str, Any]) -> Mapping[str, Any]:
        if name in self._refusals:
            code, word = self._refusals[name]
            return {"ok": 0.0, "code": code, "codeName": word, "errmsg": "refused"}
        return {**self._do(name, command), "ok": 1.0}

    def _do(self, name: str, command: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: PLR0911 - one for each command
        match name:
            case "hello" | "ismaster" | "isMaster":
                sizes = {"maxBsonObjectSize": 2**24, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000}
                return {"ismaster": True, "helloOk": True, "minWireVersion": 0, "maxWireVersion": 21, **sizes}
            case "find":
                return self._find(command)
            case "getMore":
                return self._more(command["getMore"], command["collection"], "nextBatch", command.get("batchSize"))
            case "insert":
                self.insert([one.raw for one in command["documents"]])
                return {"n": len(command["documents"])}
            case "update":
                return self._update(command["updates"])
            case "aggregate":  # of count_documents
                count = len(self._matching(command["pipeline"][0]["$match"]))
                return {"cursor": {"firstBatch": [{"n": count}] if count else [], "id": 0, "ns": "a.b"}}
            case "ping" | "endSessions" | "killCursors":
                return {}
            case _:
                raise AssertionError(f"the stand-in does not know {name}")

    def _find(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        found = self._matching(command.get("filter", {}))
        found.sort(key=lambda one: _rank(one.document.get("_id")))
        found = found[: command.get("limit") or None]
        fields = [*command.get("projection", {})]
        cursor = next(self._numbers)
        self._cursors[cursor] = [RawBSONDocument(_projected(one, fields)) for one in found]
        return self._more(cursor, command["find"], "firstBatch", command.get("batchSize", 101))

    def _more(self, cursor: int, collection: str, name: str, size: int | None) -> Mapping[str, Any]:
        found = self._cursors.pop(cursor)
        size = size or len(found)
        if found[size:]:
            self._cursors[cursor] = found[size:]
        return {"cursor": {name: found[:size], "id": cursor if found[size:] else 0, "ns": f"a.{collection}"}}

    def _update(self, updates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        done = 0
        for update in updates:
            for one in self._matching(update["q"]):
                self.documents[one.key] = bson.encode({**one.document, **update["u"]["$set"]})
                done += 1
        return {"n": done, "nModified": done}

    def _matching(self, wanted: Mapping[str, Any]) -> list[_Held]:
        match wanted.get("_id"):
            case {"$in": ids, **more} if not more:
                keys, rest = [key_of(one) for one in ids], _without_id(wanted)
            case ObjectId() as one:
                keys, rest = [key_of(one)], _without_id(wanted)
            case _:
                keys, rest = [*self.documents], wanted
        held = (_Held(key, raw, _lenient(raw)) for key in keys if (raw := self.documents.get(key)) is not None)
        return [one for one in held if _matches(one.document, rest)]


@asynccontextmanager
async def running() -> AsyncIterator[StandIn]:
    """Run one on the test's own loop."""
    server = StandIn()
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def _parse(opcode: int, body: bytes) -> dict[str, Any]:
    """Return a command; the documents of its sequences are left as they came."""
    if opcode == _OP_QUERY:  # the first greeting of a driver that does not know yet whom it meets
        start = body.index(b"\0", 4) + 9
        return _lenient(body[start : start + struct.unpack_from("<i", body, start)[0]])
    command: dict[str, Any] = {}
    position = 4
    while position < len(body):
        kind, position = body[position], position + 1
        (size,) = struct.unpack_from("<i", body, position)
        section = body[position : position + size]
        if kind == 0:
            command = {**_lenient(section), **command}
        else:
            name, _, rest = section[4:].partition(b"\0")
            parts = _split(rest)
            command[name.decode()] = [RawBSONDocument(one) if name == b"documents" else _lenient(one) for one in parts]
        position += size
    return command if not command.get("documents") else {"insert": command["insert"], **command}


def _split(data: bytes) -> list[bytes]:
    found = []
    while data:
        (size,) = struct.unpack_from("<i", data)
        found.append(data[:size])
        data = data[size:]
    return found


def _reply(opcode: int, number: int, request: int, answer: bytes) -> bytes:
    if opcode == _OP_QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + answer
        return _HEADER.pack(_HEADER.size + len(body), number, request, _OP_REPLY) + body
    body = struct.pack("<I", 0) + b"\0" + answer
    return _HEADER.pack(_HEADER.size + len(body), number, request, _OP_MSG) + body


def _lenient(raw: bytes) -> dict[str, Any]:
    return bson.decode(raw, _LENIENT)


def _projected(held: _Held, fields: Sequence[str]) -> bytes:
    if not fields:
        return held.raw
    return bson.encode({name: held.document[name] for name in ("_id", *fields) if name in held.document})


def _rank(value: Any) -> tuple[int, Any]:
    place = next((number for number, kind in enumerate(_ORDER) if isinstance(value, kind)), len(_ORDER))
    return (0, value) if place < 2 else (place, str(value) if place in {3, len(_ORDER)} else value)


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda one, other: type(one) is type(other) and one > other,
    "$gte": lambda one, other: type(one) is type(other) and one >= other,
    "$lt": lambda one, other: type(one) is type(other) and one < other,
    "$in": lambda one, others: one in others,
    "$type": lambda one, kind: kind == "objectId" and isinstance(one, ObjectId),
    "$not": lambda one, inner: not _fits(one, inner),
}


def _without_id(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is left to look at in a document that was found by its id."""
    return {name: condition for name, condition in wanted.items() if name != "_id"}


def _matches(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(
        any(_matches(found, one) for one in condition) if name == "$or" else _fits(found.get(name), condition)
        for name, condition in wanted.items()
    )


def _fits(value: Any, condition: Any) -> bool:
    if isinstance(condition, dict) and condition and all(key.startswith("$") for key in condition):
        return all(_COMPARISONS[name](value, other) for name, other in condition.items())
    return bool(value == condition)
