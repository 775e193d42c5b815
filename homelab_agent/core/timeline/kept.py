"""What state.db has of the timeline: its own tables, and the rows that wait in the spool; it is only read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from homelab_agent.core import statefile
from homelab_agent.core.clock import microseconds
from homelab_agent.core.spool import parcel
from homelab_agent.core.spool.parcel import ParcelDamaged, Row
from homelab_agent.core.timeline.part import Facts, Table, Window


def read(directory: Path, host: str, tables: Sequence[Table], window: Window, facts: Facts) -> int:
    """Add what is in the state directory of this `host`; return how many parcels of the spool cannot be read.

    All of it is of one moment. Blocking; raises `StateUnavailable`.
    """
    try:
        with contextlib.closing(statefile.open_reader(directory)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            for table in tables:
                rows = [table.of_state(dict(row), host) for row in _kept(connection, table)]
                facts.add(table, (row for row in rows if table.meets(row, window)))
            return _spool(connection, tables, window, facts)
    except (sqlite3.Error, OSError) as error:
        raise statefile.unavailable(directory, error, done="read") from error


def _kept(connection: sqlite3.Connection, table: Table) -> Sequence[sqlite3.Row]:
    if not table.kept:
        return ()
    try:
        return connection.execute(table.kept).fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # the table is that of a later release, or of no agent yet
            return ()
        raise


def _spool(connection: sqlite3.Connection, tables: Sequence[Table], window: Window, facts: Facts) -> int:
    wanted = {table.name: table for table in tables}
    damaged = 0
    for body in _bodies(connection, window):
        try:
            rows = parcel.decode(body, only=wanted.keys())
        except ParcelDamaged:
            damaged += 1
        else:
            for row in rows:
                _take(facts, wanted[row.table], row, window)
    return damaged


def _take(facts: Facts, table: Table, row: Row, window: Window) -> None:
    if table.meets(row.values, window):
        facts.add(table, [row.values])


def _bodies(connection: sqlite3.Connection, window: Window) -> Iterator[bytes]:
    # Of samples many wait, and of these a start alone is wanted; a promise may tell of a time that ends later than it.
    query = "SELECT body FROM spool WHERE until >= ? OR promise ORDER BY id"
    for (body,) in connection.execute(query, (microseconds(window.since),)):
        yield body
