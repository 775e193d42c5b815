"""The preset `miniflux`: what was read there (https://miniflux.app/docs/api.html#endpoint-get-entries).

Entries are asked for by when they were changed, page by page by their ids. An entry that is changed once more, read
again say, is another event: its time is part of its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from homelab_agent.reading.document import Arrived, Document, Rejected, Unfit, Window, as_json, moment, short_key, text
from homelab_agent.reading.polling import Ask, Malformed, Page, Told
from homelab_agent.reading.safe_json import plain
from homelab_agent.reading.settings import ReadingSource

_OVERLAP_SECONDS = 1
"""Two entries may change in one second, of which we see but one at first."""

_PAYLOAD = ("title", "url", "author", "published_at", "reading_time", "starred", "tags")


class Miniflux:
    """Entries with the status `read`; `page` at a time."""

    def __init__(self, settings: ReadingSource, *, page: int) -> None:
        self._name = settings.name
        self._page = page

    def authority(self, password: str) -> Mapping[str, str]:
        """Return the API key's header."""
        return {"X-Auth-Token": password} if password else {}

    def ask(self, cursor: Mapping[str, Any], window: Window | None) -> Ask:
        """Ask for what was changed after the cursor's time, or within the window, and has a higher id."""
        query = {"status": "read", "order": "id", "direction": "asc", "limit": str(self._page)}
        since, until = cursor.get("changed_after"), None
        if window is not None:
            since, until = _seconds(window.since), _seconds(window.until)
        given = {"changed_after": since, "changed_before": until, "after_entry_id": cursor.get("after_entry_id")}
        return Ask("/v1/entries", {**query, **{key: str(value) for key, value in given.items() if value}})

    def page(self, told: Told, cursor: Mapping[str, Any], window: Window | None) -> Page:  # noqa: ARG002 - a `Preset`
        """Return the entries; the cursor's time moves on once there are no more of them."""
        try:
            entries = json.loads(told.body)["entries"] or []
            last = int(entries[-1]["id"]) if entries else 0
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Malformed(str(error)[:200]) from None
        arrived = [self._read(entry) for entry in entries]
        newest = max(
            [cursor.get("newest", 0), *(int(one.at.timestamp()) for one in arrived if isinstance(one, Document))]
        )
        before = {"changed_after": cursor["changed_after"]} if "changed_after" in cursor else {}
        if len(entries) >= self._page:
            return Page(arrived, {**before, "newest": newest, "after_entry_id": last}, more=True)
        return Page(arrived, {"changed_after": newest - _OVERLAP_SECONDS} if newest else before)

    def _read(self, entry: Any) -> Arrived:
        key = short_key(f"{self._name}:{entry.get('id')}:{entry.get('changed_at')}")
        try:
            feed = entry.get("feed") or {}
            said = {name: entry.get(name) for name in _PAYLOAD}
            return Document(
                key=key,
                at=moment(entry.get("changed_at"), "changed_at"),
                source=text(feed.get("title"), "feed.title"),
                event_type=text(entry.get("status"), "status"),
                payload=as_json(plain(said, "entry")),
                meta=as_json(plain({"entry_id": entry.get("id"), "feed_id": entry.get("feed_id")}, "entry")),
                keys=frozenset(map(str, entry)),
            )
        except (Unfit, RecursionError) as error:
            cause, detail = (error.cause, error.detail) if isinstance(error, Unfit) else ("undecodable", "too deep")
            return Rejected(key, cause, detail, json.dumps(entry))


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
