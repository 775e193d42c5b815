"""What of the agent's findings was news: a check that came to need the operator, and one that does so no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

from homelab_agent.core import health
from homelab_agent.core.timeline.entry import Entry, Standing
from homelab_agent.core.timeline.part import Facts, Fields, Part, Table, brief, thing

_FINDINGS = Table(
    "finding", ("check_name", "at"), began="at", ended="at", times=("started_at",), what="changes of findings"
)
_STARTING = timedelta(seconds=60)
"""Each check has a row when its agent starts; later ones are changes, also from what is older than the window."""


def _tell(facts: Facts) -> Iterator[Entry]:
    rows = sorted(facts["finding"], key=lambda row: (row["host"], row["check_name"], row["at"]))
    for _, of_check in groupby(rows, key=lambda row: (row["host"], row["check_name"])):
        before: Fields | None = None
        for row in of_check:
            if _is_news(before, row):
                yield _entry(row)
            before = row


def _is_news(before: Fields | None, row: Fields) -> bool:
    if before is None:
        return _needs(row) or row["at"] - row["started_at"] > _STARTING
    if _needs(row):
        return not _needs(before) or row["state"] != before["state"]
    return _needs(before)


def _needs(row: Fields) -> bool:
    """Return whether it needs the operator."""
    return health.needs_operator(row["state"], row["expected"])


def _entry(row: Fields) -> Entry:
    return Entry(
        thing(row["host"], "finding", row["check_name"], row["at"]),
        row["at"],
        row["host"],
        "finding",
        brief(f"{row['check_name']} is {row['state'].replace('_', ' ')}", row["detail"]),
        id=row["check_name"],
        ask="homelab-agent doctor",
        standing=Standing.FAILED if _needs(row) else Standing.DONE,
    )


PART = Part([_FINDINGS], _tell)
