"""Backups: how old the newest copy of each set is, when one was last brought back, and what backing up cost."""

from __future__ import annotations

from compose.grafana.build import age
from compose.grafana.build.boards import events
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, GREY, ORANGE, RED, Panel, Query, above
from compose.grafana.build.shapes import BARS, POINTS, column, logs, number, table, words
from compose.grafana.build.sql import HOST_FIRST, HOSTS
from compose.grafana.build.variable import Variable

CHOSEN = "set_name IN (${set:sqlstring})"
NO_RUN = "No backup ran in this range: homelab-agent backup status"
NO_DRILL = "No copy was brought back in this range: homelab-agent backup drill"
SET = Variable(
    "set",
    "Set",
    f"SELECT DISTINCT set_name FROM homelab.backup_run WHERE host IN ({HOSTS}) ORDER BY 1",
)
STATES = words("State", {"ok": GREEN, "failed": RED, "degraded": ORANGE})
WHEN = column("When", "dateTimeAsLocal", width=160)
SETS = f"""SELECT run.host AS "Host", run.set_name AS "Set",
       extract(epoch FROM now() - run.good) AS "Last that went well", run.state AS "State", run.detail AS "Detail",
       copy.verdict AS "Kind of copy", copy.bytes AS "Read", copy.stored_bytes AS "Kept", copy.files AS "Files",
       extract(epoch FROM now() - drill.good) AS "Last brought back", drill.ok AS "Drill went well",
       drill.detail AS "Drill"
  FROM (SELECT DISTINCT ON (host, set_name) host, set_name, state, detail,
               max(ended_at) FILTER (WHERE state = 'ok') OVER (PARTITION BY host, set_name) AS good
          FROM homelab.backup_run WHERE host IN ({HOSTS}) AND {CHOSEN}
         ORDER BY host, set_name, ended_at DESC) AS run
  LEFT JOIN LATERAL (
       SELECT * FROM homelab.backup_archive AS one WHERE one.host = run.host AND one.set_name = run.set_name
        ORDER BY one.at DESC LIMIT 1) AS copy ON true
  LEFT JOIN LATERAL (
       SELECT ok, detail, max(ended_at) FILTER (WHERE ok) OVER () AS good
         FROM homelab.backup_drill AS one WHERE one.host = run.host AND one.set_name = run.set_name
        ORDER BY one.ended_at DESC LIMIT 1) AS drill ON true
 ORDER BY 3 DESC NULLS FIRST"""
STANDING = f"""SELECT host AS "Host", check_name AS "Check", state AS "State", since AS "Since", detail AS "Detail",
       repair AS "Repair"
  FROM {age.STANDING} WHERE check_name LIKE 'backup.%' AND host IN ({HOSTS})
 ORDER BY needs_you DESC, 1, 2"""
STOOD = f"""SELECT run.ended_at AS time, {HOST_FIRST}run.set_name || ' ' || stood.key AS metric,
       stood.value::double precision / 1000 AS value
  FROM homelab.backup_run AS run CROSS JOIN LATERAL jsonb_each_text(run.frozen_ms) AS stood
 WHERE $__timeFilter(run.ended_at) AND run.host IN ({HOSTS}) AND run.{CHOSEN}
 ORDER BY 1, 2"""


def _oldest(table_name: str, where: str) -> str:
    return (
        f"SELECT extract(epoch FROM now() - min(newest)) AS value FROM (\n"
        f"  SELECT max(ended_at) AS newest FROM homelab.{table_name}\n"
        f"   WHERE {where} AND host IN ({HOSTS}) AND {CHOSEN} GROUP BY host, set_name) AS of_set"
    )


