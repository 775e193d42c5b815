"""restic as a child: its words, what it says as JSON, and what flows through it.

URL and password go by inherited descriptors, so they are neither among the arguments, which everybody may read, nor in
the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from homelab_agent.backup import pipes
from homelab_agent.backup.point import Said
from homelab_agent.backup.restic import errors
from homelab_agent.core import process

T = TypeVar("T")

ASK_SECONDS = 600.0
"""For what only asks; a repository far away may hold an index of gigabytes."""
WORK_SECONDS = 48 * 3600.0
"""For what moves data: long, since the set's own deadline is the caller's."""
GRACE_SECONDS = 20.0
"""restic takes its lock away when it is told to end."""

_KEPT = (*process.KEPT, "HOME", "SSH_AUTH_SOCK")


@dataclass(frozen=True, slots=True)
class Access:
    """A repository: what the configuration calls it, where it is, and what opens it; `limit_upload` in KiB/s."""

    name: str
    url: str
    password: str = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    limit_upload: int = 0

    @property
    def directory(self) -> Path | None:
        """Where it is, if it is among this host's own files: what is seen there need not be asked for.

        Each time that it is opened costs half a second, as restic makes its keys.
        """
        path = Path(self.url.removeprefix("local:"))
        return path if path.is_absolute() else None


class Restic:
    """Runs restic on one repository; `cache` is where it keeps what it knows of it."""

    def __init__(self, access: Access, cache: Path) -> None:
        self.access = access
        self._cache = cache

    async def ask(self, *words: str, seconds: float = ASK_SECONDS) -> str:
        """Return what it printed; raises a `ResticFailed`."""
        return (await self._run(words, deadline=seconds, output_max=1 << 28)).stdout.decode()

    async def objects(self, *words: str) -> list[Any]:
        """Return the JSON that it printed, one value for each line."""
        said = await self.ask(*words, "--json")
        return [json.loads(line) for line in said.splitlines() if line.strip()]

    async def restore(self, words: Sequence[str], say: Said) -> None:
        """Restore; a restic older than 0.16 does not tell how far it is."""
        await self._run(["restore", "--json", *words], deadline=WORK_SECONDS, on_line=Progress(say))

    async def backup(self, words: Sequence[str], say: Said, *, given: bytes = b"") -> Mapping[str, Any]:
        """Make a snapshot, of `given` with `--stdin`; return restic's summary of it."""
        follow = Progress(say)
        await self._run(self._backup(words), deadline=WORK_SECONDS, on_line=follow, stdin=given)
        return follow.summary

    async def backup_stream(self, words: Sequence[str], pieces: AsyncIterator[bytes], say: Said) -> Mapping[str, Any]:
        """Make a snapshot with `--stdin` of what comes piece by piece.

        What `pieces` raises ends restic before it has made one, and is raised here.
        """
        follow = Progress(say)

        def reader(source: int) -> Awaitable[process.Child]:
            argv = ["sh", "-c", pipes.FROM_DESCRIPTOR, str(source), *self._argv(self._backup(words))]
            return self._start(argv, [source], on_line=follow)

        sink, child = await pipes.begun(reader, reads=True)
        try:
            await pipes.pour(pieces, sink)
        except BaseException:
            await child.stop(grace=0.0)  # the end of its input would be the end of a good dump
            raise
        finally:
            os.close(sink)
        self._check(await _ended(child))
        return follow.summary

    @asynccontextmanager
    async def output(self, *words: str) -> AsyncIterator[int]:
        """Give the reading end of a pipe that restic writes to; whoever reads it closes it.

        Raises a `ResticFailed` at the context's end, also where what had come until then looked whole.
        """

        def writer(sink: int) -> Awaitable[process.Child]:
            return self._start(["sh", "-c", pipes.TO_DESCRIPTOR, str(sink), *self._argv(words)], [sink])

        source, child = await pipes.begun(writer, reads=False)
        try:
            yield source
        except BaseException:
            await child.stop(GRACE_SECONDS)
            raise
        self._check(await _ended(child))

    async def read(self, function: Callable[[int], T], *words: str) -> T:
        """Return what `function`, in a thread of its own, makes of the pipe that restic writes to; it closes it."""
        work: asyncio.Future[T] | None = None
        try:
            async with self.output(*words) as source:
                work = asyncio.ensure_future(asyncio.to_thread(function, source))
                await asyncio.wait([work])
            return work.result()
        finally:
            if work is not None:  # the child has ended, and with it what the thread reads
                await asyncio.wait([work])

    async def version(self) -> tuple[int, int]:
        """Return which restic this is; raises `ProgramMissing`."""
        return await installed()

    async def _run(self, words: Sequence[str], *, deadline: float, **given: Any) -> process.Completed:
        child = await self._start(self._argv(words), [], **given)
        try:
            async with asyncio.timeout(deadline):
                done = await child.wait()
        except TimeoutError:
            done = await child.stop(GRACE_SECONDS)
            raise process.DeadlinePassed(program="restic", seconds=deadline, completed=done) from None
        except BaseException:
            await child.stop(GRACE_SECONDS)
            raise
        self._check(done)
        return done

    async def _start(self, argv: Sequence[str], descriptors: Sequence[int], **given: Any) -> process.Child:
        password, url = (process.readable(text.encode()) for text in (self.access.password, self.access.url))
        environment = {
            **self.access.variables,
            "RESTIC_PASSWORD_FILE": f"/dev/fd/{password}",
            "RESTIC_REPOSITORY_FILE": f"/dev/fd/{url}",
            "RESTIC_PROGRESS_FPS": "1",
            "TZ": "UTC",
        }
        try:
            return await process.start(
                argv, env=environment, keep=_KEPT, descriptors=[password, url, *descriptors], **given
            )
        finally:
            os.close(password)
            os.close(url)

    def _argv(self, words: Sequence[str]) -> list[str]:
        return ["restic", "--cache-dir", str(self._cache), *words]

    def _backup(self, words: Sequence[str]) -> list[str]:
        limit = [f"--limit-upload={self.access.limit_upload}"] if self.access.limit_upload else []
        return ["backup", "--json", *limit, *words]

    def _check(self, done: process.Completed) -> None:
        if done.code:
            raise errors.failure(done.code, done.stderr.decode(errors="replace"), self.access.name, self._masked)

    def _masked(self, said: str) -> str:
        """Return what restic said without what it may have been told: a URL holds a password now and then."""
        for secret in (self.access.url, self.access.password, *self.access.variables.values()):
            said = said.replace(secret, "***") if secret else said
        return said


class Progress:
    """Follows the lines of a backup or a restore, and keeps their summary."""

    def __init__(self, say: Said) -> None:
        self.summary: Mapping[str, Any] = {}
        self._say = say

    def __call__(self, stream: str, line: str) -> None:
        """Take a line; what is no JSON is for a person."""
        message: Any = None
        if stream == "stdout":
            with suppress(ValueError):
                message = json.loads(line)
        match message:
            case {"bytes_restored": done, "total_bytes": total}:
                self._say(done, total, "restoring")
            case {"message_type": "status"}:
                self._say(message.get("bytes_done", 0), message.get("total_bytes"), "reading")
            case {"message_type": "summary"}:
                self.summary = message


async def installed() -> tuple[int, int]:
    """Return which restic this host has; raises `ProgramMissing`."""
    said = (await process.run(["restic", "version"], deadline=60.0)).stdout.decode()
    found = re.match(r"restic (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


async def _ended(child: process.Child) -> process.Completed:
    try:
        return await child.wait()
    except BaseException:
        await child.stop(GRACE_SECONDS)
        raise
