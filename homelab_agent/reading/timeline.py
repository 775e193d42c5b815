"""What the timeline tells of reading syncs: of each source what came, where PostgreSQL says it; else of each run."""

from __future__ import annotations

from collections.abc import Iterator

from homelab_agent.core.timeline import Entry, Facts, Fields, Part, Standing, Table, brief, runs, thing

_SYNCS = Table(
    "sync_history",
    ("run", "origin"),
    began="started_at",
    ended="ended_at",
    what="syncs of each reading source",
)
_JOBS = "reading."
_ASK = "homelab-agent reading status"
_STANDINGS = {"ok": Standing.DONE, "running": Standing.UNDER_WAY}


def _tell(facts: Facts) -> Iterator[Entry]:
    syncs = facts["sync_history"]
    told = {row["run"] for row in syncs}
    for row in syncs:
        yield _sync(row)
    for run in facts["job_run"]:
        if run["job"].startswith(_JOBS) and run["state"] == "ok" and run["id"] not in told:
            yield Entry(
                runs.run(run["host"], run["id"]),
                run["requested_at"],
                run["host"],
                "reading",
                brief(f"{run['job']}, by {run['trigger']}, ok", run["detail"]),
                id=run["id"],
                ask=_ASK,
                until=run["ended_at"],
            )


def _sync(row: Fields) -> Entry:
    counts = ", ".join(f"{row[name]} {name}" for name in ("inserted", "rejected") if row[name]) or "nothing new"
    stream = "" if row["stream"] == "sync" else f" ({row['stream']})"
    state = "under way" if row["status"] == "running" else row["status"]
    return Entry(
        thing(row["host"], "sync", row["run"], row["origin"]),
        row["started_at"],
        row["host"],
        "reading",
        brief(f"{row['origin']}{stream}, {state}, {counts}", row["error"]),
        id=row["run"],
        ask=_ASK,
        standing=_STANDINGS.get(row["status"], Standing.FAILED),
        until=row["ended_at"],
        after=[runs.run(row["host"], row["run"])],
    )


PART = Part([_SYNCS], _tell)
