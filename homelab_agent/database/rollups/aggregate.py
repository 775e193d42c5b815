"""The columns of a rollup, and how each is had of samples, or of the finer rollup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homelab_agent.database.insert import quoted
from homelab_agent.database.rollups.level import Level
from homelab_agent.database.rollups.series import Relations, Series


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, and the SQL that makes it of samples and of finer buckets."""

    name: str
    type: str
    of_samples: str
    of_buckets: str

    def made(self, *, of_samples: bool) -> str:
        """Return how it is had, of samples or of buckets."""
        return self.of_samples if of_samples else self.of_buckets


def columns(series: Series) -> Sequence[Column]:
    """Return how many samples there are, and of each measure mean, least, greatest and how many are known."""
    found = [Column("samples", "integer", "count(*)::integer", "sum(samples)::integer")]
    for name, kind in series.measures.items():
        found += _of(name, kind)
    return found


def missing(series: Series, level: Level, there: Relations) -> Sequence[Column]:
    """Return the columns that the level does not have yet, neither where it is kept nor where it is asked for."""
    empty: frozenset[str] = frozenset()
    known = there.get(series.view(level), empty)
    if level in series.levels:
        known &= there.get(series.rollup(level), empty)
    return [each for each in columns(series) if each.name not in known]


def select(series: Series, bucket: str, *, of_samples: bool) -> str:
    """Return what is selected of a level's source; `bucket` is the SQL of a row's bucket."""
    made = (f"{each.made(of_samples=of_samples)} AS {quoted(each.name)}" for each in columns(series))
    return f"{bucket} AS time, {', '.join(made)}"


def listed(series: Series) -> str:
    """Return the names of the columns that follow the subject."""
    return ", ".join(["time", *(quoted(each.name) for each in columns(series))])


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
