"""Samples as rows for PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from homelab_agent.core.spool import Row
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.sample import Families, Quality, Sample, Status

FACT_KEY = ("entity_id", "time")


def of_sample(sample: Sample, host: str) -> list[Row]:
    """Return a sample's rows: one per entity in its family's table, and the tick itself."""
    return [*of_families(sample.families, sample.at), _tick(sample.quality, host, sample.at)]


def of_families(families: Families, at: datetime) -> list[Row]:
    """Return one row per entity in its family's table; none where it is no news."""
    return [
        Row(f"{family}_sample", FACT_KEY, {"entity_id": reading.entity.id, "time": at, **reading.values}, at)
        for family, readings in families.items()
        for reading in readings
        if reading.news
    ]


def of_entities(entities: Iterable[Entity], host: str, at: datetime) -> list[Row]:
    """Return the rows that say what the ids in the other tables mean."""
    return [
        Row(
            "entity",
            ("id",),
            {"id": one.id, "host": host, "family": one.family, "key": one.key, "label": one.label},
            at,
        )
        for one in entities
    ]


def _tick(quality: Quality, host: str, at: datetime) -> Row:
    return Row(
        "tick",
        ("host", "time"),
        {
            "host": host,
            "time": at,
            "scheduled_at": quality.scheduled_at,
            "started_at": quality.started_at,
            "late_ms": quality.late_ms,
            "total_ms": quality.total_ms,
            "step_s": quality.step,
            "asleep_s": quality.asleep,
            "skipped": quality.skipped,
            "moved_ms": quality.moved_ms,
            "spooled": quality.spooled,
            "clock_synchronised": quality.clock_synchronised,
            "collectors": {
                name: ms if status is Status.OK else [status, ms] for name, (status, ms) in quality.collectors.items()
            },
        },
        at,
    )
