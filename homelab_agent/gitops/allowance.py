"""What strangers may cost: refused deliveries by source, and bytes of bodies that are not verified yet."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

from homelab_agent.core.http import HttpError

SMALL_BODY = 256 * 1024
"""Bodies up to this many bytes have a share of their own, and are looked at whatever their source did before."""

UNVERIFIED_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_SOURCES = 1024


class Crowded(HttpError):
    """Too much is being received at once."""

    status = 503
    retry_after = 5


class Allowance:
    """A bucket of refusals for each source, which fills up again with time, handed in as monotonic seconds.

    Forgets the source that was quiet longest when there are too many. The hosts of one IPv6 network (/64) are one.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60.0
        self._room = max(1.0, per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, source: str, now: float) -> float:
        """Count one refusal; return 0 if the source had one left, else in how many seconds it will."""
        name = _name(source)
        left = self._left(name, now)
        wait = self._wait(left)
        self._buckets[name] = (left if wait else left - 1.0, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > _SOURCES:
            self._buckets.popitem(last=False)
        return wait

    def wait(self, source: str, now: float) -> float:
        """Return in how many seconds the source has a refusal left; 0 if it has one."""
        return self._wait(self._left(_name(source), now))

    def _wait(self, left: float) -> float:
        return max(0.0, (1.0 - left) / self._rate)

    def _left(self, name: str, now: float) -> float:
        left, at = self._buckets.get(name, (self._room, now))
        return min(self._room, left + (now - at) * self._rate)


@dataclass(slots=True)
class _Share:
    left: int


class HeldBody:
    """A body that is still coming, in pieces; what it takes up of a share is given back when the context ends.

    Pieces are filled up: who sends byte by byte is not given an object for each. And they are not one: memory that is
    asked for in one large piece is kept by malloc(3) when it is given back.
    """

    __slots__ = ("_share", "_size", "pieces")

    def __init__(self, share: _Share) -> None:
        self._share = share
        self._size = 0
        self.pieces: list[bytearray] = []

    def take(self, chunk: bytes) -> None:
        """Take what has come; raises `Crowded`."""
        if len(chunk) > self._share.left:
            raise Crowded
        self._share.left -= len(chunk)
        self._size += len(chunk)
        if self.pieces and len(self.pieces[-1]) < _PIECE_BYTES:
            self.pieces[-1] += chunk
        else:
            self.pieces.append(bytearray(chunk))

    def whole(self) -> bytes:
        """Return it in one."""
        return b"".join(self.pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._share.left += self._size


class Budget:
    """Bytes of bodies that are held before they are verified, over all connections.

    Small bodies have one half of it and large ones the other: however many large ones are sent, by whomever, a push
    gets through.
    """

    def __init__(self, max_bytes: int = UNVERIFIED_BYTES) -> None:
        self._small = _Share(max_bytes // 2)
        self._large = _Share(max_bytes // 2)

    def hold(self, declared: int) -> HeldBody:
        """Return the context in which a body that is declared to have so many bytes is held."""
        return HeldBody(self._large if declared > SMALL_BODY else self._small)


def _name(source: str) -> str:
    """Return what a source is counted under; a name that is no address ("unix") stands for itself."""
    if ":" not in source:
        return source
    try:
        return str(ipaddress.IPv6Network((source, 64), strict=False))
    except ValueError:
        return source
