"""A source as the loop knows it: it gives batches, and is told which documents are done with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.reading.document import Batch, Status, Window


class SourceUnreachable(AgentError):
    """The reading source {source} does not answer."""

    repair = "homelab-agent doctor reading"
    exit_code = Exit.UNREACHABLE


class SourceRefuses(AgentError):
    """The reading source {source} refuses what is asked of it."""

    repair = "homelab-agent doctor reading"


class NotLetIn(SourceRefuses):
    """The reading source {source} does not let us in: its password or its rights are others now."""

    repair = "reading.source.{source}.password"


class NoDriver(AgentError):
    """What the reading source {source} is asked with is not installed: {package}."""

    repair = "{python} -m pip install '{package}'"


class Opened(Protocol):
    """A source that is reached; every call raises `SourceUnreachable` when that has ended, and `SourceRefuses`."""

    def batches(self, cursor: Mapping[str, Any], window: Window | None) -> AsyncGenerator[Batch]:
        """Give all that is to be taken after `cursor` ({} in the beginning), sorted; or again all of a window."""

    async def acknowledge(self, keys: Sequence[str], status: Status, run: str) -> int:
        """Mark documents that are still to be taken as done with; return how many were."""

    async def left(self, window: Window | None) -> int | None:
        """Return how many are to be taken; None where it cannot say."""


class Source(Protocol):
    """One `[[reading.source]]`."""

    @property
    def name(self) -> str:
        """What it is called in the configuration."""

    @property
    def marks_rejected(self) -> bool:
        """Whether a document that cannot be stored is marked there (`on_reject`), or left as it is."""

    def open(self) -> AbstractAsyncContextManager[Opened]:
        """Return a context in which it is reached; raises `SourceUnreachable`, `SourceRefuses`, its secrets' errors."""


@runtime_checkable
class Keeper(Opened, Protocol):
    """One that keeps what it gave, so that it can be held against the rows."""

    def kept(self, window: Window) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Give key and status of each document whose id is of a time in the window, some at a time."""

    def kept_otherwise(self) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Give key and status of each document whose id holds no time."""

    async def timeless(self) -> int:
        """Return how many documents no window holds, for their ids hold no time."""

    async def reopen(self, wanted: Mapping[str, str]) -> Mapping[str, str]:
        """Give rejected documents again, by their keys; return of each that it does not give again why not.

        What is kept of a document (`Rejected.raw`) is given where its key is but a hash, else "".
        """
