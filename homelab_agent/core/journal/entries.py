"""What journalctl gives as JSON, as the events that they were: by the journal's own fields, else by the line's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from homelab_agent.core.clock import moment
from homelab_agent.core.journal import line as journal_line
from homelab_agent.core.journal.sink import PRIORITY

FIELDS = (
    "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "HOMELAB_COMPONENT", "HOMELAB_EVENT", "HOMELAB_RUN_ID", "_HOSTNAME",
    "_SOURCE_REALTIME_TIMESTAMP",
)  # fmt: skip
"""Those that are asked for, beside the time that is always there (systemd.journal-fields(7))."""

_PREFIX = re.compile(r"<[0-7]>")
_NATIVE = {"component": "HOMELAB_COMPONENT", "event": "HOMELAB_EVENT", "run_id": "HOMELAB_RUN_ID"}
_LEVELS = {number: level for level, number in PRIORITY.items()} | {0: "critical", 1: "critical", 5: "info"}
_TIMES = ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are; "" is any. `event` may have the shell's wildcards, `level` is the least severe one."""

    component: str = ""
    run_id: str = ""
    event: str = ""
    level: str = ""

    def has(self, event: Mapping[str, Any]) -> bool:
        """Return whether an event is one of them."""
        return (
            self.component in {"", event["component"]}
            and self.run_id in {"", event.get("run_id", "")}
            and (not self.event or fnmatchcase(event["event"], self.event))
            and (not self.level or PRIORITY.get(event["level"], PRIORITY["info"]) <= PRIORITY[self.level])
        )


def event(written: str) -> dict[str, Any] | None:
    """Return the event of one line of `journalctl --output=json`; None for a line that is none.

    What somebody else has written under the agent's name or unit, as systemd does of a unit that it starts, is an event
    `NAME.logged` with a `message`, as what libraries log.
    """
    try:
        fields = json.loads(written)
        at = moment(next(int(fields[name]) for name in _TIMES if name in fields))
    except (ValueError, TypeError, StopIteration, OverflowError):
        return None
    message = _text(fields.get("MESSAGE"))
    said = _said(message)
    native = {name: value for name, field in _NATIVE.items() if (value := _text(fields.get(field)))}
    level = _LEVELS.get(_number(fields.get("PRIORITY")), "info")
    if said is None:
        name = native.get("component") or _text(fields.get("SYSLOG_IDENTIFIER")) or "unknown"
        said = {"component": name, "event": f"{name}.logged", "message": message}
    head = {"level": level, "component": "", "event": "", "host": _text(fields.get("_HOSTNAME"))}
    found = {**head, **said, **native, "time": journal_line.timestamp(at)}
    return {**found, **{name: str(found[name]) for name in head}}


def at(event: Mapping[str, Any]) -> datetime:
    """Return when an event was."""
    return datetime.fromisoformat(event["time"])


def _said(message: str) -> dict[str, Any] | None:
    """Return the event that a line is the JSON of; None where it is none."""
    try:
        found = json.loads(_PREFIX.sub("", message, count=1))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not {"level", "component", "event"} <= found.keys():
        return None
    # Whoever may write to the journal may write this: no value is taken for what it should be.
    said: dict[str, Any] = {str(journal_line.plain(name, str)): journal_line.plain(found[name], str) for name in found}
    level, run = said["level"], said.get("run_id")
    said["level"] = level if isinstance(level, str) and level in PRIORITY else "info"
    return said if run is None or isinstance(run, str) else {**said, "run_id": str(run)}


def _text(value: object) -> str:
    """Return a field's text: journalctl gives what is no text as a list of bytes, what was given twice as a list."""
    match value:
        case str():
            return value
        case [int(), *_]:
            return bytes(byte for byte in value if isinstance(byte, int) and 0 <= byte < 256).decode("utf-8", "replace")
        case [first, *_]:
            return _text(first)
    return ""


def _number(value: object) -> int:
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() else PRIORITY["info"]
