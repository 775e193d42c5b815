"""What runs use that no two may use at once: claims that meet are granted in the order in which they are made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What a run of `job` uses, or waits to use; `over` is set when it no longer does."""

    job: str
    uses: frozenset[str]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Claims:
    """All that are not over, in the order in which they were made."""

    def __init__(self) -> None:
        self._claims: list[Claim] = []

    def make(self, job: str, uses: frozenset[str]) -> Claim:
        """Return a new claim, which is granted when nothing is in its way."""
        claim = Claim(job, uses)
        self._claims.append(claim)
        return claim

    def in_the_way(self, claim: Claim) -> Claim | None:
        """Return one that must be over first, None if there is none."""
        for other in self._claims:
            if other is claim:
                break
            if other.uses & claim.uses:
                return other
        return None

    def end(self, claim: Claim) -> None:
        """Make way for those that wait."""
        if not claim.over.is_set():
            self._claims.remove(claim)
            claim.over.set()
