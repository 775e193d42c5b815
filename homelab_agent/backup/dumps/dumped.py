"""A dump as it is taken: what it is called, how it is read back, and its bytes as they come."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

from homelab_agent.backup import docker_errors
from homelab_agent.backup.dumps.errors import (
    DumpFailed,
    DumpIncomplete,
    NotAFileOfIt,
    NotCopied,
)

Told: TypeAlias = Mapping[str, Any]
"""How a dump is read back, as `about.json` has it: `container`, `kind`, `what`, `user` and what its kind needs."""
Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]

_LAST_BYTES = 512
_OF_DUMPS = (
    docker_errors.CommandFailed,
    docker_errors.CommandCutShort,
    docker_errors.CommandTooSlow,
    docker_errors.ContainerGone,
    docker_errors.ContainerNotSo,
    docker_errors.DockerRefuses,
    docker_errors.DockerUnreachable,
    DumpIncomplete,
    NotAFileOfIt,
    NotCopied,
)
"""What tells of what dumps, never of who stores what it writes."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """One dump of a database: a `point.Dump`, and how it is read back.

    `size` is about how many bytes it will be, 0 where that is not known. `last` is what its last lines have to have,
    where the program writes such: one that ends without was cut short, whatever its exit code.
    """

    member: str
    about: Told
    source: Opening = field(repr=False)
    size: int = 0
    last: bytes = b""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give it piece by piece; raises `DumpFailed` where its command fails, also after its output."""
        try:
            async with self.source() as pieces, aclosing(self._whole(pieces)) as whole:
                yield whole
        except _OF_DUMPS as error:
            what, container = self.about["what"], self.about["container"]
            repair = docker_errors.repair_of(error, container)
            raise DumpFailed(
                what=what, container=container, repair=repair, cause=docker_errors.last_words(error)
            ) from error

    async def _whole(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        end = bytearray()
        empty = True
        async for piece in pieces:
            empty = False
            if self.last:
                end += piece[-_LAST_BYTES:]
                del end[:-_LAST_BYTES]
            yield piece
        if empty or self.last not in end:
            raise DumpIncomplete(container=self.about["container"])


def member(container: str, what: str) -> str:
    """Return a dump's place in an archive; what no file should be called by is written as in an URL."""
    return f"dumps/{_name(container)}/{_name(what)}"


def _name(text: str) -> str:
    # `quote` leaves "~" and what is a letter anywhere in the world; a name of dots alone is none.
    quoted = quote(text, safe="").replace("~", "%7E")
    return re.sub(r"^\.+$", lambda found: found[0].replace(".", "%2E"), quoted)
