"""Gate: when the internet was let in, why, who came, and what keeps the door shut."""

from __future__ import annotations

from compose.grafana.build import age
from compose.grafana.build.boards import events
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, GREY, ORANGE, RED, Panel, Query, Step, above
from compose.grafana.build.shapes import BARS, POINTS, column, logs, number, said, table, words
from compose.grafana.build.sql import HOSTS

SHUT = "The door was not open in this range, or it has been open all along: homelab-agent gate status"
STATES = words("State", {"ok": GREEN, "failed": RED, "degraded": ORANGE, "disabled": GREY, "not_available": GREY})
WHEN = column("When", "dateTimeAsLocal", width=160)
WITHIN = f"closed_at > $__timeFrom() AND opened_at < $__timeTo() AND host IN ({HOSTS})"
OPEN = f"""SELECT time, metric, max(value) AS value FROM (
SELECT $__timeFrom()::timestamptz AS time, host AS metric, 0 AS value
  FROM homelab.entity WHERE host IN ({HOSTS}) GROUP BY host
 UNION ALL
SELECT greatest(opened_at, $__timeFrom()::timestamptz), host, 1 FROM homelab.gate_exposure WHERE {WITHIN}
 UNION ALL
SELECT closed_at, host, 0 FROM homelab.gate_exposure WHERE {WITHIN}
) AS change
 GROUP BY 1, 2 ORDER BY 1, 2"""
STANDING = f"""SELECT host AS "Host", check_name AS "Door", state AS "State", since AS "Since", detail AS "Detail",
       repair AS "Repair"
  FROM {age.STANDING} WHERE (check_name = 'gate' OR check_name LIKE 'gate.%' OR check_name = 'webhook')
   AND host IN ({HOSTS})
 ORDER BY needs_you DESC, 1, 2"""


def _sum(what: str) -> str:
    return f"SELECT coalesce({what}, 0)::double precision AS value FROM homelab.gate_exposure\n WHERE {WITHIN}"


BOARD = Dashboard(
    name="gate",
    title="Gate",
    description="When the internet was let in, why, who came, and what keeps the door shut.",
    since="now-7d",
    rows=[
        Row(
            "",
            [
                number(
                    "Doors that need you",
                    "Blocked, held by what was lost, or somebody else's: the table says what is missing.",
                    f"SELECT count(*)::integer AS value FROM {age.STANDING} WHERE needs_you AND host IN"
                    f" ({HOSTS})\n   AND (check_name = 'gate' OR check_name LIKE 'gate.%')",
                    empty="The database does not answer",
                    thresholds=above(1, 1),
                    width=6,
                ),
                number(
                    "Opened",
                    "Openings that have ended, in this range; one that lasts is a row when it ends.",
                    _sum("count(*)"),
                    empty="The database does not answer",
                    width=6,
                ),
                number(
                    "Open for",
                    "In all, of what has ended, by a clock that nobody sets.",
                    _sum("sum(seconds)"),
                    empty="The database does not answer",
                    unit="s",
                    width=6,
                ),
                number(
                    "Requests from the internet",
                    "While it was open. Only the webhook's address answers them.",
                    _sum("sum(requests)"),
                    empty="The database does not answer",
                    width=6,
                ),
                table(
                    "How the doors stand",
                    "As the agents say, with what mends it. All at once: homelab-agent doctor gate.",
                    STANDING,
                    empty="No door is configured: gate.funnel = true",
                    width=24,
                    height=5,
                    component="gate",
                    overrides=[STATES, column("Since", "dateTimeFromNow")],
                ),
            ],
        ),
        Row(
            "Openings",
            [
                Panel(
                    title="When it was open",
                    description="Openings that have ended. One that lasts is drawn when it ends.",
                    empty=SHUT,
                    queries=[Query(OPEN)],
                    kind="state-timeline",
                    width=24,
                    height=5,
                    component="gate",
                    thresholds=[Step(GREY), Step("purple", 1)],
                    mappings=said({"0": ("shut, or open still", GREY), "1": ("open", "purple")}),
                ),
                Panel(
                    title="Why it was shut",
                    description="How often. Not ready or held up: what the agent lacked; operator: you.",
                    empty=SHUT,
                    queries=[Query(events.counted("gate_exposure", "closed_at", "left(closed_why, 60)"))],
                    custom=BARS,
                    component="gate",
                    decimals=0,
                ),
                Panel(
                    title="Who came",
                    description="Requests, and distinct addresses, of each opening. Many addresses: somebody scans.",
                    empty=SHUT,
                    queries=[
                        Query(events.points("gate_exposure", "closed_at", "'requests'", "requests")),
                        Query(events.points("gate_exposure", "closed_at", "'addresses'", "sources")),
                    ],
                    thresholds=above(1000, 100_000),
                    custom=POINTS,
                    component="gate",
                ),
                Panel(
                    title="Sent to the internet",
                    description="Bytes of each opening. A webhook's answer is small; much is somebody who probes.",
                    empty=SHUT,
                    queries=[Query(events.points("gate_exposure", "closed_at", "'sent'", "sent_bytes"))],
                    unit="bytes",
                    thresholds=above(1_048_576, 104_857_600),
                    custom=POINTS,
                    component="gate",
                ),
                Panel(
                    title="How long each was",
                    description="Short ones, one after the other: what the agent needs comes and goes.",
                    empty=SHUT,
                    queries=[Query(events.points("gate_exposure", "closed_at", "'open'", "seconds"))],
                    unit="s",
                    custom=POINTS,
                    component="gate",
                ),
                table(
                    "Openings",
                    "The newest first: why it was opened and shut, by which checks, who came.",
                    events.newest(
                        "gate_exposure",
                        "closed_at",
                        'opened_at AS "Opened", host AS "Host", seconds AS "For", opened_why AS "Opened because",'
                        ' closed_why AS "Shut because", checks AS "Decided by", requests AS "Requests",'
                        ' sources AS "Addresses", sent_bytes AS "Sent"',
                    ),
                    empty=SHUT,
                    width=24,
                    component="gate",
                    overrides=[WHEN, column("Opened", "dateTimeAsLocal"), column("For", "s"), column("Sent", "bytes")],
                ),
                table(
                    "Held by somebody",
                    "From when to when, by whom and why. Released: homelab-agent gate auto.",
                    f"""SELECT held_at AS "When", ended_at AS "Until", host AS "Host", who AS "Who", why AS "Why"
  FROM homelab.gate_hold
 WHERE held_at < $__timeTo() AND coalesce(ended_at, 'infinity') > $__timeFrom() AND host IN ({HOSTS})
 ORDER BY 1 DESC LIMIT 100""",
                    empty="Nobody held it in this range",
                    width=24,
                    height=6,
                    component="gate",
                    overrides=[WHEN, column("Until", "dateTimeAsLocal")],
                ),
                logs(
                    "What was said",
                    "Of the doors.",
                    '{job=~".+", host=~"${host:regex}", component="gate"} | json',
                    empty="Nothing was said in this range",
                    component="gate",
                ),
            ],
        ),
    ],
)
