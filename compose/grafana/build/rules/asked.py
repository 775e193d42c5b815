"""SQL of rules: what every host's newest rows say, or what they came to over the last minutes."""

from __future__ import annotations


def newest(family: str, value: str, *, within: str = "30 minutes", where: str = "", named: str = "") -> str:
    """Return the SQL of a value of the newest row of each entity; `named` is what its label is called."""
    label = f", entity.label AS {named}" if named else ""
    more = f"\n   AND {where}" if where else ""
    return (
        f"SELECT entity.host{label}, ({value})::double precision AS value\n"
        f"  FROM homelab.entity CROSS JOIN LATERAL (\n"
        f"       SELECT * FROM homelab.{family}_sample AS sample\n"
        f"        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '{within}'\n"
        f"        ORDER BY sample.time DESC LIMIT 1) AS newest\n"
        f" WHERE entity.family = '{family}'{more}"
    )


def over_time(family: str, value: str, minutes: int, *, named: str = "", where: str = "") -> str:
    """Return the SQL of an aggregate of each entity's rows of the last minutes."""
    label = f", entity.label AS {named}" if named else ""
    more = f" AND {where}" if where else ""
    return (
        f"SELECT entity.host{label}, lately.value\n"
        f"  FROM homelab.entity CROSS JOIN LATERAL (\n"
        f"       SELECT ({value})::double precision AS value FROM homelab.{family}_sample AS sample\n"
        f"        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '{minutes} minutes') AS"
        f" lately\n"
        f" WHERE entity.family = '{family}' AND lately.value IS NOT NULL{more}"
    )


def standing(where: str) -> str:
    """Return the SQL of 1 for each check that needs somebody, else 0."""
    return (
        "SELECT host, check_name, needs_you::integer::double precision AS value\n"
        f"  FROM homelab.standing\n WHERE {where}"
    )
