"""SQL of panels: one question that is answered from samples or from a rollup, whichever the asked range needs.

Each arm of the UNION ALL has a condition on the range alone. What Grafana puts in for its macros are constants, so the
planner leaves out an arm that is too fine for the range, and the executor one whose rows are not kept any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SCHEMA = "homelab"
HOSTS = "${host:sqlstring}"
SEVERAL = f"cardinality(ARRAY[{HOSTS}]) > 1"
HOST_FIRST = f"CASE WHEN {SEVERAL} THEN host || ' ' ELSE '' END || "
"""What a line's name begins with: the host, where several are asked for."""
_RANGE = "$__unixEpochTo() - $__unixEpochFrom()"
_AGE = "extract(epoch FROM now()) - $__unixEpochFrom()"
_DAY = 86400
_COLUMN = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Arm:
    """Where rows of one width are, for which range at most, and for how long the agent's defaults keep them."""

    suffix: str
    milliseconds: int
    longest: int
    kept: int

    @property
    def is_enough(self) -> str:
        """The condition that this arm reaches back far enough, and is not too fine."""
        return f"{_RANGE} <= {self.longest} AND {_AGE} <= {self.kept}"


ARMS = (
    Arm("", 1000, 3 * 3600, 29 * _DAY),
    Arm("_1m", 60_000, 2 * _DAY, 59 * _DAY),
    Arm("_1h", 3_600_000, 120 * _DAY, 720 * _DAY),
    Arm("_1d", 86_400_000, 0, 0),
)
"""From the finest to the coarsest, which is asked where no other is enough."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is drawn of a column, by `how`.

    Its `mean`, `max`, `min`; whether it was `true` at all or `always` (1 or 0); or the `sum` of what each row adds. One
    that is `alone` is drawn only while one host is asked for: the edges of a band. `of` is SQL that makes the value of
    the aggregate, which it calls {}.
    """

    column: str
    how: str = "mean"
    alone: bool = False
    of: str = "{}"

    def aggregate(self, arm: Arm) -> str:
        """Return it as SQL over rows of the arm."""
        name = self.column
        match self.how, bool(arm.suffix):
            case "mean", False:
                found = f"avg({name})"
            case "mean", True:
                found = f"sum({name}_avg * {name}_count) / nullif(sum({name}_count), 0)"
            case "true", rolled:
                found = f"max({name}_max)" if rolled else f"max({name}::integer)"
            case "always", rolled:
                found = f"min({name}_min)" if rolled else f"min({name}::integer)"
            case "sum", False:
                found = f"sum({name})"
            case "sum", True:
                found = f"round(sum({name}_avg * {name}_count))"
            case ("max" | "min") as how, rolled:
                found = f"{how}({name}_{how})" if rolled else f"{how}({name})"
            case _:
                message = f"nobody knows how to {self.how}"
                raise ValueError(message)
        return f"({self.of.format(found)})::double precision"


def band(column: str, name: str) -> Mapping[str, Measure]:
    """Return the mean, and the edges of what it was between."""
    return {
        name: Measure(column),
        "least": Measure(column, "min", alone=True),
        "greatest": Measure(column, "max", alone=True),
    }


def lines(family: str, measures: Mapping[str, Measure], *, by: str = "", where: str = "", key: str = "") -> str:
    """Return the SQL of a chart: columns time, metric and value.

    `by` is a column that tells lines of one host apart (label), `key` SQL of what is shown of it; `where` is one more
    condition, with columns in braces: of a rollup,
         it is their greatest value. Lines are called by their measure where there are several.
    """
    columns = ["host", *([by] if by else [])]
    arms = "\n  UNION ALL\n".join(_arm(family, list(measures.values()), arm, columns, where) for arm in ARMS)
    parts = [key or by] if by else []
    parts += [("' ' || " if by else "") + "line.name"] if len(measures) > 1 or not by else []
    values = ", ".join(
        f"('{name}', m{number}, {str(one.alone).lower()})" for number, (name, one) in enumerate(measures.items())
    )
    alone = f"\n WHERE NOT line.alone OR NOT {SEVERAL}" if any(one.alone for one in measures.values()) else ""
    name = HOST_FIRST + " || ".join(parts)
    return (
        f"SELECT at AS time, {name} AS metric, line.value\n  FROM (\n{arms}\n  ) AS bucket\n"
        f" CROSS JOIN LATERAL (VALUES {values}) AS line (name, value, alone){alone}\n ORDER BY 1, 2"
    )


def latest(family: str, columns: Sequence[str], *, within: str = "3 hours", label: str = "", where: str = "") -> str:
    """Return the SQL of a table: the newest row of each entity at the end of the asked range.

    `columns` are SQL over `newest`; `label` is what the entity's label is called, where it is shown.
    """
    shown = ", ".join(['entity.host AS "Host"', *([f'entity.label AS "{label}"'] if label else []), *columns])
    more = f"\n   AND {where}" if where else ""
    return (
        f"SELECT {shown}\n  FROM {SCHEMA}.entity\n CROSS JOIN LATERAL (\n"
        f"       SELECT * FROM {SCHEMA}.{family}_sample AS sample\n"
        f"        WHERE sample.entity_id = entity.id AND sample.time <= $__timeTo()\n"
        f"          AND sample.time > $__timeTo()::timestamptz - INTERVAL '{within}'\n"
        f"        ORDER BY sample.time DESC LIMIT 1) AS newest\n"
        f" WHERE entity.family = '{family}' AND entity.host IN ({HOSTS}){more}\n ORDER BY 1, 2"
    )


def gate(number: int, family: str) -> str:
    """Return the condition under which the arm of that number answers.

    Where no minutes are kept (of what comes once a minute or more seldom, `rollup` knows of none, or of old ones),
    samples answer in their place: they are as many, are kept as long, and are found by their index.
    """
    raw, minutes, hours, _ = ARMS
    kept = (
        f"coalesce((SELECT until > now() - INTERVAL '3 days' FROM {SCHEMA}.rollup\n"
        f"            WHERE series = '{family if family == 'tick' else family + '_sample'}' AND level = '1m'), false)"
    )
    return (
        f"({raw.is_enough} OR {minutes.is_enough} AND NOT {kept})",
        f"{minutes.is_enough} AND NOT ({raw.is_enough}) AND {kept}",
        f"{hours.is_enough} AND NOT ({minutes.is_enough})",
        f"NOT ({hours.is_enough})",
    )[number]


def _arm(family: str, measures: Sequence[Measure], arm: Arm, columns: Sequence[str], where: str) -> str:
    step = f"greatest($__interval_ms, {arm.milliseconds}) * INTERVAL '1 millisecond'"
    shown = ", ".join(f"{one.aggregate(arm)} AS m{number}" for number, one in enumerate(measures))
    grouped = ", ".join(str(number) for number in range(1, len(columns) + 2))
    suffix = "_max" if arm.suffix else ""
    condition = _COLUMN.sub(rf"\g<1>{suffix}", where)
    more = f" AND {condition}" if where else ""
    return (
        f"    SELECT date_bin({step}, time, TIMESTAMPTZ 'epoch') AS at, {', '.join(columns)}, {shown}\n"
        f"      FROM {SCHEMA}.{family}{arm.suffix}\n"
        f"     WHERE {gate(ARMS.index(arm), family)}\n"
        f"       AND $__timeFilter(time) AND host IN ({HOSTS}){more}\n"
        f"     GROUP BY {grouped}"
    )
