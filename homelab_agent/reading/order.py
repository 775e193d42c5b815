"""What a run is to do: all that is to be taken, or a window again; for all sources or one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homelab_agent.core import period
from homelab_agent.core.http import BadRequest
from homelab_agent.core.jobs import as_options, of_options
from homelab_agent.reading.document import EARLIEST, LATEST, Window

_KEYS = frozenset({"since", "until", "source", "dry_run"})


class BeyondIds(BadRequest):
    """No window goes as far as {key} {given}."""

    repair = "name a day from {earliest} to {latest}, or leave {key} out"

    def __init__(self, *, key: str, **fields: object) -> None:
        super().__init__(key=key, cause="the ids of documents hold no other times", **fields)


@dataclass(frozen=True, slots=True)
class Order:
    """`window` None: what is to be taken; `source` "": all of them; `dry_run`: nothing is written or marked."""

    window: Window | None = None
    source: str = ""
    dry_run: bool = False

    @property
    def stream(self) -> str:
        """What its cursor is known by."""
        if self.window is None:
            return "sync"
        ends = (end.isoformat() if end else "" for end in (self.window.since, self.window.until))
        return "backfill " + "/".join(ends)

    def options(self) -> frozenset[str]:
        """Return it as a run's options."""
        since, until = (self.window.since, self.window.until) if self.window else (None, None)
        given = {"since": since and since.isoformat(), "until": until and until.isoformat(), "source": self.source}
        return as_options(given) | ({"dry_run"} if self.dry_run else set())

    @classmethod
    def of_options(cls, options: frozenset[str]) -> Order:
        """Return what a run's options say."""
        given = of_options(options)
        since, until = (datetime.fromisoformat(given[key]) if key in given else None for key in ("since", "until"))
        window = Window(since, until) if since or until else None
        return cls(window, given.get("source", ""), "dry_run" in given)

    @classmethod
    def asked(cls, body: Any) -> Order:
        """Return what a request asks for; raises `BadRequest`."""
        if not isinstance(body, Mapping) or not set(body) <= _KEYS:
            raise BadRequest(cause=f"the body is an object with some of {', '.join(sorted(_KEYS))}")
        since, until = (_moment(body.get(key), key) for key in ("since", "until"))
        if since and until and since >= until:
            raise BadRequest(cause="since is before until")
        source, dry_run = body.get("source", ""), body.get("dry_run", False)
        if not isinstance(source, str) or not isinstance(dry_run, bool):
            raise BadRequest(cause="source is a name, dry_run true or false")
        return cls(Window(since, until) if since or until else None, source, dry_run)


def _moment(value: Any, key: str) -> datetime | None:
    if value is None:
        return None
    try:
        found = period.instant(value)
    except ValueError as error:
        raise BadRequest(cause=f"{key} is {error}") from None
    if not EARLIEST <= found <= LATEST:
        raise BeyondIds(key=key, given=value, earliest=f"{EARLIEST:%Y-%m-%d}", latest=f"{LATEST:%Y-%m-%d}")
    return found
