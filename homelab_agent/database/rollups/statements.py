"""SQL of the plain edition's rollups, made from what a series is. Names in it come from the catalogue alone."""

# ruff: noqa: S608

from __future__ import annotations

from homelab_agent.database.insert import quoted
from homelab_agent.database.rollups import aggregate
from homelab_agent.database.rollups.level import LEVELS, MINUTE, Level
from homelab_agent.database.rollups.series import Series

PARTITIONED = frozenset({MINUTE})
"""Levels with so many rows that they are kept in months, as the series are."""

FINER = dict(zip(LEVELS[1:], LEVELS, strict=False))


def make(series: Series) -> str:
    """Return what makes the series' tables with all their columns, views and trigger, where they are missing."""
    text = "".join(_table(series, level) + _view(series, level) for level in LEVELS)
    return (
        f"{text}CREATE OR REPLACE TRIGGER note_late AFTER INSERT ON homelab.{quoted(series.name)}"
        " REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION homelab.note_late();\n"
    )


def fill(series: Series, level: Level, *, of_samples: bool = False) -> str:
    """Return what makes the level's rows from $1 until before $2, in place of those that are there.

    They are made of the finer level's, or `of_samples`, as minutes always are.
    """
    subject = quoted(series.subject)
    columns = aggregate.columns(series)
    listed = aggregate.listed(series)
    changed = ", ".join(f"{quoted(each.name)} = excluded.{quoted(each.name)}" for each in columns)
    finer = series.rollup(FINER[level]) if level in FINER and not of_samples else ""
    return (
        f"INSERT INTO {target(series, level)} ({subject}, {listed}) SELECT subject.{subject}, bucket.*"
        f" FROM {subjects(series)} AS subject CROSS JOIN LATERAL"
        f" ({_buckets(series, level, finer, 'source.time >= $1 AND source.time < $2')}) AS bucket"
        f" ON CONFLICT ({subject}, time) DO UPDATE SET {changed}"
    )


def first(series: Series) -> str:
    """Return what finds the time of the series' first row from $1 on."""
    subject = quoted(series.subject)
    return (
        f"SELECT min(earliest) FROM {subjects(series)} AS subject CROSS JOIN LATERAL"
        f" (SELECT min(time) AS earliest FROM homelab.{quoted(series.name)} AS source"
        f" WHERE source.{subject} = subject.{subject} AND source.time >= $1) AS of_one"
    )


def pace(series: Series) -> str:
    """Return what counts the samples from $1 until $2, and the minutes that each subject has of them."""
    subject = quoted(series.subject)
    bucket = f"date_bin({MINUTE.interval}, source.time, TIMESTAMPTZ 'epoch')"
    return (
        f"SELECT sum(held) AS samples, count(*) AS minutes FROM {subjects(series)} AS subject CROSS JOIN LATERAL"
        f" (SELECT count(*) AS held FROM homelab.{quoted(series.name)} AS source WHERE source.{subject} ="
        f" subject.{subject} AND source.time >= $1 AND source.time < $2 GROUP BY {bucket}) AS of_one"
    )


def forget(series: Series, level: Level) -> str:
    """Return what deletes the level's rows from before $1."""
    subject = quoted(series.subject)
    return (
        f"DELETE FROM {target(series, level)} AS old USING {subjects(series)} AS subject"
        f" WHERE old.{subject} = subject.{subject} AND old.time < $1"
    )


def target(series: Series, level: Level) -> str:
    """Return the table that keeps the level's rows."""
    return f"homelab.{quoted(series.rollup(level))}"


def subjects(series: Series) -> str:
    """Return whom there are rows of. No index leads with a time: whoever asks for a stretch of it asks for each."""
    if series.subject == "host":
        return "(SELECT DISTINCT host FROM homelab.entity)"
    family = series.family.replace("'", "''")
    return f"(SELECT id AS entity_id, host, key, label FROM homelab.entity WHERE family = '{family}')"


def _table(series: Series, level: Level) -> str:
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {quoted(each.name)} {each.type}" for each in aggregate.columns(series))
    subject = quoted(series.subject)
    kind = "text" if series.subject == "host" else "bigint"
    divided = " PARTITION BY RANGE (time)" if level in PARTITIONED else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {target(series, level)} ({subject} {kind} NOT NULL, time timestamptz NOT NULL,"
        f" PRIMARY KEY ({subject}, time)){divided};\nALTER TABLE {target(series, level)} {added};\n"
    )


def _view(series: Series, level: Level) -> str:
    """Return the view of what has been rolled up, and of what is newer as it would be."""
    names = ("host",) if series.subject == "host" else ("host", "key", "label", "entity_id")
    subject, listed = quoted(series.subject), aggregate.listed(series)
    # Hours are made of samples, not of minutes: no index helps who asks a view of minutes for a time, and where minutes
    # are not kept, all samples of months would be read.
    finer = series.view(FINER[level]) if level in FINER and FINER[level] is not MINUTE else ""
    name = series.name.replace("'", "''")
    until = f"(SELECT until FROM homelab.rollup WHERE series = '{name}' AND level = '{level.name}')"
    newer = _buckets(series, level, finer, f"source.time >= coalesce({until}, '-infinity')")
    return (
        f"CREATE OR REPLACE VIEW homelab.{quoted(series.view(level))} AS"
        f" SELECT {', '.join(f'subject.{each}' for each in names)}, {listed}"
        f" FROM {subjects(series)} AS subject CROSS JOIN LATERAL"
        f" (SELECT {listed} FROM {target(series, level)} AS kept WHERE kept.{subject} = subject.{subject}"
        f" UNION ALL {newer}) AS bucket;\n"
    )


def _buckets(series: Series, level: Level, finer: str, when: str) -> str:
    """Return one subject's buckets, made of what is finer; where that has no name, of the samples."""
    subject = quoted(series.subject)
    bucket = f"date_bin({level.interval}, source.time, TIMESTAMPTZ 'epoch')"
    return (
        f"SELECT {aggregate.select(series, bucket, of_samples=not finer)}"
        f" FROM homelab.{quoted(finer or series.name)} AS source"
        f" WHERE source.{subject} = subject.{subject} AND {when} GROUP BY 1"
    )
