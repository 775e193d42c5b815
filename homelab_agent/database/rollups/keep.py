"""How long what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from homelab_agent.database.rollups.level import HOUR, MINUTE, Level
from homelab_agent.database.settings import DatabaseSettings


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows of series, of minutes and of hours; days are for ever. `rowstore`: until they are compressed."""

    samples: timedelta
    minutes: timedelta
    hours: timedelta
    rowstore: timedelta

    @classmethod
    def of(cls, settings: DatabaseSettings) -> Keep:
        """Return what the section says."""
        return cls(
            timedelta(days=settings.keep_samples),
            timedelta(days=settings.keep_minutes),
            timedelta(days=settings.keep_hours),
            timedelta(days=settings.columnstore_after),
        )

    def level(self, level: Level) -> timedelta | None:
        """Return how long a level's rows are kept; None is for ever."""
        return {MINUTE: self.minutes, HOUR: self.hours}.get(level)
