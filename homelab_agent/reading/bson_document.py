"""One document of MongoDB becomes one that is stored, or is told what is wrong with it; nothing here asks a server.

Each is decoded by itself: one that the decoder refuses takes no other with it.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from homelab_agent.reading import safe_json
from homelab_agent.reading.document import (
    Arrived,
    Document,
    Rejected,
    Unfit,
    as_json,
    is_hashed,
    moment,
    names,
    short_key,
    text,
)

_STRICT: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_BARE = _STRICT.with_options(unicode_decode_error_handler="replace", uuid_representation=UuidRepresentation.UNSPECIFIED)
_CANONICAL = json_util.CANONICAL_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
)
_AS_IT_CAME = _CANONICAL.with_options(uuid_representation=UuidRepresentation.UNSPECIFIED)
"""An id goes back to its source: a UUID there is bytes of one of two types, which a `uuid.UUID` does not say."""

_OBJECT_ID = re.compile(r"[0-9a-f]{24}")

_OURS = frozenset({"_id", "status", "processed_at", "sync_run"})
"""What is the queue's, not the document's."""

_NOT_MORE = _OURS | {"event_timestamp", "source", "event_type", "payload", "meta"}


def key_of(id_: Any) -> str:
    """Return an id's text: an ObjectId's 24 hexadecimal digits, any other one's canonical extended JSON."""
    if isinstance(id_, ObjectId):
        return str(id_)
    return short_key(_extended(id_))


def id_of(key: str) -> Any:
    """Return the id of a text that `key_of` has made; raises ValueError for that of one too long."""
    if _OBJECT_ID.fullmatch(key):
        return ObjectId(key)
    return json_util.loads(key, json_options=_AS_IT_CAME)


def id_in(kept: str) -> Any:
    """Return the id of a rejected document of which this is kept (`Rejected.raw`)."""
    found = json.loads(kept)
    if "$bson" in found:
        return bare_id(base64.b64decode(found["$bson"]))
    return json_util.loads(json.dumps(found["_id"]), json_options=_AS_IT_CAME)


def bare_id(raw: bytes) -> Any:
    """Return the `_id` of a document of which nothing else need make sense."""
    return bson.decode(raw, _BARE).get("_id")


def statuses(documents: bytes) -> list[tuple[str, str]]:
    """Return key and status of documents, end to end, of which nothing else need make sense."""
    return [(key_of(one.get("_id")), str(one.get("status", ""))) for one in bson.decode_all(documents, _BARE)]


def read(raw: bytes, *, max_bytes: int) -> Arrived:
    """Return what the document is."""
    try:
        found = bson.decode(raw, _STRICT)
    except (BSONError, ValueError, OverflowError, RecursionError) as error:
        return Rejected(key_of(bare_id(raw)), "undecodable", str(error)[:500], _whole(raw))
    key = key_of(found.get("_id"))
    try:
        if len(raw) > max_bytes:
            raise Unfit("too_large", f"it has {len(raw)} bytes; {max_bytes} are taken")
        return _document(key, found)
    except Unfit as unfit:
        return Rejected(key, unfit.cause, unfit.detail, _extended(found))
    except RecursionError:
        return Rejected(key, "undecodable", "it is nested too deeply", _whole(raw))


def _extended(found: Any) -> str:
    """Return a document, or a part of it, as canonical extended JSON, in ASCII."""
    return json_util.dumps(found, json_options=_CANONICAL)


def _document(key: str, found: Mapping[str, Any]) -> Document:
    more = {name: value for name, value in found.items() if name not in _NOT_MORE}
    payload, meta = found.get("payload"), found.get("meta")
    told = _plain({} if meta is None else meta, "meta")
    if more:  # what has no column is not lost
        beside = told if isinstance(told, dict) and "document" not in told else {"meta": told}
        told = {**beside, "document": _plain(more, "document")}
    return Document(
        key=key,
        at=_moment(found.get("event_timestamp")),
        source=text(found.get("source"), "source"),
        event_type=text(found.get("event_type"), "event_type"),
        payload=as_json(_plain({} if payload is None else payload, "payload")),
        meta=as_json(told),
        keys=_keys(found),
        whole_id=_extended(found["_id"]) if is_hashed(key) else "",
    )


def _keys(found: Mapping[str, Any]) -> frozenset[str]:
    """Return the names that a document uses, those of its payload with `payload.` before them."""
    payload = found.get("payload")
    inner = (f"payload.{name}" for name in payload) if isinstance(payload, dict) else ()
    return names((*(name for name in found if name not in _OURS), *inner))


def _moment(value: Any) -> datetime:
    match value:
        case DatetimeMS():
            raise Unfit("date", f"event_timestamp is {int(value)} ms from 1970, beyond the year 9999 or before 1")
        case Timestamp():
            return value.as_datetime()
        case Decimal128():
            return moment(str(value), "event_timestamp")
        case _:
            return moment(value, "event_timestamp")


def _plain(value: Any, name: str) -> Any:
    """Return what JSON knows for what BSON knows; raises `Unfit`."""
    return safe_json.plain(value, name, _special)


def _special(value: Any, name: str) -> Any:
    """Return the same for a type that only BSON has."""
    match value:
        case datetime():
            return _iso(value)
        case Timestamp():
            return _iso(value.as_datetime())
        case DatetimeMS():
            raise Unfit("date", f"{name} is {int(value)} ms from 1970, beyond the year 9999 or before 1")
        case Decimal128() if not value.to_decimal().is_finite():
            raise Unfit("not_finite", f"{name} is {value}")
        case ObjectId() | Decimal128() | uuid.UUID():
            return str(value)
        case Binary() | bytes():
            return base64.b64encode(value).decode("ascii")
        case _:  # regular expressions, code, references, the least and the greatest key: as extended JSON has them
            return _plain(json.loads(json_util.dumps(value, json_options=_CANONICAL)), name)


def _iso(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _whole(raw: bytes) -> str:
    return json.dumps({"$bson": base64.b64encode(raw).decode("ascii")})
