"""What is found out between two samples: the loop adds it, the collectors' thread takes it for the next, each once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from homelab_agent.metrics.sample import Families, Reading

T = TypeVar("T")


class Untold(Generic[T]):
    """One thread adds while another takes."""

    def __init__(self) -> None:
        self._held: deque[T] = deque()

    def add(self, one: T) -> None:
        """Keep something for the next sample."""
        self._held.append(one)

    def take(self) -> list[T]:
        """Return what was added since the last time, in order."""
        return [self._held.popleft() for _ in range(len(self._held))]


def families(name: str, readings: Sequence[Reading]) -> Families:
    """Return readings as a collector does; none where nothing is new, so that the ones before still stand."""
    return {name: readings} if readings else {}
