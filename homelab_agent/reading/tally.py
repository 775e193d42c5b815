"""What a run has done at one source, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts documents.

    They were `inserted`, there already with the same content (`duplicate`), `marked` at the source, `rejected` by this
    run, or `skipped` because an earlier one had rejected them.
    """

    inserted: int = 0
    duplicate: int = 0
    marked: int = 0
    rejected: int = 0
    skipped: int = 0

    @property
    def seen(self) -> int:
        """How many documents were looked at."""
        return self.inserted + self.duplicate + self.rejected + self.skipped

    @property
    def progress(self) -> int:
        """How much is done that need not be done again: what is there already counts for nothing."""
        return self.inserted + self.rejected + self.marked

    def add(self, other: Tally) -> None:
        """Count what another has counted, too."""
        self.inserted += other.inserted
        self.duplicate += other.duplicate
        self.marked += other.marked
        self.rejected += other.rejected
        self.skipped += other.skipped

    def __str__(self) -> str:
        told = [f"inserted {self.inserted}", f"duplicate {self.duplicate}", f"marked {self.marked}"]
        told.append(f"rejected {self.rejected}")
        return ", ".join(told + ([f"rejected before {self.skipped}"] if self.skipped else []))
