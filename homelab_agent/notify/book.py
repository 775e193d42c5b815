"""What was told of each check, as state.db keeps it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.notify.decision import Case
from homelab_agent.notify.severity import Severity


def read(connection: sqlite3.Connection) -> dict[str, Case]:
    """Return the cases; since when a check stands otherwise than was told is seen anew.

    One that another release has written otherwise is left out: it is told again if it still holds.
    """
    cases = {}
    for check, told, began, tells in connection.execute("SELECT check_name, told, began, tells FROM notify_case"):
        with suppress(ValueError, TypeError, OverflowError):
            cases[check] = Case(
                told=Severity(told),
                began=None if began is None else moment(began),
                tells=tuple(moment(at) for at in json.loads(tells)),
            )
    return cases


def write(connection: sqlite3.Connection, cases: Mapping[str, Case]) -> None:
    """Keep what was told of all checks, in place of what was kept."""
    connection.execute("DELETE FROM notify_case").close()
    connection.executemany(
        "INSERT INTO notify_case (check_name, told, began, tells) VALUES (?, ?, ?, ?)",
        [
            (
                check,
                int(case.told),
                None if case.began is None else microseconds(case.began),
                json.dumps([microseconds(at) for at in case.tells]),
            )
            for check, case in cases.items()
            if case.told or case.tells
        ],
    ).close()
