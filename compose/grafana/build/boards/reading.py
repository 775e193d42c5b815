"""Reading list: what was read, and whether all of it has come."""

from __future__ import annotations

from compose.grafana.build.boards import events
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, ORANGE, RED, Panel, Query, above
from compose.grafana.build.shapes import BARS, POINTS, column, logs, number, table, words
from compose.grafana.build.variable import Variable

CHOSEN = "origin IN (${origin:sqlstring})"
NOTHING = "Nothing was read in this range, or it has not come yet: homelab-agent reading status"
NO_RUN = "No sync ran in this range: homelab-agent reading sync"
ORIGIN = Variable(
    "origin",
    "Source",
    "SELECT DISTINCT origin FROM homelab.sync_history ORDER BY 1",
)
STATUS = words("Status", {"ok": GREEN, "partial": ORANGE, "failed": RED, "interrupted": ORANGE, "running": "blue"})
WHEN = column("When", "dateTimeAsLocal", width=160)
DAYS = "greatest($__interval_ms, 3600000) * INTERVAL '1 millisecond'"


def _read(what: str, metric: str) -> str:
    return (
        f"SELECT date_bin({DAYS}, event_timestamp, TIMESTAMPTZ 'epoch') AS time, {metric} AS metric,\n"
        f"       ({what})::double precision AS value\n  FROM homelab.reading_analytics\n"
        f" WHERE $__timeFilter(event_timestamp) AND {CHOSEN}\n GROUP BY 1, 2 ORDER BY 1, 2"
    )


BACKLOG = f"""SELECT origin AS "Source", status AS "Status", at AS "Last run", backlog AS "Left at the source",
       rejected AS "Rejected", newest_event AS "Newest read", age_seconds AS "Newest row"
  FROM homelab.reading_backlog FULL JOIN homelab.reading_freshness USING (origin)
 WHERE {CHOSEN}
 ORDER BY 1"""
PROOF = f"""SELECT run.started_at AS "When", proof.origin AS "Source", proof.day AS "Day", proof.processed
       AS "At the source",
       proof.stored AS "Here", proof.refused AS "Refused there", proof.rejected AS "Rejected here"
  FROM homelab.sync_proof AS proof JOIN homelab.sync_history AS run USING (run, origin)
 WHERE $__timeFilter(run.started_at) AND proof.{CHOSEN}
   AND (proof.source_hash <> proof.stored_hash OR proof.processed <> proof.stored OR proof.refused <> proof.rejected)
 ORDER BY 1 DESC LIMIT 100"""

