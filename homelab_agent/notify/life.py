"""Whether the agent before this one ended by itself: that it was killed, by its watchdog, too, is news."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.severity import Severity

WHAT = "agent restarted"


def begin(connection: sqlite3.Connection, boot: str, now: datetime) -> datetime | None:
    """Note that a life begins; return when the one before began, if it has no end and the host was not booted since."""
    row = connection.execute("SELECT boot, began_at, ended_at FROM notify_life").fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO notify_life (one, boot, began_at, ended_at) VALUES (1, ?, ?, NULL)",
        (boot, microseconds(now)),
    ).close()
    return moment(row[1]) if row is not None and row[0] == boot and row[2] is None else None


def end(connection: sqlite3.Connection, now: datetime) -> None:
    """Note that this life ends as it should."""
    connection.execute("UPDATE notify_life SET ended_at = ?", (microseconds(now),)).close()


def item(now: datetime, began: datetime) -> Item:
    """Return what is told of a life without an end."""
    detail = f"the one of {began:%Y-%m-%d %H:%M:%S} UTC did not end by itself: killed, crashed, or by its watchdog"
    return Item(Kind.HAPPENED, WHAT, Severity.FAILED, now, detail, "homelab-agent logs --since 1h --component watchdog")
