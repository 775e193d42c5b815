"""The root half, as the agent asks it: it runs, lists, reads back, tries out and deletes copies.

A repository's secrets go to it by a descriptor, and to no other place: it cannot ask OpenBao itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from homelab_agent.backup import drilled, wire
from homelab_agent.backup.drilled import Drilled
from homelab_agent.backup.opening import secrets_of
from homelab_agent.backup.point import Archive, Said, Verified, nobody
from homelab_agent.backup.settings import ARCHIVE, Repository
from homelab_agent.core import process
from homelab_agent.core.privilege import Answer, Privileged
from homelab_agent.core.secret import Secret

_SHORT_SECONDS = 300.0
"""For what reads no archive whole."""


class RootHalf:
    """Every call raises what `Privileged.call` raises; `longest` is how long a long one may take, in seconds."""

    def __init__(
        self,
        privileged: Privileged,
        repositories: Sequence[Repository],
        secret: Callable[[str], Secret],
        mask: Callable[[str], str],
        *,
        longest: float,
    ) -> None:
        self._privileged = privileged
        self._repositories = {one.name: one for one in repositories}
        self._secret = secret
        self._mask = mask
        self._longest = longest

    async def plan(self) -> Answer:
        """Return the sets as they would be run now, and what is in none, as JSON for a person's table."""
        return await self._privileged.call("backup_plan", deadline=_SHORT_SECONDS)

    async def run(
        self, set_name: str, engine: str, run: str, say: Said, on_event: Callable[[wire.Fields], None]
    ) -> wire.Done:
        """Back up one set to one engine; `on_event` is told what stands still, and that it runs again."""
        names = {"set": set_name, "run": run}
        return wire.done(await self._long("backup_run", engine, say, on_event, **names))

    async def list(self, engine: str) -> Sequence[Archive]:
        """Return all that an engine has."""
        answer = await self._long("backup_list", engine, nobody)
        return [wire.archive(one) for one in answer["archives"]]

    async def verify(self, engine: str, archive: str, say: Said) -> Verified:
        """Have an archive read whole."""
        return wire.verified(await self._long("backup_verify", engine, say, archive=archive))

    async def drill(self, engine: str, archive: str, say: Said) -> Drilled:
        """Have an archive restored and started beside what lives, and return what was seen."""
        told = drilled.drilled(await self._long("backup_drill", engine, say, archive=archive))
        shown = [replace(one, said=self._mask(one.said)) for one in told.shown]
        return replace(told, shown=shown)

    async def forget(self, engine: str, archive: str) -> None:
        """Have an archive deleted."""
        await self._long("backup_forget", engine, nobody, archive=archive)

    async def sweep(self, engine: str) -> wire.Swept:
        """Have what killed runs left taken away; return what that was."""
        return wire.swept(await self._long("backup_sweep", engine, nobody))

    async def resume(self) -> Sequence[str]:
        """Have every container run again that a backup has stopped; return which were."""
        answer = await self._privileged.call("backup_resume", deadline=_SHORT_SECONDS)
        return [str(one) for one in answer["resumed"]]

    async def _long(
        self,
        verb: str,
        engine: str,
        say: Said,
        on_event: Callable[[wire.Fields], None] = lambda _: None,
        **names: object,
    ) -> Answer:
        def on_line(stream: str, line: str) -> None:
            told: Any = None
            if stream == "stdout":
                with suppress(ValueError):
                    told = json.loads(line)
            if not isinstance(told, dict):
                return
            if "done" in told:
                say(int(told["done"]), told.get("total"), self._mask(str(told.get("what", ""))))
            else:
                on_event(told)

        given = {"engine": engine, **names}
        async with self._given(engine) as descriptors:
            return await self._privileged.call(
                verb, deadline=self._longest, descriptors=descriptors, on_line=on_line, **given
            )

    @asynccontextmanager
    async def _given(self, engine: str) -> AsyncIterator[Sequence[int]]:
        """Give the descriptors from which a repository's secrets are read; none for `archive`."""
        if engine == ARCHIVE:
            yield ()
            return
        descriptor = process.readable(json.dumps(await secrets_of(self._repositories[engine], self._secret)).encode())
        try:
            yield (descriptor,)
        finally:
            os.close(descriptor)