BOARD = Dashboard(
    name="reading",
    title="Reading list",
    description="What was read, and whether all of it has come.",
    variables=[ORIGIN],
    since="now-30d",
    rows=[
        Row(
            "",
            [
                number(
                    "Read in this range",
                    "Events that have come.",
                    f"SELECT count(*)::integer AS value FROM homelab.reading_analytics\n"
                    f" WHERE $__timeFilter(event_timestamp) AND {CHOSEN}",
                    empty="The database does not answer",
                    width=6,
                ),
                number(
                    "Time spent reading",
                    "As far as the events say how long.",
                    "SELECT coalesce(sum(homelab.reading_seconds(payload)), 0) AS value\n  FROM"
                    " homelab.reading_analytics\n"
                    f" WHERE $__timeFilter(event_timestamp) AND {CHOSEN}",
                    empty="The database does not answer",
                    unit="s",
                    width=6,
                ),
                number(
                    "Last sync that went well",
                    "Of the source that waits longest.",
                    "SELECT extract(epoch FROM now() - min(newest)) AS value FROM (\n"
                    "  SELECT max(ended_at) AS newest FROM homelab.sync_history\n"
                    f"   WHERE status = 'ok' AND stream = 'sync' AND {CHOSEN} GROUP BY origin) AS of_source",
                    empty="None has gone well yet: homelab-agent reading status",
                    unit="s",
                    thresholds=above(36 * 3600, 72 * 3600),
                    width=6,
                ),
                number(
                    "Documents that could not be stored",
                    "They are kept whole: homelab-agent reading rejected says why, and tries again.",
                    f"SELECT count(*)::integer AS value FROM homelab.reading_rejected WHERE state <> 'dropped'"
                    f" AND {CHOSEN}",
                    empty="The database does not answer",
                    thresholds=above(1, 100),
                    width=6,
                ),
            ],
        ),
        Row(
            "What was read",
            [
                Panel(
                    title="Read",
                    description="Events by kind.",
                    empty=NOTHING,
                    queries=[Query(_read("count(*)", "event_type"))],
                    custom={**BARS, "stacking": {"mode": "normal", "group": "A"}},
                    component="reading",
                    interval="1h",
                ),
                Panel(
                    title="Time read",
                    description="By source of the events, as far as they say how long.",
                    empty=NOTHING,
                    queries=[Query(_read("coalesce(sum(homelab.reading_seconds(payload)), 0)", "source"))],
                    unit="s",
                    custom={**BARS, "stacking": {"mode": "normal", "group": "A"}},
                    component="reading",
                    interval="1h",
                ),
                table(
                    "The newest",
                    "What was read last.",
                    events.newest(
                        "reading_analytics",
                        "event_timestamp",
                        'origin AS "Source", source AS "From", event_type AS "Kind",'
                        " coalesce(payload ->> 'title', payload ->> 'url', mongo_id) AS \"What\","
                        ' homelab.reading_seconds(payload) AS "For"',
                        where=CHOSEN,
                        by_host=False,
                    ),
                    empty=NOTHING,
                    width=24,
                    component="reading",
                    overrides=[WHEN, column("For", "s")],
                ),
            ],
        ),
        Row(
            "Whether all has come",
            [
                table(
                    "Sources",
                    "How the last run of each ended, and what is left.",
                    BACKLOG,
                    empty="No source is configured: [[reading.source]]",
                    width=24,
                    height=5,
                    component="reading",
                    overrides=[
                        STATUS,
                        column("Last run", "dateTimeFromNow"),
                        column("Newest read", "dateTimeFromNow"),
                        column("Newest row", "s"),
                        column("Left at the source", "short", above(1000, 100_000)),
                        column("Rejected", "short", above(1, 100)),
                    ],
                ),
                Panel(
                    title="Runs and how they ended",
                    description="Partial: some was taken, then the source or PostgreSQL failed; the next run goes on.",
                    empty=NO_RUN,
                    queries=[Query(events.counted("sync_history", "started_at", "status", where=CHOSEN))],
                    custom=BARS,
                    component="reading",
                    decimals=0,
                ),
                Panel(
                    title="Taken and rejected",
                    description="Rows of each run.",
                    empty=NO_RUN,
                    queries=[
                        Query(
                            events.counted(
                                "sync_history", "started_at", f"'{what}'", value=f"sum({what})", where=CHOSEN
                            )
                        )
                        for what in ("inserted", "duplicate", "rejected")
                    ],
                    custom=BARS,
                    component="reading",
                    decimals=0,
                ),
                Panel(
                    title="How long a run takes",
                    description="With waiting for the source.",
                    empty=NO_RUN,
                    queries=[
                        Query(
                            events.points(
                                "sync_history",
                                "started_at",
                                "origin || ' ' || stream",
                                "extract(epoch FROM ended_at - started_at)",
                                where=f"ended_at IS NOT NULL AND {CHOSEN}",
                            )
                        )
                    ],
                    unit="s",
                    thresholds=above(600, 3600),
                    custom=POINTS,
                    component="reading",
                ),
                Panel(
                    title="Left at the source",
                    description="What the source had still to give after each run. A slope: runs are too rare.",
                    empty="This source does not say what is left",
                    queries=[
                        Query(
                            events.points(
                                "sync_history",
                                "started_at",
                                "origin",
                                "backlog",
                                where=f"backlog IS NOT NULL AND {CHOSEN}",
                            )
                        )
                    ],
                    thresholds=above(1000, 100_000),
                    custom=POINTS,
                    component="reading",
                ),
                table(
                    "Days that do not agree",
                    "Source and rows were compared, and differ. homelab-agent reading verify compares once more.",
                    PROOF,
                    empty="All days agree that were compared in this range",
                    component="reading",
                    overrides=[WHEN],
                ),
                table(
                    "Rejected",
                    "Documents that could not be stored, and why. homelab-agent reading rejected shows one whole.",
                    events.newest(
                        "reading_rejected",
                        "last_seen",
                        'origin AS "Source", key AS "Key", state AS "State", cause AS "Cause", detail AS "Detail",'
                        ' attempts AS "Attempts"',
                        where=CHOSEN,
                        by_host=False,
                    ),
                    empty="None was rejected in this range",
                    component="reading",
                    overrides=[WHEN],
                ),
                logs(
                    "What was said",
                    "Of the reading list.",
                    '{job=~".+", host=~"${host:regex}", component="reading"} | json',
                    empty="Nothing was said in this range",
                    component="reading",
                ),
            ],
        ),
    ],
)
