"""What a document of MongoDB becomes: a row, or a rejection that says why; whatever it holds."""

from __future__ import annotations

import contextlib
import json
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson.binary import OLD_UUID_SUBTYPE, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.reading import bson_document, document
from homelab_agent.reading.document import Document, Rejected, Unfit

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
ID = ObjectId("6b0b3985465c3d29b0657ec8")
_WRITING: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


def read(**fields: Any) -> Document | Rejected:
    found: Mapping[str, Any] = {"_id": ID, "event_timestamp": NOON, "status": "ingested", **fields}
    return bson_document.read(bson.encode(found, codec_options=_WRITING), max_bytes=1024 * 1024)


def good(**fields: Any) -> Document:
    found = read(**fields)
    assert isinstance(found, Document), found
    return found


def bad(**fields: Any) -> Rejected:
    found = read(**fields)
    assert isinstance(found, Rejected), found
    return found


@pytest.mark.parametrize(
    "written",
    [
        NOON,
        NOON.astimezone(timezone(timedelta(hours=2))),
        "2026-11-28T12:00:00Z",
        "2026-11-28T14:00:00+02:00",
        "2026-11-28 12:00:00",
        1795867200,
        1795867200.0,
        Int64(1795867200000),
        1795867200000000,
        "1795867200",
        Decimal128("1795867200"),
        Timestamp(1795867200, 1),
    ],
)
def test_a_time_is_understood_however_it_is_written(written: object) -> None:
    assert good(event_timestamp=written).at == NOON


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        (None, "no_time"),
        ("", "no_time"),
        (True, "mixed"),
        ([NOON], "mixed"),
        ({"$date": 1}, "mixed"),
        ("yesterday", "date"),
        ("2026-13-01", "date"),
        (10.0**300, "date"),
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
        (DatetimeMS(2**60), "date"),
        (DatetimeMS(-(2**60)), "date"),
        (Decimal128("NaN"), "date"),
    ],
)
def test_what_is_no_time_is_rejected(written: object, cause: str) -> None:
    assert bad(event_timestamp=written).cause == cause


def test_a_document_without_a_time_is_rejected_whole() -> None:
    found = bson_document.read(bson.encode({"_id": ID, "payload": {"a": 1}}), max_bytes=1024)
    assert isinstance(found, Rejected)
    assert (found.key, found.cause) == (str(ID), "no_time")
    assert json.loads(found.raw) == {"_id": {"$oid": str(ID)}, "payload": {"a": {"$numberInt": "1"}}}


@pytest.mark.parametrize(
    ("payload", "cause", "detail"),
    [
        ({"a": [1, {"b": math.nan}]}, "not_finite", "payload.a[1].b is nan"),
        ({"a": -math.inf}, "not_finite", "payload.a is -inf"),
        ({"a": Decimal128("Infinity")}, "not_finite", "payload.a is Infinity"),
        ({"a": "x\0y"}, "nul", "payload.a holds a NUL"),
        ({"a": DatetimeMS(2**60)}, "date", f"payload.a is {2**60} ms from 1970, beyond the year 9999 or before 1"),
        ({"a": "x" * 1024 * 1024}, "too_large", None),
    ],
)
def test_what_postgresql_cannot_hold_is_rejected_and_kept(payload: object, cause: str, detail: str | None) -> None:
    found = bad(payload=payload)
    assert found.cause == cause
    assert detail is None or found.detail == detail
    assert found.raw.isascii()
    assert "\0" not in found.raw


def test_what_only_bson_knows_is_said_in_json() -> None:
    own = uuid.UUID(int=7)
    payload = {
        "id": ID,
        "when": NOON,
        "price": Decimal128("1.10"),
        "bytes": Binary(b"\0\1"),
        "uuid": own,
        "large": Int64(2**62),
        "pattern": Regex("^a", "i"),
        "code": Code("f()"),
        "top": MaxKey(),
        "a.b": {"$c": None},
    }
    assert json.loads(good(payload=payload).payload) == {
        "id": str(ID),
        "when": "2026-11-28T12:00:00Z",
        "price": "1.10",
        "bytes": "AAE=",
        "uuid": str(own),
        "large": 2**62,
        "pattern": {"$regularExpression": {"pattern": "^a", "options": "i"}},
        "code": "f()",
        "top": {"$maxKey": 1},
        "a.b": {"$c": None},
    }


