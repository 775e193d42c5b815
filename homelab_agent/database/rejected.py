"""What PostgreSQL refused, as the spool wrote it down in state.db; read beside a running agent or without one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homelab_agent.core import state, statefile
from homelab_agent.core.spool import table as spooltable
from homelab_agent.core.spool.table import Rejected

CELL_MAX = 48


def read(directory: Path, limit: int) -> list[Rejected]:
    """Return what was refused last, newest first; raises `StateUnavailable`."""
    with contextlib.closing(state.read_only(directory)) as connection:
        try:
            return spooltable.list_rejected(connection, limit)
        except sqlite3.Error as error:
            raise statefile.unavailable(directory, error, done="read") from error


def document(one: Rejected) -> dict[str, Any]:
    """Return it for a program, every value whole; of what could not be read back there is only the length."""
    about = {"rejected_at": one.at.isoformat(), "table": one.table, "reason": one.reason}
    if isinstance(one.content, bytes):
        return {**about, "bytes": len(one.content)}
    return {**about, **json.loads(one.content)}


def cells(one: Rejected) -> tuple[str, str, str, str]:
    """Return table, reason, key and the other values, each as one short line for a person."""
    if isinstance(one.content, bytes):
        return one.table, _short(one.reason), "", f"{len(one.content)} bytes that cannot be read"
    row = json.loads(one.content)
    key = {name: row["values"][name] for name in row["key"]}
    rest = {name: value for name, value in row["values"].items() if name not in key}
    return one.table, _short(one.reason), _short(_pairs(key)), _short(_pairs(rest))


def _pairs(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _short(text: str) -> str:
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return line if len(line) <= CELL_MAX else line[: CELL_MAX - 1] + "…"
