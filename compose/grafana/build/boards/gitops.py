"""GitOps: what is deployed, what became of each webhook, how long it takes."""

from __future__ import annotations

from compose.grafana.build import age
from compose.grafana.build.boards import events
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import BLUE, GREEN, GREY, ORANGE, RED, Panel, Query, above
from compose.grafana.build.shapes import BARS, POINTS, column, logs, number, table, words
from compose.grafana.build.sql import HOSTS
from compose.grafana.build.variable import Variable

CHOSEN = "repository IN (${repository:sqlstring})"
GOOD = "'ok', 'up_to_date', 'included', 'pong', 'ignored', 'duplicate'"
NOTHING = "Nothing was deployed in this range"
REPOSITORY = Variable(
    "repository",
    "Repository",
    f"SELECT DISTINCT repository FROM homelab.gitops_move WHERE host IN ({HOSTS})"
    " UNION SELECT DISTINCT repository FROM homelab.gitops_verdict"
    f" WHERE repository <> '' AND host IN ({HOSTS}) ORDER BY 1",
)
STATES = words("State", {"ok": GREEN, "failed": RED, "rolled_back": ORANGE, "interrupted": ORANGE, "degraded": ORANGE})
WHEN = column("When", "dateTimeAsLocal", width=160)
LAST = f"""SELECT DISTINCT ON (host, repository) host AS "Host", repository AS "Repository", state AS "State",
       ended_at AS "When", left(to_sha, 12) AS "Commit", detail AS "Detail"
  FROM homelab.gitops_move WHERE host IN ({HOSTS}) AND {CHOSEN}
 ORDER BY host, repository, ended_at DESC"""
STANDING = f"""SELECT host AS "Host", check_name AS "Check", state AS "State", since AS "Since", detail AS "Detail",
       repair AS "Repair"
  FROM {age.STANDING}
 WHERE (check_name LIKE 'gitops.%' OR check_name IN ('webhook', 'commit_status')) AND host IN ({HOSTS})
 ORDER BY needs_you DESC, 1, 2"""
ACTIONS = f"""SELECT action.ended_at AS "When", action.host AS "Host", move.repository AS "Repository",
       action.name AS "Action",
       action.state AS "State", extract(epoch FROM action.ended_at - action.started_at) AS "Took",
       action.detail AS "Detail"
  FROM homelab.gitops_action AS action JOIN homelab.gitops_move AS move ON move.host = action.host
   AND move.id = action.move_id
 WHERE $__timeFilter(action.ended_at) AND action.host IN ({HOSTS}) AND move.{CHOSEN}
 ORDER BY 1 DESC LIMIT 100"""


def _count(table_name: str, at: str, where: str) -> str:
    return (
        f"SELECT count(*)::integer AS value FROM homelab.{table_name}\n"
        f" WHERE $__timeFilter({at}) AND host IN ({HOSTS}) AND {where}"
    )


