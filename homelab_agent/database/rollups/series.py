"""Which series there are, by PostgreSQL's catalogue, so that a new family is rolled up without a word about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups.level import LEVELS, Level

NUMBERS = frozenset({"smallint", "integer", "bigint", "real", "double precision", "boolean"})
"""Types of columns that are rolled up; of a boolean, true is 1."""

SUBJECTS = ("entity_id", "host")
"""What a series may tell its lines apart by."""

_NAMES = """
SELECT relname AS name FROM pg_class
 WHERE relnamespace = 'homelab'::regnamespace AND relkind = 'p' AND relname NOT LIKE '%\\_rollup' ORDER BY 1
"""
_HYPERTABLES = """
SELECT hypertable_name AS name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'homelab' ORDER BY 1
"""
_RELATIONS = """
SELECT relname, array_agg(attname::text) AS columns FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
 WHERE relnamespace = 'homelab'::regnamespace AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped
 GROUP BY relname
"""
_SLOW = """
SELECT series FROM homelab.slow_series
  LEFT JOIN timescaledb_information.continuous_aggregates
    ON view_schema = 'homelab' AND view_name = regexp_replace(series, '_sample$', '') || '_1h_rollup'
 WHERE view_name IS NULL OR hypertable_name = series -- else it was made of minutes, and samples are gone
"""
_COLUMNS = """
SELECT relname AS series, attname AS name, format_type(atttypid, NULL) AS type,
       coalesce(attnum = ANY (indkey), false) AS is_key
  FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
 WHERE relnamespace = 'homelab'::regnamespace AND relname = ANY ($1::text[]) AND attnum > 0 AND NOT attisdropped
 ORDER BY relname, attnum
"""


Relations: TypeAlias = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Series:
    """A fact table with one row per subject and time; `measures` are its columns to roll up, with their types.

    Of a `slow` one TimescaleDB makes no minutes, and its hours of the samples.
    """

    name: str
    subject: str
    measures: Mapping[str, str]
    slow: bool = False

    @property
    def family(self) -> str:
        """What the series is called where people ask."""
        return self.name.removesuffix("_sample")

    @property
    def levels(self) -> Sequence[Level]:
        """The levels that are kept."""
        return LEVELS[1:] if self.slow else LEVELS

    def view(self, level: Level) -> str:
        """Return what people ask for this level's rows: with host and label, and up to the newest."""
        return f"{self.family}_{level.name}"

    def rollup(self, level: Level) -> str:
        """Return where this level's rows are kept."""
        return f"{self.view(level)}_rollup"


async def relations(connection: Connection) -> Relations:
    """Return the columns of all tables and views."""
    return {row["relname"]: frozenset(row["columns"]) for row in await connection.fetch(_RELATIONS)}


async def read(connection: Connection, edition: str) -> list[Series]:
    """Return the series of this database by name; one that is told apart in another way is left out."""
    query = _HYPERTABLES if edition == TIMESCALE else _NAMES
    names = [row["name"] for row in await connection.fetch(query)]
    keys: dict[str, set[str]] = {name: set() for name in names}
    measures: dict[str, dict[str, str]] = {name: {} for name in names}
    for row in await connection.fetch(_COLUMNS, names):
        if row["is_key"]:
            keys[row["series"]].add(row["name"])
        elif row["type"] in NUMBERS:
            measures[row["series"]][row["name"]] = row["type"]
    slow = {row["series"] for row in await connection.fetch(_SLOW)} if edition == TIMESCALE else set()
    return [
        Series(name, subject, measures[name], name in slow)
        for name in names
        for subject in SUBJECTS
        if keys[name] == {subject, "time"}
    ]
