"""The columns of a rollup, and how each is had of samples, or of the finer rollup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homelab_agent.database.insert import quoted
from homelab_agent.database.rollups.level import MINUTE, Level
from homelab_agent.database.rollups.series import Relations, Series


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, and the SQL that makes it of samples and of finer buckets."""

    name: str
    type: str
    of_samples: str
    of_buckets: str

    def made(self, level: Level) -> str:
        """Return how it is had of what the level is made of."""
        return self.of_samples if level is MINUTE else self.of_buckets


def columns(series: Series) -> Sequence[Column]:
    """Return how many samples there are, and of each measure mean, least, greatest and how many are known."""
    found = [Column("samples", "integer", "count(*)::integer", "sum(samples)::integer")]
    for name, kind in series.measures.items():
        found += _of(name, kind)
    return found


def missing(series: Series, level: Level, there: Relations) -> Sequence[Column]:
    """Return the columns that the level does not have yet, neither where it is kept nor where it is asked for."""
    empty: frozenset[str] = frozenset()
    known = there.get(series.rollup(level), empty) & there.get(series.view(level), empty)
    return [each for each in columns(series) if each.name not in known]


def select(series: Series, level: Level, bucket: str) -> str:
    """Return what is selected of the level's source; `bucket` is the SQL of a row's bucket."""
    made = (f"{each.made(level)} AS {quoted(each.name)}" for each in columns(series))
    return f"{bucket} AS time, {', '.join(made)}"


def listed(series: Series) -> str:
    """Return the names of the columns that follow the subject."""
    return ", ".join(["time", *(quoted(each.name) for each in columns(series))])


def source(series: Series, level: Level, finer: str) -> str:
    """Return what the level is made of: the series, or where the `finer` level is read."""
    return f"homelab.{quoted(series.name if level is MINUTE else finer)}"


def _of(name: str, kind: str) -> Sequence[Column]:
    mean, least, greatest, known = (quoted(f"{name}_{what}") for what in ("avg", "min", "max", "count"))
    value = quoted(name) + ("::integer" if kind == "boolean" else "")
    extreme = "smallint" if kind == "boolean" else kind
    # A counter is larger than a real can tell; and the mean of bigints would be a slow and long numeric.
    type_ = "real" if kind in {"real", "boolean"} else "double precision"
    averaged = f"{value}::double precision" if kind == "bigint" else value
    weighted = f"sum({mean}::double precision * {known}) / nullif(sum({known}), 0)"
    return (
        Column(f"{name}_avg", type_, f"avg({averaged})::{type_}", f"({weighted})::{type_}"),
        Column(f"{name}_min", extreme, f"min({value})::{extreme}", f"min({least})"),
        Column(f"{name}_max", extreme, f"max({value})::{extreme}", f"max({greatest})"),
        Column(f"{name}_count", "integer", f"count({value})::integer", f"sum({known})::integer"),
    )
