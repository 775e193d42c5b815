"""How coarse a rollup is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Level:
    """A row for so much time, in UTC."""

    name: str
    width: timedelta

    @property
    def interval(self) -> str:
        """The width as SQL."""
        return f"INTERVAL '{self.width.total_seconds():.0f} seconds'"

    def floor(self, at: datetime) -> datetime:
        """Return the beginning of what `at` is in."""
        return at - (at - _EPOCH) % self.width

    def ceil(self, at: datetime) -> datetime:
        """Return the first beginning that is not before `at`."""
        return at + (_EPOCH - at) % self.width


MINUTE = Level("1m", timedelta(minutes=1))
HOUR = Level("1h", timedelta(hours=1))
DAY = Level("1d", timedelta(days=1))
LEVELS = (MINUTE, HOUR, DAY)
"""Each is made of the one before it, the first one of the series."""
