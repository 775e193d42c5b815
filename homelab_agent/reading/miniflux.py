"""The preset `miniflux`: what was read there (https://miniflux.app/docs/api.html#endpoint-get-entries).

One pass goes by the entries' ids, page by page, over what was changed after the last one had begun, and before it began
itself: whatever is changed meanwhile, behind the page or before it, is the next pass's. One that is cut short goes on
where it was.

Miniflux has one status and one time for an entry, and a star moves that time as reading does. So an entry is one row,
as it was when it was first seen read: what is changed later is no other reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
    names,
    text,
)
from homelab_agent.reading.polling import Ask, Malformed, Page, Told
from homelab_agent.reading.settings import ReadingSource

_OVERLAP_SECONDS = 300
"""An answer takes up to a minute, and a change has the time at which its transaction began: what was so late comes
with the next pass. What that brings twice is there already."""

_PAYLOAD = ("title", "url", "author", "published_at", "reading_time", "starred", "tags")


class Miniflux:
    """Entries with the status `read`; `page` at a time.

    The cursor has what is asked with: `changed_after` alone between two passes, all three within one.
    """

    def __init__(self, settings: ReadingSource, *, page: int) -> None:
        self._name = settings.name
        self._page = page

    def authority(self, password: str) -> Mapping[str, str]:
        """Return the API key's header."""
        return {"X-Auth-Token": password} if password else {}

    def ask(self, cursor: Mapping[str, Any], window: Window | None) -> Ask:
        """Ask for what was changed within the pass, or the window, and has a higher id."""
        since, until = cursor.get("changed_after"), cursor.get("changed_before")
        if window is not None:  # both bounds are without what lies on them; `page` looks more closely
            since = None if window.since is None else max(1, math.ceil(window.since.timestamp()) - 1)
            until = until if window.until is None else math.ceil(window.until.timestamp())
        query = {"status": "read", "order": "id", "direction": "asc", "limit": str(self._page)}
        given = {"changed_after": since, "changed_before": until, "after_entry_id": cursor.get("after_entry_id")}
        return Ask("/v1/entries", {**query, **{key: str(value) for key, value in given.items() if value is not None}})

    def page(self, told: Told, cursor: Mapping[str, Any], window: Window | None) -> Page:
        """Return the entries; the next pass is over what was changed after the first answer of this one."""
        entries = _entries(told.body)
        arrived = [self._read(entry) for entry in entries]
        if window is not None:
            arrived = [one for one in arrived if isinstance(one, Rejected) or window.holds(one.at)]
        now = int(told.at.timestamp())
        began = cursor.get("changed_before", now)
        if len(entries) >= self._page:
            within = {"changed_before": began, "after_entry_id": _last_id(entries, cursor.get("after_entry_id", 0))}
            return Page(arrived, {**_only(cursor, "changed_after"), **within}, more=True)
        took_long = window is None and now - began > _OVERLAP_SECONDS  # or was cut short then
        return Page(arrived, {"changed_after": max(1, began - _OVERLAP_SECONDS)}, more=took_long)

    def _read(self, entry: Any) -> Arrived:
        if not isinstance(entry, dict) or not _is_id(entry.get("id")):
            raw = safe_json.whole(entry)
            return Rejected(f"{self._name}:{hash_key(raw)}", "mixed", "it is no entry with a number for an id", raw)
        key = f"{self._name}:{entry['id']}"
        try:
            feed = entry.get("feed")
            said = {name: entry.get(name) for name in _PAYLOAD}
            return Document(
                key=key,
                at=moment(entry.get("changed_at"), "changed_at"),
                source=text(feed.get("title") if isinstance(feed, dict) else feed, "feed.title"),
                event_type=text(entry.get("status"), "status"),
                payload=as_json(safe_json.plain(said, "entry")),
                meta=as_json(safe_json.plain({"entry_id": entry["id"], "feed_id": entry.get("feed_id")}, "entry")),
                keys=names(entry),
                first_stays=True,
            )
        except Unfit as unfit:
            return Rejected(key, unfit.cause, unfit.detail, safe_json.whole(entry))
        except RecursionError:
            return Rejected(key, "undecodable", "it is nested too deeply", safe_json.whole(entry))


def _entries(body: bytes) -> Sequence[Any]:
    """Return the entries of an answer; raises `Malformed`."""
    try:
        found = safe_json.read(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)[:200]) from None
    entries = found.get("entries", ()) if isinstance(found, dict) else ()
    if entries is not None and not isinstance(entries, list):
        raise Malformed("it has no entries")
    return entries or []


def _last_id(entries: Sequence[Any], before: int) -> int:
    """Return the id of the last entry that has one; raises `Malformed` where the pages do not go on by them."""
    ids = (entry["id"] for entry in reversed(entries) if isinstance(entry, dict) and _is_id(entry.get("id")))
    last = next(ids, 0)
    if last <= before:
        raise Malformed(f"a page after the entry {before} ends with the entry {last}")
    return last


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _only(cursor: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: cursor[key]} if key in cursor else {}
