"""Which parcels leave a full spool: the oldest observations, one of every two, never a promise."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from homelab_agent.core.spool.parcel import Waybill


def surplus(observations: Sequence[Waybill], allowance: int) -> list[Waybill]:
    """Return what must go, oldest first, so that the rest takes at most `allowance` bytes.

    `observations` are in order. Each pass halves the older half; so the further back, the sparser, and no
    stretch of time is dropped whole while another could still be thinned.
    """
    kept = list(observations)
    size = sum(waybill.size for waybill in kept)
    gone: list[Waybill] = []
    while kept and size > allowance:
        older = (len(kept) + 1) // 2
        leaving = halve(kept[:older])
        ids = {waybill.id for waybill in leaving}
        kept = [waybill for waybill in kept if waybill.id not in ids]
        size -= sum(waybill.size for waybill in leaving)
        gone += leaving
    return sorted(gone)


def halve(waybills: Sequence[Waybill]) -> list[Waybill]:
    """Return one of each two neighbours, and the last where the number is odd.

    Which of the two is drawn by a hash of its id, not by its place: where parcels of two kinds alternate,
    both kinds stay.
    """
    pairs = (waybills[first : first + 2] for first in range(0, len(waybills), 2))
    return [max(pair, key=lambda waybill: zlib.crc32(waybill.id.to_bytes(8, "big"))) for pair in pairs]


def aged(observations: Sequence[Waybill], too_old: int) -> list[Waybill]:
    """Return half of those whose newest row is from before `too_old`, microseconds since 1970."""
    return halve([waybill for waybill in observations if waybill.until < too_old])
