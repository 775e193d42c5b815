"""Rules about what the agents do: backups and their proof, deployments, the door, secrets, the reading list, jobs."""

from __future__ import annotations

from compose.grafana.build.age import STANDING
from compose.grafana.build.alert import Rule
from compose.grafana.build.rules.asked import among, standing

HOST = "{{ .Labels.host }}"
SET = "{{ .Labels.backup_set }}"
CHECK = "{{ .Labels.check_name }}"
REPOSITORY = "{{ .Labels.repository }}"
ORIGIN = "{{ .Labels.origin }}"
DAY = 86400

RULES = (
    Rule(
        name="backup-stale",
        title="A backup is overdue",
        sql="""SELECT host, set_name AS backup_set, (extract(epoch FROM now() - max(ended_at))
       / greatest(93600, 2 * percentile_cont(0.5) WITHIN GROUP (ORDER BY apart)))::double precision AS value
  FROM (SELECT host, set_name, ended_at,
               extract(epoch FROM ended_at - lag(ended_at) OVER (PARTITION BY host, set_name,
                    engine ORDER BY ended_at)) AS apart
          FROM homelab.backup_run
         WHERE state = 'ok' AND ended_at > now() - INTERVAL '180 days') AS good
 GROUP BY host, set_name""",
        over=1,
        during="0s",
        severity="critical",
        summary=f"{HOST}: no backup of {SET} has gone well for too long",
        cause="For longer than twice what lies between its runs otherwise, and for more than 26 hours. It"
        " failed, did not"
        " run, or the host was off. A set that was given up is forgotten after 180 days.",
        repair=f"homelab-agent backup status; homelab-agent backup run {SET}",
        board="backups",
        panel="Sets",
    ),
    Rule(
        name="backup-failed",
        title="A backup has failed",
        sql="""SELECT DISTINCT ON (host, set_name, engine) host, set_name AS backup_set, engine,
       (state <> 'ok')::integer::double precision AS value
  FROM homelab.backup_run WHERE ended_at > now() - INTERVAL '60 days'
 ORDER BY host, set_name, engine, ended_at DESC""",
        over=0,
        during="0s",
        summary=f"{HOST}: the last backup of {SET} at {{{{ .Labels.engine }}}} has failed",
        cause="The table of runs has why. Older copies are kept meanwhile.",
        repair="homelab-agent backup status; homelab-agent doctor backup",
        board="backups",
        panel="Runs",
    ),
    Rule(
        name="backup-unproven",
        title="No copy was brought back for too long",
        sql=f"""SELECT made.host, made.set_name AS backup_set, (extract(epoch FROM now() - greatest(
       made.first, (SELECT max(drill.ended_at) FROM homelab.backup_drill AS drill
                     WHERE drill.host = made.host AND drill.set_name = made.set_name AND drill.ok))) / {DAY})
       ::double precision AS value
  FROM (SELECT host, set_name, min(ended_at) AS first FROM homelab.backup_run WHERE state = 'ok'
         GROUP BY host, set_name HAVING max(ended_at) > now() - INTERVAL '180 days') AS made""",
        over=35,
        during="0s",
        summary=f"{HOST}: no copy of {SET} was brought back for more than 35 days",
        cause="A copy that was never restored is a hope. Drills do it by themselves, unless they are off or fail.",
        repair=f"homelab-agent backup drill {SET}",
        board="backups",
        panel="Drills",
    ),
    Rule(
        name="drill-failed",
        title="A copy could not be brought back",
        sql="""SELECT DISTINCT ON (host, set_name) host, set_name AS backup_set,
       (NOT ok)::integer::double precision AS value
  FROM homelab.backup_drill WHERE ended_at > now() - INTERVAL '180 days'
 ORDER BY host, set_name, ended_at DESC""",
        over=0,
        during="0s",
        severity="critical",
        summary=f"{HOST}: the last copy of {SET} that was tried could not be brought back",
        cause="The table of drills has why. Until it is mended, do not count on that set's copies.",
        repair=f"homelab-agent backup drill {SET}; homelab-agent backup verify",
        board="backups",
        panel="Drills",
    ),
    Rule(
        name="backup-check",
        title="Backing up is in trouble",
        sql=standing(among("backup")),
        checks=("backup",),
        over=0,
        during="15m",
        summary=f"{HOST}: {CHECK} needs you",
        cause="As the agent says: containers that stand still, a place that is full or away, a set that cannot"
        " be read.",
        repair="homelab-agent backup status; homelab-agent backup resume",
        board="backups",
        panel="How backing up stands",
    ),
    Rule(
        name="gate-blocked",
        title="The door is blocked",
        sql=standing(among("gate")),
        checks=("gate",),
        over=0,
        during="10m",
        summary=f"{HOST}: {CHECK} is blocked, or somebody else's",
        cause="The tailnet's policy, a certificate, an expired key, a version of tailscaled: webhooks do not arrive.",
        repair="homelab-agent gate why; homelab-agent doctor gate",
        board="gate",
        panel="How the doors stand",
    ),
    Rule(
        name="gate-unsteady",
        title="The door changes all the time",
        sql="""SELECT host, count(*)::double precision AS value FROM homelab.gate_exposure
 WHERE closed_at > now() - INTERVAL '1 hour' GROUP BY host""",
        over=6,
        during="0s",
        summary=f"{HOST}: the door was opened and shut more than six times within an hour",
        cause="What the agent needs comes and goes, or the internet does not reach it.",
        repair="homelab-agent gate history; homelab-agent gate why",
        board="gate",
        panel="Openings",
    ),
    Rule(
        name="secret-stale",
        title="A secret is stale",
        sql=standing(among("secrets")),
        checks=("secrets",),
        over=0,
        during="10m",
        summary=f"{HOST}: secrets cannot be read",
        cause="OpenBao is sealed, away, or refuses. Last values are used for secrets.max_stale, from memory alone: an"
        " agent that starts meanwhile has none.",
        repair="homelab-agent doctor secrets; bao status; bao operator unseal",
        board="agent",
        panel="Checks",
    ),
    Rule(
        name="secret-refused",
        title="A new secret was refused",
        sql="""SELECT DISTINCT ON (host, reference) host, reference,
       (outcome <> 'adopted')::integer::double precision AS value
  FROM homelab.secret_change WHERE at > now() - INTERVAL '7 days'
 ORDER BY host, reference, at DESC""",
        over=0,
        during="0s",
        summary=f"{HOST}: the new value of {{{{ .Labels.reference }}}} was not taken over",
        cause="Who uses it could not log in with it; the old value stays in use.",
        repair="homelab-agent secrets list",
        board="agent",
        panel="Secrets that changed",
    ),
    Rule(
        name="deploy-failed",
        title="A deployment has failed",
        sql="""SELECT DISTINCT ON (host, repository) host, repository,
       (state <> 'ok')::integer::double precision AS value
  FROM homelab.gitops_move WHERE ended_at > now() - INTERVAL '30 days'
 ORDER BY host, repository, ended_at DESC""",
        over=0,
        during="0s",
        summary=f"{HOST}: the last deployment of {REPOSITORY} has failed or was rolled back",
        cause="What its actions printed: homelab-agent gitops show.",
        repair=f"homelab-agent gitops status; homelab-agent gitops rollback {REPOSITORY}",
        board="gitops",
        panel="The last deployment of each repository",
    ),
    Rule(
        name="repository-stuck",
        title="A repository cannot be deployed",
        sql=standing(among("gitops", "webhook")),
        checks=("gitops", "webhook"),
        over=0,
        during="15m",
        summary=f"{HOST}: {CHECK} needs you",
        cause="Edited files, a lost key, a webhook without a secret: the table of repositories has its words.",
        repair="homelab-agent gitops status; sudo homelab-agent doctor gitops",
        board="gitops",
        panel="How the repositories stand",
    ),
    Rule(
        name="sync-failed",
        title="The reading list's sync fails",
        sql="""SELECT origin, count(*) FILTER (WHERE status IN ('failed', 'interrupted'))::double precision AS value
  FROM (SELECT origin, status, row_number() OVER (PARTITION BY origin ORDER BY started_at DESC) AS place
          FROM homelab.sync_history
         WHERE stream = 'sync' AND status <> 'running' AND started_at > now() - INTERVAL '30 days') AS run
 WHERE place <= 2 GROUP BY origin""",
        over=1,
        during="0s",
        summary=f"the last two syncs of {ORIGIN} have failed",
        cause="On whichever host they ran. The source does not answer, refuses the log-in, or PostgreSQL was away.",
        repair="homelab-agent reading status; homelab-agent doctor reading",
        board="reading",
        panel="Sources",
    ),
    Rule(
        name="sync-stale",
        title="The reading list is not up to date",
        sql=f"""SELECT origin, (extract(epoch FROM now() - coalesce(max(ended_at) FILTER (WHERE status = 'ok'),
       min(started_at))) / greatest({3 * DAY}, 2 * percentile_cont(0.5) WITHIN GROUP (ORDER BY apart)))
       ::double precision AS value
  FROM (SELECT origin, status, started_at, ended_at, extract(epoch FROM
               started_at - lag(started_at) OVER (PARTITION BY origin ORDER BY started_at)) AS apart
          FROM homelab.sync_history WHERE stream = 'sync' AND started_at > now() - INTERVAL '180 days') AS run
 WHERE 'reading.' || origin IN (SELECT check_name FROM {STANDING})
 GROUP BY origin""",
        over=1,
        during="0s",
        summary=f"no sync of {ORIGIN} has gone well for too long",
        cause="For more than three days, and for longer than twice what lies between its runs otherwise. It fails, or"
        " does not run at all. A source that is configured nowhere any more is forgotten.",
        repair="homelab-agent reading status; homelab-agent reading sync",
        board="reading",
        panel="Sources",
    ),
    Rule(
        name="sync-differs",
        title="The reading list and its source do not agree",
        sql="""SELECT proof.origin, count(*)::double precision AS value
  FROM homelab.sync_proof AS proof JOIN homelab.sync_history AS run USING (run, origin)
 WHERE run.started_at > now() - INTERVAL '1 day'
   AND (proof.source_hash <> proof.stored_hash OR proof.processed <> proof.stored OR proof.refused <> proof.rejected)
 GROUP BY proof.origin""",
        over=0,
        during="0s",
        summary=f"{ORIGIN}: days at the source and here differ",
        cause="Rows were compared after a run. Something was deleted or changed on one side.",
        repair="homelab-agent reading verify",
        board="reading",
        panel="Days that do not agree",
    ),
    Rule(
        name="job-failed",
        title="A job fails again and again",
        sql="""SELECT host, job, count(*) FILTER (WHERE state IN ('failed', 'timed_out',
       'interrupted'))::double precision AS value
  FROM (SELECT host, job, state, row_number() OVER (PARTITION BY host, job ORDER BY requested_at DESC) AS place
          FROM homelab.job_run
         WHERE state <> 'cancelled' AND requested_at > now() - INTERVAL '30 days'
           AND job !~ '^(backup|gitops|reading)\\.') AS run
 WHERE place <= 2 GROUP BY host, job""",
        over=1,
        during="0s",
        summary=f"{HOST}: {{{{ .Labels.job }}}} has failed twice in a row",
        cause="The table of runs has why, and what mends it.",
        repair="homelab-agent jobs history; homelab-agent jobs run JOB",
        board="overview",
        panel="Runs that did not go well",
    ),
)
