"""The preset `feed`: the entries of a feed, as RSS, Atom (by feedparser) or JSON Feed (https://jsonfeed.org/version/1.1).

It is asked for whether it has changed (RFC 9110, section 13). Each edition of an entry is one row: a hash of what it
says is part of its key.
"""

from __future__ import annotations

import calendar
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import feedparser

from homelab_agent.reading import safe_json
from homelab_agent.reading.document import (
    Arrived,
    Document,
    Rejected,
    Unfit,
    Window,
    as_json,
    hash_key,
    moment,
    short_key,
    text,
)
from homelab_agent.reading.polling import Ask, Malformed, Page, Told
from homelab_agent.reading.settings import ReadingSource

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHARACTER = re.compile(rb"&#(?:[xX]([0-9a-fA-F]+)|([0-9]+))")


class Feed:
    """One feed."""

    def __init__(self, settings: ReadingSource) -> None:
        self._name = settings.name

    def authority(self, password: str) -> Mapping[str, str]:
        """Return the header of a bearer, where there is a password."""
        return {"Authorization": f"Bearer {password}"} if password else {}

    def ask(self, cursor: Mapping[str, Any], window: Window | None) -> Ask:
        """Ask for it, if it has changed since."""
        if window is not None:
            return Ask()
        given = {"If-None-Match": cursor.get("etag"), "If-Modified-Since": cursor.get("modified")}
        return Ask(headers={key: str(value) for key, value in given.items() if value})

    def page(self, told: Told, cursor: Mapping[str, Any], window: Window | None) -> Page:
        """Return its entries, those of the window where one is asked for."""
        if not told.is_new:
            return Page([], cursor)
        arrived = [self._read(entry) for entry in _entries(told)]
        if window is not None:
            arrived = [one for one in arrived if isinstance(one, Document) and window.holds(one.at)]
        found = {"etag": told.headers.get("ETag", ""), "modified": told.headers.get("Last-Modified", "")}
        return Page(arrived, {key: value for key, value in found.items() if value.isascii() and value.isprintable()})

    def _read(self, entry: Any) -> Arrived:
        if not isinstance(entry, dict):
            raw = safe_json.whole(entry)
            return Rejected(f"{self._name}:{hash_key(raw)}", "mixed", "it is no entry", raw)
        own = entry["id"] or entry["url"]
        named = isinstance(own, str) and own != ""
        key = f"{self._name}:{short_key(own) if named else hash_key(safe_json.whole(entry))}"
        try:
            said = {name: entry[name] for name in ("title", "url", "authors", "tags", "summary")}
            found = Document(
                key=key,
                at=moment(entry["at"], "the entry's time"),
                source=text(entry["feed"], "the feed's title"),
                event_type="published",
                payload=as_json(safe_json.plain(said, "entry")),
                meta=as_json(safe_json.plain({"id": entry["id"]}, "entry")),
                keys=frozenset(said),
            )
        except Unfit as unfit:
            return Rejected(key, unfit.cause, unfit.detail, safe_json.whole(entry))
        except RecursionError:
            return Rejected(key, "undecodable", "it is nested too deeply", safe_json.whole(entry))
        return replace(found, key=f"{key}#{found.content_hash.hex()[:12]}")


def _entries(told: Told) -> Sequence[Any]:
    """Return the entries, all that are some in one shape; raises `Malformed`."""
    if told.body.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] == b"{":
        return _of_json(told.body)
    return _of_xml(told)


def _of_json(body: bytes) -> Sequence[Any]:
    try:
        feed = safe_json.read(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON Feed: {error}"[:200]) from None
    if not isinstance(feed, dict) or not isinstance(feed.get("items"), list):
        raise Malformed("no JSON Feed: it has no items")
    return [_item(item, feed) for item in feed["items"]]


def _item(item: Any, feed: Mapping[str, Any]) -> Any:
    """Return an item in the shape of all entries; one that is no object as it is."""
    if not isinstance(item, dict):
        return item
    own = item.get("id")
    return {
        "id": str(own or "") if isinstance(own, str | int | float) else "",
        "url": item.get("url"),
        "title": item.get("title"),
        "authors": _each(item.get("authors") or feed.get("authors"), "name"),
        "tags": item.get("tags") or [],
        "summary": item.get("summary") or item.get("content_text"),
        "at": item.get("date_published") or item.get("date_modified"),
        "feed": feed.get("title"),
    }


def _of_xml(told: Told) -> Sequence[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a feed does wrong is the feed's
        found = _parse(_CHARACTER.sub(_possible, told.body), told.headers.get("Content-Type", ""))
        if found.get("bozo") and not found.entries:
            raise Malformed(f"no feed: {found.get('bozo_exception')}"[:200])
        return [
            {
                "id": entry.get("id") or "",
                "url": entry.get("link"),
                "title": entry.get("title"),
                "authors": _each(entry.get("authors"), "name"),
                "tags": _each(entry.get("tags"), "term"),
                "summary": entry.get("summary"),
                "at": _time(entry),
                "feed": found.feed.get("title"),
            }
            for entry in found.entries
        ]


def _parse(body: bytes, content_type: str) -> Any:
    try:
        return feedparser.parse(body, response_headers={"content-type": content_type})
    except Exception as error:  # noqa: BLE001 - it promises to raise nothing, and of what it trips over there is no list
        raise Malformed(f"no feed: {error!r}"[:200]) from None


def _possible(reference: re.Match[bytes]) -> bytes:
    """Return a reference to a character as it is; for one that there is not, at which feedparser ends, one that is."""
    digits, base = (reference[1], 16) if reference[1] else (reference[2], 10)
    number = int(digits, base) if len(digits) < 10 else 0
    return reference[0] if 0 < number < 0xD800 or 0xE000 <= number <= 0x10FFFF else b"&#65533"


def _each(values: Any, name: str) -> Any:
    """Return the `name` of each of several objects; what is none stays as it is."""
    if not isinstance(values, list):
        return values or []
    return [one.get(name) if isinstance(one, dict) else one for one in values]


def _time(entry: Mapping[str, Any]) -> datetime | str | None:
    """Return what feedparser has made of the entry's time, which is in UTC; of one that is none, what it was."""
    written = None
    for kind in ("published", "updated"):
        if parsed := entry.get(f"{kind}_parsed"):
            try:
                return datetime.fromtimestamp(calendar.timegm(parsed), UTC)
            except (ValueError, OverflowError, OSError):
                pass
        if entry.get(kind):
            written = written or f"{kind} {entry.get(kind)}"
    return written
