"""Which stretches of time are to be copied, by what is counted on both sides: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

Count: TypeAlias = tuple[int, int]
"""Rows, and samples that they stand for; of samples themselves both are the same."""

Counts: TypeAlias = Mapping[datetime, Count]
"""By the beginning of each bucket of time, all of one width; one that is not there has nothing."""

Accepted: TypeAlias = dict[datetime, tuple[Count, Count]]
"""Counts of the source and the target that are not the same, and yet as they should be."""

NONE: Count = (0, 0)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows from `begin` until before `end`, by the source's count; `is_new`: the target has none of them."""

    begin: datetime
    end: datetime
    rows: int
    is_new: bool


def lacking(source: Counts, target: Counts, accepted: Accepted) -> list[datetime]:
    """Return the buckets in which the target may not have all that the source has, in order.

    One in which it has more is copied once: then all of the source's is there, and that the pair of counts stays so is
    `accepted`.
    """
    found = []
    for bucket, count in sorted(source.items()):
        there = target.get(bucket, NONE)
        is_more = there[0] >= count[0] and there[1] >= count[1]
        if there != count and not (is_more and accepted.get(bucket) == (count, there)):
            found.append(bucket)
    return found


def cut(buckets: Iterable[datetime], source: Counts, target: Counts, width: timedelta, most: int) -> Sequence[Piece]:
    """Return pieces of at most about `most` rows, of neighbouring buckets, in order; a bucket is never divided."""
    found: list[Piece] = []
    for bucket in buckets:
        rows, is_new = source[bucket][0], target.get(bucket, NONE) == NONE
        last = found[-1] if found else None
        if last and last.end == bucket and last.is_new == is_new and last.rows + rows <= most:
            found[-1] = Piece(last.begin, bucket + width, last.rows + rows, is_new)
        else:
            found.append(Piece(bucket, bucket + width, rows, is_new))
    return found
