"""Which kinds of sources there are; each is loaded where it is used, with the library that it needs."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec

from homelab_agent.core.clock import Clock
from homelab_agent.core.secret import Secrets
from homelab_agent.reading.settings import ReadingSettings, ReadingSource
from homelab_agent.reading.source import NoDriver, Opened, Source

_LIBRARIES = {"mongodb": ("pymongo", "pymongo>=4.16,<5"), "feed": ("feedparser", "feedparser>=6.0.11,<7")}
"""As in pyproject.toml's extras."""


class Unavailable:
    """A source whose library is missing: all else goes on, and a run says what to install."""

    marks_rejected = False

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self._package = package

    def open(self) -> AbstractAsyncContextManager[Opened]:
        """Raise `NoDriver`."""
        raise NoDriver(source=self.name, package=self._package, python=sys.executable)


def make(source: ReadingSource, settings: ReadingSettings, secrets: Secrets, clock: Clock) -> Source:
    """Return a source of its kind; raises `ReferenceFaulty`."""
    library, package = _LIBRARIES.get(source.kind, ("", ""))
    if library and find_spec(library) is None:
        return Unavailable(source.name, package)
    match source.kind:
        case "mongodb":
            from homelab_agent.reading.mongodb import MongoSource

            return MongoSource(source, secrets, batch=settings.batch, max_bytes=settings.document_max_bytes)
        case "miniflux":
            from homelab_agent.reading.miniflux import Miniflux
            from homelab_agent.reading.polling import PolledSource

            return PolledSource(source, secrets, clock, Miniflux(source, page=min(settings.batch, 250)))
        case "feed":
            from homelab_agent.reading.feed import Feed
            from homelab_agent.reading.polling import PolledSource

            return PolledSource(source, secrets, clock, Feed(source))
