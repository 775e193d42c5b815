"""What is known now: of every family the last reading, and when it was taken."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from homelab_agent.metrics.sample import Families, Quality, Reading


@dataclass(slots=True)
class Latest:
    """The last reading of every family, and when (monotonic) it was taken."""

    families: dict[str, Sequence[Reading]] = field(default_factory=dict)
    read_at: dict[str, float] = field(default_factory=dict)
    quality: Quality | None = None
    samples: int = 0
    skipped: int = 0

    def take(self, families: Families, quality: Quality, at: float, gone: Collection[str] = frozenset()) -> None:
        """Take one sample's readings, read at the monotonic time `at`, and forget families that are `gone`."""
        for family in gone:
            self.families.pop(family, None)
            self.read_at.pop(family, None)
        self.families.update(families)
        for family, readings in families.items():
            own = [one.read_at for one in readings if one.read_at is not None]
            self.read_at[family] = max(own, default=at)
        self.quality = quality
        self.samples += 1
        self.skipped += quality.skipped
