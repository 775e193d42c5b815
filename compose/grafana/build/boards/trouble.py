"""What is wrong now: hosts of which nothing comes any more, and what agents say of themselves.

That a host is silent is asked of the newest sample, so that it is known also while no agent can say it.
"""

from __future__ import annotations

from compose.grafana.build.age import STANDING, age
from compose.grafana.build.sql import HOSTS

AGE = age(f"host IN ({HOSTS})")
"""Of each host: for how many seconds there is no sample, and how many are too long. After 30 days it is forgotten."""

ALL = f"""WITH age AS (
  {AGE}
)
SELECT 'failed' AS state, host, 'samples' AS what, time AS since,
       'none for ' || date_trunc('second', now() - time) || ': host off, agent down,
            or PostgreSQL not reached' AS detail,
       'systemctl status homelab-agent; journalctl -u homelab-agent -n 50' AS repair
  FROM age WHERE seconds > longest
 UNION ALL
SELECT state, host, check_name, since, detail, repair FROM {STANDING}
 WHERE needs_you AND host IN ({HOSTS})"""

COUNT = f"SELECT count(*)::integer AS value FROM (\n{ALL}\n) AS trouble"
TABLE = (
    'SELECT state AS "State", host AS "Host", what AS "What", since AS "Since", detail AS "Why", repair AS "Repair"\n'
    f"  FROM (\n{ALL}\n) AS trouble\n ORDER BY state DESC, since"
)
