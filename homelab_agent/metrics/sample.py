"""One sample: families of entities with their values, all of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics.entity import Entity

Values: TypeAlias = dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class Reading:
    """One entity's values: by column name, in bytes, seconds, degrees Celsius; None is not known.

    What is no `news` stands as its last row says; no other row is made of it. `read_at` is the monotonic time of what
    is older than its sample.
    """

    entity: Entity
    values: Values
    news: bool = True
    read_at: float | None = None


Families: TypeAlias = Mapping[str, Sequence[Reading]]


class Status(StrEnum):
    """How a collector did: `stuck` has not come back from an earlier call and is left alone until it does."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    STUCK = "stuck"
    NOT_AVAILABLE = "not_available"


@dataclass(frozen=True, slots=True)
class Quality:
    """How a sample came about; `collectors` holds each collector's status and time in milliseconds.

    `step` and `asleep` in seconds: how the wall clock was set and how long the host slept since the sample
    before.
    """

    scheduled_at: datetime
    started_at: datetime
    late_ms: float
    total_ms: float
    step: float
    asleep: float
    skipped: int
    moved_ms: int
    spooled: bool
    clock_synchronised: bool
    collectors: Mapping[str, tuple[Status, float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read for one tick; `at` is unique per host."""

    at: datetime
    families: Families
    quality: Quality
