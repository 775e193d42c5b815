"""What was told of each check, as state.db keeps it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.notify.decision import Case, Part
from homelab_agent.notify.severity import Severity


def read(connection: sqlite3.Connection) -> dict[str, Case]:
    """Return the cases; since when a check, or part of it, stands otherwise than was told is seen anew.

    One that another release has written otherwise is left out: it is told again if it still holds.
    """
    parts: dict[str, dict[str, Part]] = {}
    for check, part, is_told, tells in connection.execute("SELECT check_name, part, is_told, tells FROM notify_part"):
        with suppress(ValueError, TypeError, OverflowError):
            parts.setdefault(check, {})[part] = Part(bool(is_told), _times(tells))
    worst = dict(connection.execute("SELECT check_name, worst FROM notify_worst").fetchall())
    cases = {}
    for check, told, began, tells in connection.execute("SELECT check_name, told, began, tells FROM notify_case"):
        with suppress(ValueError, TypeError, OverflowError):
            cases[check] = Case(
                told=Severity(told),
                began=None if began is None else moment(began),
                tells=_times(tells),
                worst=Severity(worst.get(check, Severity.NONE)),
                parts=parts.get(check, {}),
            )
    return cases


def write(connection: sqlite3.Connection, cases: Mapping[str, Case]) -> None:
    """Keep what was told of all checks, in place of what was kept."""
    told = {check: case for check, case in cases.items() if case.told or case.tells}
    connection.execute("DELETE FROM notify_case").close()
    connection.execute("DELETE FROM notify_part").close()
    connection.execute("DELETE FROM notify_worst").close()
    connection.executemany(
        "INSERT INTO notify_case (check_name, told, began, tells) VALUES (?, ?, ?, ?)",
        [
            (check, int(case.told), None if case.began is None else microseconds(case.began), _text(case.tells))
            for check, case in told.items()
        ],
    ).close()
    connection.executemany(
        "INSERT INTO notify_part (check_name, part, is_told, tells) VALUES (?, ?, ?, ?)",
        [
            (check, name, part.is_told, _text(part.tells))
            for check, case in told.items()
            for name, part in case.parts.items()
            if part.is_told or part.tells
        ],
    ).close()
    connection.executemany(
        "INSERT INTO notify_worst (check_name, worst) VALUES (?, ?)",
        [(check, int(case.worst)) for check, case in told.items() if case.worst],
    ).close()


def _times(text: str) -> tuple[datetime, ...]:
    return tuple(moment(at) for at in json.loads(text))


def _text(times: Sequence[datetime]) -> str:
    return json.dumps([microseconds(at) for at in times])
