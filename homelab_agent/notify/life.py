"""Whether the agent before this one ended by itself: that it did not, and how it ended instead, is news."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.ending import Ended
from homelab_agent.notify.severity import Severity

AGENT, HOST = "agent restarted", "host restarted"

_CRASHES = frozenset({"ABRT", "BUS", "FPE", "ILL", "QUIT", "SEGV", "SYS", "TRAP"})
_BEFORE = timedelta(minutes=5)
"""So much of the journal from before an end shows why."""


def begin(connection: sqlite3.Connection, boot: str, now: datetime, ended: Ended | None) -> Item | None:
    """Note that a life begins; return what is told of the one before, if that had no end. `ended`: what is noted."""
    row = connection.execute("SELECT boot, began_at, ended_at FROM notify_life").fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO notify_life (one, boot, began_at, ended_at) VALUES (1, ?, ?, NULL)",
        (boot, microseconds(now)),
    ).close()
    if row is None or row[2] is not None:
        return None
    began = moment(row[1])
    if ended is not None and ended.boot == row[0]:
        return None if ended.result == "success" else _ended(began, ended)
    return _killed(began, now) if row[0] == boot else _went_down(began, now)


def end(connection: sqlite3.Connection, now: datetime) -> None:
    """Note that this life ends as it should."""
    connection.execute("UPDATE notify_life SET ended_at = ?", (microseconds(now),)).close()


def _ended(began: datetime, ended: Ended) -> Item:
    since = f'--since="{ended.at - _BEFORE:%Y-%m-%d %H:%M:%S} UTC"'
    shown = f"journalctl --unit=homelab-agent --catalog {since}"
    if _for_want_of_memory(ended):
        shown = f'journalctl --dmesg --grep="out of memory" {since}'
    return Item(Kind.HAPPENED, AGENT, Severity.FAILED, ended.at, f"{_who(began)} {_how(ended)}", shown)


def _killed(began: datetime, now: datetime) -> Item:
    detail = f"{_who(began)} did not end by itself: killed, crashed, or by its watchdog"
    return Item(Kind.HAPPENED, AGENT, Severity.FAILED, now, detail, "homelab-agent logs --since 1h")


def _went_down(began: datetime, now: datetime) -> Item:
    detail = (
        f"the agent of {began:%Y-%m-%d %H:%M:%S} UTC had no orderly end before: a power cut, a reset, a crash of the "
        "kernel, or a stop that cut it short"
    )
    return Item(Kind.HAPPENED, HOST, Severity.FAILED, now, detail, "journalctl --boot=-1 --lines=50")


def _who(began: datetime) -> str:
    return f"the one of {began:%Y-%m-%d %H:%M:%S} UTC"


def _for_want_of_memory(ended: Ended) -> bool:
    """Whether systemd says so, or it was KILL while the kernel did that to something of the service."""
    return ended.result == "oom-kill" or (ended.result == "signal" and ended.status == "KILL" and ended.out_of_memory)


def _how(ended: Ended) -> str:
    if _for_want_of_memory(ended):
        return "was killed by the kernel for want of memory"
    match ended.result:
        case "watchdog":
            return "was ended by its watchdog: it stood still, or did not do its work"
        case "timeout":
            return "did not start or end in time, and was killed"
        case "exit-code":
            return f"ended with exit code {ended.status}"
        case "signal" | "core-dump":
            did = "crashed" if ended.status in _CRASHES else "was killed"
            return f"{did} (signal {ended.status})"
        case other:  # systemd may learn new words
            return f"ended; systemd says: {other}"
