"""SQL over tables of events, which have a row for each thing that happened, and need no rollup."""

from __future__ import annotations

from compose.grafana.build.sql import HOST_FIRST, HOSTS

STEP = "greatest($__interval_ms, 60000) * INTERVAL '1 millisecond'"


def counted(table: str, at: str, name: str, *, value: str = "count(*)", where: str = "", by_host: bool = True) -> str:
    """Return the SQL of a chart of how many rows there were of each `name`, or another aggregate of them."""
    hosts = f" AND host IN ({HOSTS})" if by_host else ""
    more = f" AND {where}" if where else ""
    return (
        f"SELECT date_bin({STEP}, {at}, TIMESTAMPTZ 'epoch') AS time, {name} AS metric,\n"
        f"       ({value})::double precision AS value\n  FROM homelab.{table}\n"
        f" WHERE $__timeFilter({at}){hosts}{more}\n GROUP BY 1, 2 ORDER BY 1, 2"
    )


def points(table: str, at: str, name: str, value: str, *, where: str = "", by_host: bool = True) -> str:
    """Return the SQL of a chart with a point for each row, the newest 5000; `name` tells a host's lines apart."""
    name = (HOST_FIRST if by_host else "") + name
    hosts = f" AND host IN ({HOSTS})" if by_host else ""
    more = f" AND {where}" if where else ""
    return (
        f"SELECT * FROM (\n  SELECT {at} AS time, {name} AS metric, ({value})::double precision AS value\n"
        f"    FROM homelab.{table}\n   WHERE $__timeFilter({at}){hosts}{more}\n"
        "   ORDER BY 1 DESC LIMIT 5000) AS newest\n ORDER BY 1, 2"
    )


def newest(table: str, at: str, columns: str, *, where: str = "", by_host: bool = True, limit: int = 100) -> str:
    """Return the SQL of a table of what happened in the asked range, the newest first."""
    hosts = f" AND host IN ({HOSTS})" if by_host else ""
    more = f" AND {where}" if where else ""
    return (
        f'SELECT {at} AS "When", {columns}\n  FROM homelab.{table}\n'
        f" WHERE $__timeFilter({at}){hosts}{more}\n ORDER BY 1 DESC LIMIT {limit}"
    )
