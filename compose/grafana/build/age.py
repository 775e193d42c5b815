"""How long nothing has come from a host, and which hosts are still known: one wording for dashboards and alerts.

How far apart a host's samples are is asked of the newest ones, for a running agent may be given another interval.
"""

from __future__ import annotations

FORGOTTEN = "30 days"
"""A host of which nothing has come for so long is gone for good."""

LONGEST_SECONDS = 300
"""How long a host may be silent, unless four of its samples are further apart."""


def age(where: str = "true") -> str:
    """Return the SQL of each host's silence: columns host, seconds, time, apart (seconds) and longest (seconds).

    `where` is a condition on its column host.
    """
    return f"""SELECT known.host, extract(epoch FROM now() - newest.time)::double precision AS seconds, newest.time,
         newest.apart, greatest({LONGEST_SECONDS}, 4 * coalesce(newest.apart, 0)) AS longest
    FROM (SELECT DISTINCT host FROM homelab.entity WHERE {where}) AS known
   CROSS JOIN LATERAL (
         SELECT max(lately.time) AS time, min(extract(epoch FROM lately.apart))::double precision AS apart FROM (
                SELECT last.time, last.time - lead(last.time) OVER (ORDER BY last.time DESC) AS apart FROM (
                       SELECT tick.time FROM homelab.tick
                        WHERE tick.host = known.host AND tick.time > now() - INTERVAL '{FORGOTTEN}'
                        ORDER BY tick.time DESC LIMIT 3) AS last) AS lately) AS newest
   WHERE newest.time IS NOT NULL"""


STANDING = f"""(
         SELECT told.* FROM homelab.standing AS told
          CROSS JOIN LATERAL (
                (SELECT FROM homelab.tick
                  WHERE tick.host = told.host AND tick.time > now() - INTERVAL '{FORGOTTEN}'
                  ORDER BY tick.time DESC LIMIT 1)
                 UNION ALL
                (SELECT FROM homelab.job_run
                  WHERE job_run.host = told.host AND job_run.requested_at > now() - INTERVAL '{FORGOTTEN}' LIMIT 1)
                 LIMIT 1) AS heard
       ) AS standing"""
"""How the checks stand of all hosts that are not gone for good; one that samples nothing has jobs that run."""
