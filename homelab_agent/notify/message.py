"""What a message says: host, what, since when, why, what mends it, and where to look; never more than a phone shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.severity import Severity

DETAIL_MAX = 400
REPAIR_MAX = 200
LINE_MAX = 160
BODY_BYTES_MAX = 3500
"""ntfy takes 4,096 bytes, Telegram as many characters."""

LINES_MAX = 20
"""So many things are named in a digest."""

_FOREIGN = "another release of the agent wrote it, and this one cannot read it"
_ORDER = (Kind.TROUBLE, Kind.HAPPENED, Kind.LOST, Kind.RECOVERED)


@dataclass(frozen=True, slots=True)
class Text:
    """A message as it is sent."""

    title: str
    body: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Writer:
    """Puts things in words; `zone` None is the host's own, more than `digest` things become a digest."""

    host: str
    digest: int
    zone: tzinfo | None = None

    def write(self, items: Sequence[Item], page: str) -> Text:
        """Return the message about `items`, at least one; the status page is at `page`."""
        latest = merged(items)
        title = self._title(latest)
        whole = len(latest) <= self.digest
        body = "\n\n".join(self._whole(item) for item in latest) if whole else self._digest(latest)
        end = f"\n\n{page}" if page else ""
        return Text(title, cut(body, BODY_BYTES_MAX - len(end.encode())) + end, max(item.severity for item in latest))

    def _title(self, items: Sequence[Item]) -> str:
        if len(items) == 1:
            return f"{self.host}: {_what(items[0])}"
        counts = Counter(item.kind for item in items)
        words = {
            Kind.TROUBLE: "needs you" if counts[Kind.TROUBLE] == 1 else "need you",
            Kind.RECOVERED: "well again",
            Kind.LOST: "not known any more",
            Kind.HAPPENED: "happened",
        }
        said = ", ".join(f"{counts[kind]:,} {words[kind]}" for kind in Kind if counts[kind])
        return f"{self.host}: {said}"

    def _whole(self, item: Item) -> str:
        lines = [_what(item), f"Host: {self.host}", f"Since: {self._time(item.since)}"]
        if item.detail:
            lines.append(f"Cause: {one_line(item.detail, DETAIL_MAX)}")
        if item.repair:
            lines.append(f"Repair: {one_line(item.repair, REPAIR_MAX)}")
        if item.again:
            lines.append("It comes and goes: told before within a day, it is told less often now.")
        return "\n".join(lines)

    def _digest(self, items: Sequence[Item]) -> str:
        ranked = sorted(items, key=_rank)
        lines = []
        for item in ranked[:LINES_MAX]:
            cause = f": {item.detail}" if item.detail else ""
            lines.append(one_line(f"{_what(item)} since {self._time(item.since)}{cause}", LINE_MAX))
        if len(ranked) > LINES_MAX:
            lines.append(f"... and {len(ranked) - LINES_MAX:,} more")
        return "\n".join([*lines, "", "Repair: homelab-agent doctor"])

    def _time(self, at: datetime) -> str:
        return f"{at.astimezone(self.zone):%Y-%m-%d %H:%M}"


def merged(items: Sequence[Item]) -> list[Item]:
    """Return of each check what was last to be said of it, in the order in which they were first named."""
    latest: dict[object, Item] = {}
    for item in items:
        key = (item.check, item.since) if item.kind is Kind.HAPPENED else item.check
        latest[key] = item
    return list(latest.values())


def condensed(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return things as they are kept: what a digest of them does not name has no words."""
    named = set(_worst(items, LINES_MAX))
    return tuple(one if at in named else replace(one, detail="", repair="") for at, one in enumerate(items))


def worst(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many things, the worst, in their order."""
    return [items[at] for at in sorted(_worst(items, most))]


def _worst(items: Sequence[Item], most: int) -> list[int]:
    return sorted(range(len(items)), key=lambda at: _rank(items[at]))[:most]


def _rank(item: Item) -> tuple[int, int]:
    return _ORDER.index(item.kind), -item.severity


def _what(item: Item) -> str:
    match item.kind:
        case Kind.TROUBLE:
            state = "degraded" if item.severity is Severity.WARNING else "failed"
            return f"{item.check} is {state}"
        case Kind.RECOVERED:
            return f"{item.check} is well again"
        case Kind.LOST:
            return f"{item.check} is not known any more"
        case Kind.HAPPENED:
            return item.check


def one_line(text: str, most: int) -> str:
    """Return a text in one line of printable characters, cut where it is too long."""
    said = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return said if len(said) <= most else said[: most - 1] + "…"


def cut(text: str, most: int) -> str:
    """Return a text of at most so many bytes in UTF-8."""
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "…"


def encode(items: Sequence[Item]) -> str:
    """Return things as state.db keeps them."""
    return json.dumps(
        [
            [one.kind, one.check, int(one.severity), microseconds(one.since), one.detail, one.repair, one.again]
            for one in items
        ]
    )


def decode(text: str, at: datetime) -> tuple[Item, ...]:
    """Return what `encode` was given, at least one thing.

    What another release of the agent has written otherwise, `at` that time, is told as that.
    """
    items: list[Item] = []
    with suppress(ValueError, TypeError, OverflowError):
        rows = json.loads(text)
        items.extend(_item(row) for row in rows)  # those before one that cannot be read are kept
        if rows:
            return tuple(items)
    return (*items, Item(Kind.HAPPENED, "message not read", Severity.FAILED, at, _FOREIGN, "homelab-agent status"))


def _item(row: Sequence[Any]) -> Item:
    """Return what one row says; there may be more in it than is known here."""
    kind, check, severity, since, detail, repair, again = row[:7]
    return Item(Kind(kind), str(check), Severity(severity), moment(since), str(detail), str(repair), bool(again))
