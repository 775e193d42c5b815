"""What the timeline tells of notifications: each message that was taken or given up."""

from __future__ import annotations

from collections.abc import Iterator

from homelab_agent.core.timeline import Entry, Facts, Part, Standing, Table, brief, thing
from homelab_agent.notify.queue import TABLE

_MESSAGES = Table(TABLE, ("id",), began="made_at", ended="ended_at", what="messages to targets")


def _tell(facts: Facts) -> Iterator[Entry]:
    for row in facts[TABLE]:
        yield Entry(
            thing(row["host"], "notification", row["id"]),
            row["made_at"],
            row["host"],
            "notify",
            brief(f"{row['target']} {_OUTCOMES.get(row['outcome'], row['outcome'])} {row['checks']}", row["answer"]),
            id=row["id"],
            ask="homelab-agent notify status",
            standing=Standing.DONE if row["outcome"] == "sent" else Standing.FAILED,
            until=row["ended_at"],
        )


_OUTCOMES = {"sent": "was told of", "given up": "was not told, given up, of"}

PART = Part([_MESSAGES], _tell)
