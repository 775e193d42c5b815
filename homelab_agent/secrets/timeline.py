"""What the timeline tells of secrets: each new version and what became of it, never the value."""

from __future__ import annotations

from collections.abc import Iterator

from homelab_agent.core.timeline import Entry, Facts, Part, Standing, Table, brief, thing
from homelab_agent.secrets.changes import TABLE

_CHANGES = Table(TABLE, ("id",), began="at", ended="at", what="new versions of secrets")
_OUTCOMES = {"adopted": "taken over", "refused": "refused, the old value stays", "incomplete": "taken over in part"}


def _tell(facts: Facts) -> Iterator[Entry]:
    for row in facts[TABLE]:
        version = f" version {row['version']}" if row["version"] else ""
        outcome = row["outcome"]
        yield Entry(
            thing(row["host"], "secret", row["id"]),
            row["at"],
            row["host"],
            "secret",
            brief(f"{row['reference']}{version}, {_OUTCOMES.get(outcome, outcome)}", row["cause"]),
            id=row["reference"],
            ask="homelab-agent secrets list",
            standing=Standing.DONE if outcome == "adopted" else Standing.FAILED,
        )


PART = Part([_CHANGES], _tell)
