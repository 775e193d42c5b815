"""What is asked in a time of its own, and how it stands until it is asked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from homelab_agent.metrics.sample import Reading


class Standing:
    """The newest reading of each entity: the loop sets it, the collectors' thread tells it with each sample.

    Each is news once. Of two that come between two samples only the later one is told, for both would be rows of one
    time.
    """

    def __init__(self) -> None:
        self._now: Mapping[int, Reading] = {}
        self._told: Mapping[int, Reading] = {}

    def set(self, readings: Iterable[Reading], at: float) -> None:
        """Take what is known from the monotonic time `at` on; what is not among it is gone."""
        self._now = {reading.entity.id: replace(reading, read_at=at) for reading in readings}

    def tell(self) -> Sequence[Reading]:
        """Return all that is known; what was told before is no news."""
        now, told = self._now, self._told
        self._told = now
        return [one if one is not told.get(id_) else replace(one, news=False) for id_, one in now.items()]
