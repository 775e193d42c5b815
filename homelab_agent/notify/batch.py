"""What a target is told next, and what is given up: decisions over what waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from homelab_agent.notify import message
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.promise import LAST_WORDS, Portion, Promise
from homelab_agent.notify.severity import Severity

ONE_BY_ONE = 3
"""So many messages that wait are sent each by itself; more of them are one digest, after an outage or quiet hours."""

TRIES_LEAST = 3
"""So many tries in a row a target has before anything is given up, however old that is: a clock may have been set."""

LAST_WORDS_MAX = 200
"""Of more things than this that were given up the least is forgotten."""


def next_batch(waiting: Sequence[Promise], *, quiet: bool, held: Collection[str] = ()) -> Sequence[Portion]:
    """Return what the next message says, the oldest first; nothing while there is nothing to say.

    In quiet hours only what is critical is said, its recovery included, and what was to be said of the same before:
    after the last word on something no earlier one is told. So two words on one thing are always one message.
    While promises with these ids are `held`, only what is critical and not held is said, in the same way.
    """
    is_held = any(one.id in held for one in waiting)
    portions = _urgent(waiting, held) if quiet or is_held else [Portion(one, one.items) for one in waiting]
    checks = Counter(check for one in portions for check in {item.check for item in one.items})
    together = len(portions) > ONE_BY_ONE or any(count > 1 for count in checks.values())
    return portions if together else portions[:1]


def _urgent(waiting: Sequence[Promise], held: Collection[str]) -> list[Portion]:
    """Return what is critical and not held, with all that came before of the same checks."""
    last = {
        item.check: at
        for at, one in enumerate(waiting)
        for item in one.items
        if item.severity is Severity.CRITICAL and one.id not in held
    }
    portions = []
    for at, one in enumerate(waiting):
        items = tuple(item for item in one.items if at <= last.get(item.check, -1))
        if items:
            portions.append(Portion(one, items, tuple(item for item in one.items if at > last.get(item.check, -1))))
    return portions


def overdue(waiting: Sequence[Promise], now: float, give_up: float, failures: int) -> Sequence[Promise]:
    """Return what is given up after `give_up` seconds and so many tries in a row; `now` is monotonic."""
    if failures < TRIES_LEAST:
        return ()
    return [one for one in waiting if one.age(now) > give_up and not one.has_last_words]


def last_words(waiting: Sequence[Promise], given_up: Sequence[Promise], count: int) -> tuple[Item, ...]:
    """Return what is still told of those that are given up, and of those before them: the last word on each thing.

    `count` is how many they are.
    """
    before = [one for one in waiting if one.has_last_words]
    items = [item for one in [*before, *given_up] for item in one.items]
    since = min([*(one.made_at for one in given_up), *_noted(items)])
    worst = max(item.severity for item in items)
    said = f"messages that were not taken in time: {count:,}; of each thing this is the last word"
    note = Item(Kind.HAPPENED, LAST_WORDS, worst, since, said, "homelab-agent notify status")
    latest = message.condensed(message.merged([item for item in items if item.check != LAST_WORDS]))
    return (note, *message.worst(latest, LAST_WORDS_MAX))


def _noted(items: Sequence[Item]) -> list[datetime]:
    return [item.since for item in items if item.check == LAST_WORDS]