def test_names_of_mixed_types_become_texts_and_what_has_no_column_is_not_lost() -> None:
    found = good(source=5, event_type=None, meta={"device": "phone"}, rating=4.5, tags=["a"])
    assert (found.source, found.event_type) == ("5", "unknown")
    assert json.loads(found.meta) == {"device": "phone", "document": {"rating": 4.5, "tags": ["a"]}}
    assert found.keys == {"event_timestamp", "source", "event_type", "meta", "rating", "tags"}
    assert bad(source={"name": "pocket"}).cause == "mixed"


@pytest.mark.parametrize("meta", [{"document": "its own"}, "a text"])
def test_what_has_no_column_replaces_nothing_of_the_same_name(meta: object) -> None:
    assert json.loads(good(meta=meta, rating=5).meta) == {"meta": meta, "document": {"rating": 5}}


def test_a_rejected_document_is_kept_with_the_uuids_in_it() -> None:
    found = bson_document.read(bson.encode({"_id": 1, "own": Binary.from_uuid(uuid.UUID(int=7))}), max_bytes=1024)
    assert isinstance(found, Rejected)
    assert found.cause == "no_time"
    assert "00000000-0000-0000-0000-000000000007" in found.raw or "$binary" in found.raw


def test_a_text_that_is_no_utf_8_is_rejected_with_its_bytes() -> None:
    raw = bson.encode({"_id": ID, "event_timestamp": NOON, "source": "abc"}).replace(b"abc", b"\xff\xfe\xfd")
    found = bson_document.read(raw, max_bytes=1024)
    assert isinstance(found, Rejected)
    assert (found.key, found.cause) == (str(ID), "undecodable")
    assert "$bson" in found.raw


UUID, OLD_UUID = Binary.from_uuid(uuid.UUID(int=7)), Binary(uuid.UUID(int=7).bytes, OLD_UUID_SUBTYPE)
IDS = [ID, str(ID), 7, "7", 7.0, NOON, {"a": 1, "b": [2]}, b"x", None, "é\0", DatetimeMS(2**60)]


@pytest.mark.parametrize("own", [*IDS, UUID, OLD_UUID, {"user": UUID, "number": 1}])
def test_an_id_is_known_by_a_text_that_leads_back_to_it_and_goes_back_as_it_came(own: object) -> None:
    raw = bson.encode({"_id": own})
    key = bson_document.key_of(bson_document.bare_id(raw))
    assert key.isascii()
    assert bson_document.key_of(bson_document.id_of(key)) == key
    for back in (bson_document.id_of(key), bson_document.bare_id(raw), bson_document.id_in(_kept(own))):
        assert bson.encode({"_id": back}) == raw


def _kept(own: object) -> str:
    """Return what is kept of a document with this id that has no time."""
    found = read(_id=own, event_timestamp=None)
    assert isinstance(found, Rejected)
    return found.raw


def test_ids_of_several_types_are_never_mistaken_for_one_another() -> None:
    owns = [ID, str(ID), 7, "7", Int64(7), 7.0, True, "true", None, "null", {"a": 7}]
    assert len({bson_document.key_of(own) for own in owns}) == len(owns)


def test_an_id_too_long_for_an_index_is_known_by_its_hash() -> None:
    key = bson_document.key_of("x" * 5000)
    assert key.startswith("sha256:")
    assert len(key) < 100


def test_the_same_content_has_the_same_hash_in_whatever_order() -> None:
    one, other = good(payload={"a": 1, "b": 2}), good(payload={"b": 2, "a": 1}, status="processed")
    assert one.content_hash == other.content_hash
    assert good(payload={"a": 2, "b": 2}).content_hash != one.content_hash


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.integers(-(2**62), 2**62).map(DatetimeMS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text().filter(lambda key: "\0" not in key), inner),
    max_leaves=10,
)


@given(when=_VALUES, source=_VALUES, payload=_VALUES, meta=_VALUES)
def test_any_document_is_a_row_or_a_rejection(when: Any, source: Any, payload: Any, meta: Any) -> None:
    found = read(event_timestamp=when, source=source, payload=payload, meta=meta)
    if isinstance(found, Document):
        assert found.at.tzinfo is UTC
        for text in (found.payload, found.meta):
            json.loads(text, parse_constant=pytest.fail)
            assert "\\u0000" not in text
            text.encode()
    else:
        assert found.raw.isascii()
        assert "\0" not in found.raw


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none()))
def test_any_value_is_a_time_or_unfit(value: Any) -> None:
    with contextlib.suppress(Unfit):
        assert document.moment(value, "at").tzinfo is UTC
