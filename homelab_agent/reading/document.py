"""What a source gives, whatever it is: a document that becomes a row, or one that cannot, and why."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from homelab_agent.core.clock import EPOCH

Cause: TypeAlias = Literal[
    "not_finite", "nul", "date", "no_time", "too_large", "mixed", "undecodable", "refused", "changed", "elsewhere"
]
Status: TypeAlias = Literal["processed", "rejected"]

UNKNOWN = "unknown"
"""What stands for a source or an event type that a document does not name."""

KEY_BYTES_MAX = 1000
"""So much of an id fits into an index in any case."""

EARLIEST = EPOCH
LATEST = datetime(2106, 2, 7, tzinfo=UTC)
"""An ObjectId counts the seconds since 1970 in 32 bits: a window beyond these holds none."""

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_HASHED = "sha256:"
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Unfit(Exception):
    """A document that cannot become a row: its `cause` in one word, and the detail."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Document:
    """One event; `payload` and `meta` are JSON. `key` is the id's text, `keys` are the names of what it says.

    With `first_stays` it is usual that it is met again and says something else: the row that is there stays. `whole_id`
    is the id as extended JSON where the source needs it and the key is but its hash.
    """

    key: str
    at: datetime
    source: str
    event_type: str
    payload: str
    meta: str
    keys: frozenset[str] = frozenset()
    first_stays: bool = False
    whole_id: str = ""

    @property
    def content_hash(self) -> bytes:
        """The SHA-256 over all that the document says."""
        said = (self.at.isoformat(), self.source, self.event_type, self.payload, self.meta)
        return hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Rejected:
    """One that cannot become a row, and the whole of it as extended JSON: ASCII, so that any database takes it."""

    key: str
    cause: Cause
    detail: str
    raw: str = field(repr=False)


Arrived: TypeAlias = Document | Rejected


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents in the order of the source, and where it goes on after them."""

    arrived: Sequence[Arrived]
    cursor: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` (with it) to `until` (without); None is no bound."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Return whether a moment lies in it."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def as_json(value: Any) -> str:
    """Return `value` as JSON in one form: the same content is the same text."""
    return _JSON.encode(value)


def text(value: Any, name: str) -> str:
    """Return what names a source or an event type: a text, or a number as text; raises `Unfit`."""
    match value:
        case None | "":
            return UNKNOWN
        case str():
            return checked(value, name)
        case bool() | int() | float():
            return str(value)
        case _:
            raise Unfit("mixed", f"{name} is neither a text nor a number")


def checked(value: str, name: str) -> str:
    """Return a text that PostgreSQL takes; raises `Unfit`."""
    if "\0" in value:
        raise Unfit("nul", f"{name} holds a NUL")
    if _SURROGATE.search(value):
        raise Unfit("undecodable", f"{name} holds half of a surrogate pair, or was no UTF-8")
    return value


def finite(value: float, name: str) -> float:
    """Return a number that JSON knows; raises `Unfit`."""
    if not math.isfinite(value):
        raise Unfit("not_finite", f"{name} is {value}")
    return value


def moment(value: Any, name: str) -> datetime:
    """Return a time in UTC: a datetime, ISO 8601 (RFC 3339) text, or seconds, milliseconds or microseconds since 1970.

    Which of these a number counts is told by its size: seconds until the year 5138. A text without a zone is in UTC.
    Raises `Unfit`.
    """
    try:
        match value:
            case None | "":
                raise Unfit("no_time", f"{name} is missing")
            case datetime():
                return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
            case bool():
                raise Unfit("mixed", f"{name} is {value}")
            case int() | float():
                return _since_1970(value, name)
            case str() if _NUMBER.fullmatch(value.strip()):
                return _since_1970(float(value), name)
            case str():
                found = datetime.fromisoformat(value.strip())
                return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
            case _:
                raise Unfit("mixed", f"{name} is no time")
    except (ValueError, OverflowError):
        raise Unfit("date", f"{name} is no time that there is: {str(value)[:80]!r}") from None


def _since_1970(value: float, name: str) -> datetime:
    size = abs(finite(value, name))
    divisor = 1 if size < 1e11 else 1e3 if size < 1e14 else 1e6
    return EPOCH + timedelta(seconds=value / divisor)


def short_key(key: str) -> str:
    """Return a key that fits into an index and that PostgreSQL takes: the id itself, or its SHA-256."""
    is_short = len(key.encode("utf-8", "surrogatepass")) <= KEY_BYTES_MAX
    return key if is_short and "\0" not in key and not _SURROGATE.search(key) else hash_key(key)


def hash_key(text: str) -> str:
    """Return the key of what has no id that could be one."""
    return f"{_HASHED}{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def is_hashed(key: str) -> bool:
    """Return whether a key is but the hash of what cannot be one."""
    return key.startswith(_HASHED)


def names(keys: Iterable[str]) -> frozenset[str]:
    """Return names as they can be kept: not too long, and without what PostgreSQL takes in no text."""
    return frozenset(_SURROGATE.sub("\ufffd", key.replace("\0", ""))[:200] for key in keys)
