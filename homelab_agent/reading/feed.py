"""The preset `feed`: the entries of a feed, as RSS, Atom (by feedparser) or JSON Feed (https://jsonfeed.org/version/1.1).

It is asked for whether it has changed (RFC 9110, section 13). Each edition of an entry is one row: a hash of what it
says is part of its key.
"""

from __future__ import annotations

import calendar
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import feedparser

from homelab_agent.reading.document import Arrived, Document, Rejected, Unfit, Window, as_json, moment, short_key, text
from homelab_agent.reading.polling import Ask, Malformed, Page, Told
from homelab_agent.reading.safe_json import plain
from homelab_agent.reading.settings import ReadingSource


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
        found = {"etag": told.headers.get("ETag"), "modified": told.headers.get("Last-Modified")}
        return Page(arrived, {key: value for key, value in found.items() if value})

    def _read(self, entry: Mapping[str, Any]) -> Arrived:
        key = short_key(f"{self._name}:{entry['id'] or entry['url']}")
        try:
            said = {name: entry[name] for name in ("title", "url", "authors", "tags", "summary")}
            found = Document(
                key=key,
                at=moment(entry["at"], "the entry's time"),
                source=text(entry["feed"], "the feed's title"),
                event_type="published",
                payload=as_json(plain(said, "entry")),
                meta=as_json(plain({"id": entry["id"]}, "entry")),
                keys=frozenset(said),
            )
        except Unfit as unfit:
            return Rejected(key, unfit.cause, unfit.detail, json.dumps(entry, default=str))
        return replace(found, key=short_key(f"{key}#{found.content_hash.hex()[:12]}"))


def _entries(told: Told) -> Iterator[Mapping[str, Any]]:
    """Give the entries, all of one shape; raises `Malformed`."""
    if told.body.lstrip()[:1] == b"{":
        return iter(_of_json(told.body))
    return iter(_of_xml(told))


def _of_json(body: bytes) -> list[dict[str, Any]]:
    try:
        feed = json.loads(body)
        return [
            {
                "id": str(item.get("id") or ""),
                "url": item.get("url"),
                "title": item.get("title"),
                "authors": [author.get("name") for author in item.get("authors") or feed.get("authors") or []],
                "tags": item.get("tags") or [],
                "summary": item.get("summary") or item.get("content_text"),
                "at": item.get("date_published") or item.get("date_modified"),
                "feed": feed.get("title"),
            }
            for item in feed["items"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(f"no JSON Feed: {error!r}"[:200]) from None


def _of_xml(told: Told) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a feed does wrong is the feed's
        found = feedparser.parse(told.body, response_headers={"content-type": told.headers.get("Content-Type", "")})
    if found.get("bozo") and not found.entries:
        raise Malformed(f"no feed: {found.get('bozo_exception')}"[:200])
    return [
        {
            "id": entry.get("id") or "",
            "url": entry.get("link"),
            "title": entry.get("title"),
            "authors": [author.get("name") for author in entry.get("authors") or []],
            "tags": [tag.get("term") for tag in entry.get("tags") or []],
            "summary": entry.get("summary"),
            "at": _time(entry.get("published_parsed") or entry.get("updated_parsed")),
            "feed": found.feed.get("title"),
        }
        for entry in found.entries
    ]


def _time(parsed: Any) -> datetime | None:
    """Return what feedparser has made of a time, which is in UTC."""
    return None if parsed is None else datetime.fromtimestamp(calendar.timegm(parsed), UTC)