BOARD = Dashboard(
    name="backups",
    title="Backups",
    description="How old the newest copy of each set is, when one was brought back, and what backing up cost.",
    variables=[SET],
    since="now-30d",
    rows=[
        Row(
            "",
            [
                number(
                    "Oldest last backup",
                    "Of the set that waits longest for one that goes well.",
                    _oldest("backup_run", "state = 'ok'"),
                    empty="No backup has gone well yet: homelab-agent backup plan",
                    unit="s",
                    thresholds=above(36 * 3600, 72 * 3600),
                    width=6,
                ),
                number(
                    "Oldest last proof",
                    "Of the set whose copy was not brought back for longest. What was never restored is a hope.",
                    _oldest("backup_drill", "ok"),
                    empty="No copy was ever brought back: homelab-agent backup drill",
                    unit="s",
                    thresholds=above(35 * 86400, 90 * 86400),
                    width=6,
                ),
                number(
                    "Runs that failed",
                    "In this range. Which: the table of runs.",
                    "SELECT count(*)::integer AS value FROM homelab.backup_run\n"
                    f" WHERE $__timeFilter(ended_at) AND state <> 'ok' AND host IN ({HOSTS}) AND {CHOSEN}",
                    empty="The database does not answer",
                    thresholds=above(1, 5),
                    width=6,
                ),
                number(
                    "Kept by the newest copies",
                    "What the newest archive of each set takes where it is kept.",
                    "SELECT sum(stored_bytes)::double precision AS value FROM (\n"
                    "  SELECT DISTINCT ON (host, set_name, engine) stored_bytes FROM homelab.backup_archive\n"
                    f"   WHERE host IN ({HOSTS}) AND {CHOSEN} ORDER BY host, set_name, engine, at DESC) AS newest",
                    empty="There is no archive yet",
                    unit="bytes",
                    width=6,
                ),
                table(
                    "Sets",
                    "How each stands: the longest without a good copy first. Cold and dump are consistent; crash is as"
                    " after a power cut; live and dirty may not be.",
                    SETS,
                    empty="No backup yet: homelab-agent backup plan",
                    width=24,
                    component="backup",
                    overrides=[
                        STATES,
                        words(
                            "Kind of copy",
                            {"cold": GREEN, "dump": GREEN, "crash": ORANGE, "live": ORANGE, "dirty": RED},
                        ),
                        column("Last that went well", "s", above(36 * 3600, 72 * 3600)),
                        column("Last brought back", "s", above(35 * 86400, 90 * 86400)),
                        column("Read", "bytes"),
                        column("Kept", "bytes"),
                    ],
                ),
                table(
                    "How backing up stands",
                    "As the agents say, with what mends it.",
                    STANDING,
                    empty="No set is configured: homelab-agent backup plan",
                    width=24,
                    height=6,
                    component="backup",
                    overrides=[
                        words("State", {"ok": GREEN, "failed": RED, "degraded": ORANGE, "disabled": GREY}),
                        column("Since", "dateTimeFromNow"),
                    ],
                ),
            ],
        ),
        Row(
            "Runs",
            [
                Panel(
                    title="Runs and how they ended",
                    description="How many there were.",
                    empty=NO_RUN,
                    queries=[Query(events.counted("backup_run", "ended_at", "state", where=CHOSEN))],
                    custom=BARS,
                    component="backup",
                    decimals=0,
                ),
                Panel(
                    title="How long a run takes",
                    description="Much more than before: more to read, or a slower place.",
                    empty=NO_RUN,
                    queries=[
                        Query(
                            events.points(
                                "backup_run",
                                "ended_at",
                                "set_name || ' at ' || engine",
                                "extract(epoch FROM ended_at - started_at)",
                                where=CHOSEN,
                            )
                        )
                    ],
                    unit="s",
                    thresholds=above(3600, 14_400),
                    custom=POINTS,
                    component="backup",
                ),
                Panel(
                    title="How long containers stood still",
                    description="For a consistent copy; who uses them waits so long.",
                    empty="No container was stopped for a backup in this range",
                    queries=[Query(STOOD)],
                    unit="s",
                    thresholds=above(60, 600),
                    custom=POINTS,
                    component="backup",
                ),
                Panel(
                    title="Size of each copy",
                    description="As read. One that is suddenly small has lost something.",
                    empty="No copy was made in this range",
                    queries=[
                        Query(
                            events.points("backup_archive", "at", "set_name || ' at ' || engine", "bytes", where=CHOSEN)
                        )
                    ],
                    unit="bytes",
                    custom=POINTS,
                    component="backup",
                ),
                table(
                    "Runs",
                    "The newest first.",
                    events.newest(
                        "backup_run",
                        "ended_at",
                        'host AS "Host", set_name AS "Set", engine AS "At", state AS "State",'
                        ' extract(epoch FROM ended_at - started_at) AS "Took", bytes AS "Read", detail AS "Detail",'
                        ' archive_id AS "Archive"',
                        where=CHOSEN,
                    ),
                    empty=NO_RUN,
                    width=24,
                    component="backup",
                    overrides=[STATES, WHEN, column("Took", "s"), column("Read", "bytes")],
                ),
            ],
        ),
        Row(
            "Proof",
            [
                table(
                    "Drills",
                    "Copies that were brought back to see whether they can be, the newest first.",
                    events.newest(
                        "backup_drill",
                        "ended_at",
                        'host AS "Host", set_name AS "Set", engine AS "At", ok AS "Went well", seconds AS "Took",'
                        ' detail AS "Detail", archive_id AS "Archive"',
                        where=CHOSEN,
                    ),
                    empty=NO_DRILL,
                    component="backup",
                    overrides=[WHEN, column("Took", "s")],
                ),
                Panel(
                    title="How long bringing back takes",
                    description="What you would wait for, if it had to be.",
                    empty=NO_DRILL,
                    queries=[Query(events.points("backup_drill", "ended_at", "set_name", "seconds", where=CHOSEN))],
                    unit="s",
                    thresholds=above(3600, 14_400),
                    custom=POINTS,
                    component="backup",
                ),
                logs(
                    "What was said",
                    "Of backups and drills.",
                    '{job=~".+", host=~"${host:regex}", component="backup"} | json',
                    empty="Nothing was said in this range",
                    component="backup",
                ),
            ],
        ),
    ],
)