BOARD = Dashboard(
    name="gitops",
    title="GitOps",
    description="What is deployed, what became of each webhook, how long it takes.",
    variables=[REPOSITORY],
    since="now-7d",
    rows=[
        Row(
            "",
            [
                number(
                    "Deployed",
                    "How often, in this range.",
                    _count("gitops_move", "ended_at", CHOSEN),
                    empty="The database does not answer",
                    width=6,
                ),
                number(
                    "That went wrong",
                    "Failed, cut short or rolled back. Which: the table of deployments.",
                    _count("gitops_move", "ended_at", f"state <> 'ok' AND {CHOSEN}"),
                    empty="The database does not answer",
                    thresholds=above(1, 3),
                    width=6,
                ),
                number(
                    "Webhooks that ended badly",
                    "A verdict that is not good: the table of webhooks has its repair.",
                    _count("gitops_verdict", "closed_at", f"verdict NOT IN ({GOOD})"),
                    empty="The database does not answer",
                    thresholds=above(1, 5),
                    width=6,
                ),
                number(
                    "Half of the pushes are deployed within",
                    "From the webhook to the end of what follows it.",
                    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - received_at))"
                    " AS value\n  FROM homelab.gitops_verdict\n"
                    f" WHERE $__timeFilter(closed_at) AND host IN ({HOSTS}) AND verdict = 'ok' AND {CHOSEN}",
                    empty="No push was deployed in this range",
                    unit="s",
                    thresholds=above(60, 600),
                    width=6,
                ),
            ],
        ),
        Row(
            "What is deployed",
            [
                table(
                    "The last deployment of each repository",
                    "Failed: homelab-agent gitops rollback REPO, or a push that mends it.",
                    LAST,
                    empty="Nothing was deployed yet: homelab-agent gitops add URL DIR",
                    overrides=[STATES, WHEN],
                ),
                table(
                    "How the repositories stand",
                    "As the agents say: what keeps them from being deployed, and what mends it.",
                    STANDING,
                    empty="No repository is configured: homelab-agent gitops add URL DIR",
                    overrides=[STATES, column("Since", "dateTimeFromNow")],
                ),
                Panel(
                    title="Deployments and how they ended",
                    description="How many there were.",
                    empty=NOTHING,
                    queries=[Query(events.counted("gitops_move", "ended_at", "state", where=CHOSEN))],
                    custom=BARS,
                    component="gitops",
                    decimals=0,
                ),
                Panel(
                    title="How long deployments took",
                    description="Without waiting for others. Much more than before: an action that hangs.",
                    empty=NOTHING,
                    queries=[
                        Query(
                            events.points(
                                "gitops_move",
                                "ended_at",
                                "repository",
                                "extract(epoch FROM ended_at - started_at)",
                                where=CHOSEN,
                            )
                        )
                    ],
                    unit="s",
                    thresholds=above(300, 1800),
                    custom=POINTS,
                    component="gitops",
                ),
                table(
                    "Deployments",
                    "The newest first. What the actions printed: homelab-agent gitops show RUN.",
                    events.newest(
                        "gitops_move",
                        "ended_at",
                        'host AS "Host", repository AS "Repository", left(from_sha, 10) AS "From",'
                        ' left(to_sha, 10) AS "To", state AS "State",'
                        ' extract(epoch FROM ended_at - started_at) AS "Took", detail AS "Detail", run_id AS "Run"',
                        where=CHOSEN,
                    ),
                    empty=NOTHING,
                    width=24,
                    component="gitops",
                    overrides=[STATES, WHEN, column("Took", "s")],
                ),
                table(
                    "Actions",
                    "What followed deployments, the newest first.",
                    ACTIONS,
                    empty="No action ran in this range",
                    width=24,
                    component="gitops",
                    overrides=[STATES, WHEN, column("Took", "s")],
                ),
            ],
        ),
        Row(
            "Webhooks",
            [
                Panel(
                    title="Webhooks and their verdicts",
                    description="How many there were. What each verdict means: docs/guide.md, Deploy from git.",
                    empty="No webhook came in this range",
                    queries=[Query(events.counted("gitops_verdict", "closed_at", "verdict"))],
                    custom=BARS,
                    component="gitops",
                    decimals=0,
                ),
                Panel(
                    title="From the webhook to its verdict",
                    description="With waiting. It waits for a backup or for another repository that need the same.",
                    empty="No webhook came in this range",
                    queries=[
                        Query(
                            events.points(
                                "gitops_verdict",
                                "closed_at",
                                "repository || ' ' || verdict",
                                "extract(epoch FROM closed_at - received_at)",
                                where="repository <> ''",
                            )
                        )
                    ],
                    unit="s",
                    thresholds=above(300, 1800),
                    custom=POINTS,
                    component="gitops",
                ),
                table(
                    "Webhooks",
                    "The newest first, with what mends a bad verdict. One once more: homelab-agent deliveries"
                    " replay GUID.",
                    events.newest(
                        "gitops_verdict",
                        "closed_at",
                        'host AS "Host", repository AS "Repository", event AS "Event", verdict AS "Verdict",'
                        ' detail AS "Detail", repair AS "Repair", source AS "From", key_name AS "Signed with",'
                        ' attempt AS "Attempt", guid AS "GUID"',
                    ),
                    empty="No webhook came in this range",
                    width=24,
                    component="gitops",
                    overrides=[
                        words("Verdict", {"ok": GREEN, "up_to_date": GREEN, "pong": BLUE, "ignored": GREY}),
                        WHEN,
                    ],
                ),
                logs(
                    "What was said",
                    "Of deployments: begun, held up, rolled back.",
                    '{job=~".+", host=~"${host:regex}", component="gitops"} | json',
                    empty="Nothing was said in this range",
                    component="gitops",
                ),
            ],
        ),
    ],
)
