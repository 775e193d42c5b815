"""What a run has done at one source, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts documents.

    They were `inserted`, there already with the same content (`duplicate`), there with another one as a backfill found
    (`changed`), `marked` at the source, `rejected` by this run, or `skipped` because an earlier one had rejected them.
    """

    inserted: int = 0
    duplicate: int = 0
    changed: int = 0
    marked: int = 0
    rejected: int = 0
    skipped: int = 0

    @property
    def seen(self) -> int:
        """How many documents were looked at."""
        return self.inserted + self.duplicate + self.changed + self.rejected + self.skipped

    @property
    def progress(self) -> int:
        """How much is done that need not be done again: what is there already counts for nothing."""
        return self.inserted + self.rejected + self.marked

    def add(self, other: Tally) -> None:
        """Count what another has counted, too."""
        self.inserted += other.inserted
        self.duplicate += other.duplicate
        self.changed += other.changed
        self.marked += other.marked
        self.rejected += other.rejected
        self.skipped += other.skipped

    def __str__(self) -> str:
        told = [f"inserted {self.inserted}", f"duplicate {self.duplicate}", f"marked {self.marked}"]
        told.append(f"rejected {self.rejected}")
        more = ((f"rejected before {self.skipped}", self.skipped), (f"changed {self.changed}", self.changed))
        return ", ".join([*told, *(said for said, count in more if count)])
