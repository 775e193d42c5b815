"""What counts as told is the same after a restart."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from homelab_agent import notify
from homelab_agent.notify import book
from homelab_agent.notify.decision import Case, Part
from homelab_agent.notify.severity import Severity

AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def test_what_is_written_is_read() -> None:
    cases = {
        "web": Case(Severity.FAILED, (AT,), AT),
        "disks": Case(
            Severity.WARNING, (AT, AT), AT, Severity.CRITICAL, parts={"sda": Part(is_told=True, tells=(AT,))}
        ),
        "quiet": Case(tells=(AT,)),
    }
    with closing(sqlite3.connect(":memory:")) as state:
        state.executescript((Path(notify.__file__).parent / "schema" / "state.sql").read_text("utf-8"))
        for _ in range(2):
            book.write(state, cases)
            assert book.read(state) == cases
