"""SQL of rules: what every host's newest rows say, or what they came to over the last minutes.

Grafana knows an alert by its labels: two rows with the same ones make the whole rule an error. What a person calls a
thing is not unique (two disks are both "nvme Composite") and stays where the thing changes (another filesystem at one
mount point), so each question is answered by one row for a host and a label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from compose.grafana.build.age import STANDING

REACH = "22 days"
"""How far back the newest three rows of an entity are looked for: a week may lie between two (disk_health_interval)."""


@dataclass(frozen=True, slots=True)
class Known:
    """Which rows count where not each says all: those for which `condition` (SQL over `sample`) is true.

    The newest of them is taken, from up to `within` ago, as long as rows of any kind come.
    """

    condition: str
    within: str


def since(period: str, rows: int = 3) -> str:
    """Return SQL of the time that lies a period back, or `rows` rows where an entity's are further apart (`pace`)."""
    return f"now() - greatest(INTERVAL '{period}', {rows} * pace.apart)"


def pace(family: str) -> str:
    """Return SQL that gives how far apart an entity's newest rows are, as `pace.apart`; NULL where there is one row.

    The least of the last two distances, so that a time without samples is not taken for a slow pace.
    """
    return (
        f" CROSS JOIN LATERAL (\n"
        f"       SELECT min(lately.apart) AS apart FROM (\n"
        f"              SELECT last.time - lead(last.time) OVER (ORDER BY last.time DESC) AS apart FROM (\n"
        f"                     SELECT sample.time FROM homelab.{family}_sample AS sample\n"
        f"                      WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '{REACH}'\n"
        f"                      ORDER BY sample.time DESC LIMIT 3) AS last) AS lately) AS pace\n"
    )


def newest(
    family: str,
    value: str,
    *,
    within: str = "30 minutes",
    where: str = "",
    named: str = "",
    worst: str = "max",
    known: Known | None = None,
) -> str:
    """Return the SQL of a value of the newest row that each label has; `named` is what the label is called.

    Of two rows of one time the `worst` value counts, max or min.
    """
    rows = f"homelab.{family}_sample AS sample\n        WHERE sample.entity_id = entity.id AND sample.time >"
    more = f"\n   AND {where}" if where else ""
    begin, condition = since(within), ""
    if known is not None:
        more += f"\n   AND EXISTS (SELECT FROM {rows} {since(within)})"
        begin = f"now() - greatest(INTERVAL '{known.within}', 3 * pace.apart)"
        condition = f" AND {known.condition}"
    order = {"max": "DESC", "min": "ASC"}[worst]
    return (
        f"SELECT DISTINCT ON (entity.host, entity.label) entity.host{_label(named)},\n"
        f"       ({value})::double precision AS value\n"
        f"  FROM homelab.entity\n{pace(family)}"
        f" CROSS JOIN LATERAL (\n"
        f"       SELECT * FROM {rows} {begin}{condition}\n"
        f"        ORDER BY sample.time DESC LIMIT 1) AS newest\n"
        f" WHERE entity.family = '{family}'{more}\n"
        f" ORDER BY entity.host, entity.label, newest.time DESC, value {order}"
    )


def over_time(
    family: str, value: str, minutes: int, *, named: str = "", where: str = "", rows: str = "", worst: str = "max"
) -> str:
    """Return the SQL of an aggregate of each entity's rows of the last minutes: the `worst` that a label has.

    `rows` is SQL over the entity's rows, which are `sample` there, where the aggregate is of something else than them.
    """
    more = f" AND {where}" if where else ""
    lately = (
        f"SELECT {rows or '*'} FROM homelab.{family}_sample AS sample\n"
        f"                WHERE sample.entity_id = entity.id AND sample.time > {since(f'{minutes} minutes')}"
    )
    return (
        f"SELECT entity.host{_label(named)}, {worst}(lately.value) AS value\n"
        f"  FROM homelab.entity\n{pace(family)}"
        f" CROSS JOIN LATERAL (\n"
        f"       SELECT ({value})::double precision AS value FROM (\n"
        f"               {lately}) AS sample) AS lately\n"
        f" WHERE entity.family = '{family}' AND lately.value IS NOT NULL{more}\n"
        f" GROUP BY entity.host, entity.label"
    )


def standing(where: str) -> str:
    """Return the SQL of 1 for each check that needs somebody, else 0; of hosts that are not gone for good."""
    return f"SELECT host, check_name, needs_you::integer::double precision AS value\n  FROM {STANDING}\n WHERE {where}"


def among(*checks: str) -> str:
    """Return the SQL condition that a check is one of these, or one of its parts: gate.funnel is of gate."""
    names = "|".join(re.escape(check) for check in checks)
    return rf"(check_name || '.') ~ '^({names})\.'"


def _label(named: str) -> str:
    return f", entity.label AS {named}" if named else ""
