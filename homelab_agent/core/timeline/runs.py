"""The foundation's own part: runs of jobs that did not end well or are under way, and rows that were given up."""

from __future__ import annotations

from collections.abc import Iterator

from homelab_agent.core.timeline.entry import Entry, Standing
from homelab_agent.core.timeline.part import Facts, Fields, Part, Table, brief, thing

_RUNS = Table(
    "job_run",
    ("id",),
    began="requested_at",
    ended="ended_at",
    times=("started_at",),
    what="runs of jobs",
    kept="SELECT id, job, trigger, state, detail, repair, requested_at, started_at, ended_at FROM job_run",
)
_GAPS = Table("gap", ("from_at", "cause"), began="from_at", ended="to_at", what="rows that were given up")
_STANDINGS = {"ok": Standing.DONE, "waiting": Standing.UNDER_WAY, "running": Standing.UNDER_WAY}


def run(host: str, run_id: str) -> str:
    """Return the name of a run."""
    return thing(host, "run", run_id)


def _tell(facts: Facts) -> Iterator[Entry]:
    for row in facts["job_run"]:
        if row["state"] != "ok":  # what a run has done that ended well its room tells
            yield _run(row)
    for row in facts["gap"]:
        said = f"{row['rows']} rows that waited for PostgreSQL were given up"
        yield Entry(
            thing(row["host"], "gap", row["from_at"], row["cause"]),
            row["from_at"],
            row["host"],
            "gap",
            brief(said, row["cause"]),
            ask="homelab-agent doctor database",
            standing=Standing.FAILED,
            until=row["to_at"],
        )


def _run(row: Fields) -> Entry:
    standing = _STANDINGS.get(row["state"], Standing.FAILED)
    state = {"waiting": "waits", "running": "is at work"}.get(row["state"], row["state"].replace("_", " "))
    return Entry(
        run(row["host"], row["id"]),
        row["requested_at"],
        row["host"],
        "run",
        brief(f"{row['job']}, by {row['trigger']}, {state}", row["detail"]),
        id=row["id"],
        ask=f"homelab-agent logs --run {row['id']}",
        standing=standing,
        until=row["ended_at"],
    )


PART = Part([_RUNS, _GAPS], _tell)
