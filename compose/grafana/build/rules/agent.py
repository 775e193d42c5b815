"""Rules about the agents: whether their samples come at all, and what they say of themselves."""

from __future__ import annotations

from compose.grafana.build.age import age
from compose.grafana.build.alert import ALERTING, Rule
from compose.grafana.build.rules import hardware, host, work
from compose.grafana.build.rules.asked import among, over_time, standing

HOST = "{{ .Labels.host }}"
CHECK = "{{ .Labels.check_name }}"
OTHERS = [check for rules in (hardware.RULES, host.RULES, work.RULES) for rule in rules for check in rule.checks]
"""Checks of which another rule tells: one thing that is wrong is one message."""


def _of_ticks(value: str, period: str, samples: int) -> str:
    """Return the SQL of an aggregate of each host's samples of a period, or of so many where they are further apart."""
    return f"""SELECT age.host, ({value})::double precision AS value
  FROM (
  {age()}) AS age
 CROSS JOIN LATERAL (
       SELECT * FROM homelab.tick WHERE tick.host = age.host
          AND tick.time > now() - greatest(INTERVAL '{period}', {samples} * age.apart * INTERVAL '1 second')) AS tick
 GROUP BY age.host"""


RULES = (
    Rule(
        name="samples-late",
        title="No samples come from a host",
        sql=f"SELECT host, seconds / longest AS value\n  FROM (\n  {age()}) AS age",
        over=1,
        during="1m",
        severity="critical",
        summary=f"{HOST}: no sample for more than 5 minutes",
        cause="The host is off, its agent is down, or the agent does not reach PostgreSQL. This is asked of"
        " the database:"
        " no agent takes part. If PostgreSQL itself does not answer, or no host has written within 30 days, this"
        " rule fires, too. A host that is gone for good is forgotten after 30 days.",
        repair="systemctl status homelab-agent; journalctl -u homelab-agent -n 50; homelab-agent doctor database",
        board="overview",
        panel="Hosts",
        no_data=ALERTING,
        on_error=ALERTING,
    ),
    Rule(
        name="check-failed",
        title="A check of the agent has failed",
        sql=standing(f"state = 'failed' AND NOT {among(*OTHERS)}"),
        over=0,
        during="10m",
        summary=f"{HOST}: {CHECK} has failed",
        cause="The agent says so itself, for 10 minutes; the table of what is wrong has its words and its repair.",
        repair="homelab-agent status; homelab-agent doctor",
        board="overview",
        panel="What is wrong, and what mends it",
    ),
    Rule(
        name="spool",
        title="Rows wait on disk for PostgreSQL",
        sql=_of_ticks("avg(tick.spooled::integer)", "15 minutes", 3),
        over=0.5,
        during="10m",
        summary=f"{HOST}: rows wait on disk for PostgreSQL",
        cause="Samples come, but some rows do not in time: PostgreSQL takes them more slowly than they come, or refuses"
        " some. At the spool's bound the oldest samples are thinned. Where nothing comes at all, the rule of the"
        " newest sample fires.",
        repair="homelab-agent doctor database; homelab-agent db info",
        board="agent",
        panel="Rows that wait",
    ),
    Rule(
        name="rows-given-up",
        title="Samples were given up",
        sql="""SELECT host, sum(rows)::double precision AS value FROM homelab.gap
 WHERE to_at > now() - INTERVAL '1 day' GROUP BY host""",
        over=0,
        during="0s",
        summary=f"{HOST}: rows were thinned or dropped within a day",
        cause="The spool was full, for PostgreSQL was away for too long; table gap has from when to when.",
        repair="homelab-agent db info; raise agent.spool_max_bytes, or keep PostgreSQL up",
        board="agent",
        panel="Rows that were given up",
    ),
    Rule(
        name="agent-restarts",
        title="An agent starts again and again",
        sql="""SELECT host, count(*)::double precision AS value FROM homelab.agent_start
 WHERE time > now() - INTERVAL '1 hour' GROUP BY host""",
        over=3,
        during="0s",
        summary=f"{HOST}: its agent began more than three times within an hour",
        cause="It ends by itself, or its watchdog ends it.",
        repair="journalctl -u homelab-agent -p warning -n 100",
        board="agent",
        panel="Starts",
    ),
    Rule(
        name="samples-missed",
        title="Samples are missed",
        sql=_of_ticks("sum(tick.skipped)", "15 minutes", 90),
        over=10,
        during="5m",
        summary=f"{HOST}: more than ten samples missed in 15 minutes, or of ninety",
        cause="The host had no time for its agent: processor, disk or memory are at their end.",
        repair="homelab-agent metrics sample; top",
        board="agent",
        panel="Samples missed",
    ),
    Rule(
        name="clock",
        title="The clock is not synchronised",
        sql=_of_ticks("(NOT bool_or(tick.clock_synchronised))::integer", "1 hour", 3),
        over=0,
        during="1h",
        summary=f"{HOST}: its clock is not synchronised",
        cause="By the kernel's own word, for hours. Times of samples, logs and certificates go wrong then.",
        repair="timedatectl timesync-status, or chronyc tracking",
        board="agent",
        panel="Clock synchronised",
    ),
    Rule(
        name="clock-set",
        title="The clock was set",
        sql=_of_ticks("max(abs(tick.step_s))", "15 minutes", 3),
        over=2,
        during="0s",
        severity="info",
        summary=f"{HOST}: its clock was set by more than 2 s",
        cause="By hand, or by a clock that had lost its way. Some samples may stand at other times than they"
        " were taken.",
        repair="timedatectl; journalctl -u systemd-timesyncd -u chrony -n 50",
        board="agent",
        panel="Clock set",
    ),
    Rule(
        name="database-slow",
        title="PostgreSQL is slow",
        sql=over_time("agent", "avg(database_ms)", 15),
        over=500,
        during="15m",
        summary=f"{HOST}: PostgreSQL takes more than half a second for the shortest question",
        cause="Its disk or memory is at its end, or the way to it is.",
        repair="homelab-agent doctor database; homelab-agent db info",
        board="agent",
        panel="PostgreSQL answers in",
    ),
)
