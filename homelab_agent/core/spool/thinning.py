"""Which parcels leave a full spool: the oldest observations, one of every two, never a promise."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from homelab_agent.core.spool.parcel import Mark


def surplus(observations: Sequence[Mark], allowance: int) -> list[Mark]:
    """Return what must go, oldest first, so that the rest takes at most `allowance` bytes.

    `observations` are in order. Each pass halves the older half; so the further back, the sparser, and no
    stretch of time is dropped whole while another could still be thinned.
    """
    kept = list(observations)
    size = sum(mark.size for mark in kept)
    gone: list[Mark] = []
    while kept and size > allowance:
        older = (len(kept) + 1) // 2
        leaving = halve(kept[:older])
        ids = {mark.id for mark in leaving}
        kept = [mark for mark in kept if mark.id not in ids]
        size -= sum(mark.size for mark in leaving)
        gone += leaving
    return sorted(gone)


def halve(marks: Sequence[Mark]) -> list[Mark]:
    """Return one of each two neighbours, and the last where the number is odd.

    Which of the two is drawn by a hash of its id, not by its place: where parcels of two kinds alternate,
    both kinds stay.
    """
    pairs = (marks[first : first + 2] for first in range(0, len(marks), 2))
    return [max(pair, key=lambda mark: zlib.crc32(mark.id.to_bytes(8, "big"))) for pair in pairs]


def aged(observations: Sequence[Mark], too_old: int) -> list[Mark]:
    """Return half of those whose newest row is from before `too_old`, microseconds since 1970."""
    return halve([mark for mark in observations if mark.until < too_old])
