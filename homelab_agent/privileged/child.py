"""The root half as the agent's child: started when it is needed, started again when it has gone, ended in order.

It is not killed with the agent, as other children are: it has to release what it holds. It notices the agent's end by
a pipe that nobody else has, and then ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from homelab_agent.core import journal
from homelab_agent.core.privilege import PrivilegedUnavailable

KEPT = ("PATH", "LANG", "TZ", "HOME", "STATE_DIRECTORY", "XDG_STATE_HOME", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY")
"""Variables that it inherits, beside those of the configuration (HOMELAB_AGENT...)."""
STOP_SECONDS = 10.0
RESTARTS_MAX = 3
_BACKLOG = 64

log = journal.logger("privileged")


class Half:
    """The child that serves on a socket of ours; `needed` sees to it that there is one."""

    def __init__(self, path: Path, command: Sequence[str]) -> None:
        self._path = path
        self._command = list(command)
        self._listener: socket.socket | None = None
        self._lifeline: tuple[int, int] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def needed(self) -> AsyncIterator[Path]:
        """Give the path of the socket; while the context lasts a half that ends is started again."""
        await self._start()
        keeping = asyncio.create_task(self._keep(), name="privileged half")
        try:
            yield self._path
        finally:
            keeping.cancel()

    async def close(self) -> None:
        """End it, and listen no more; what it holds is released first."""
        if (process := self._process) is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._listener is not None and self._lifeline is not None:
            self._listener.close()
            self._listener = None
            for end in self._lifeline:
                os.close(end)
            await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _keep(self) -> None:
        """Start it again when it ends while a call may wait for it: it may just have been about to rest."""
        for _ in range(RESTARTS_MAX):
            assert self._process is not None  # noqa: S101 - `_start` came first
            await self._process.wait()
            await self._start()

    async def _start(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return
            if self._listener is None or self._lifeline is None:
                self._listener = await asyncio.to_thread(_listen, self._path)
                self._lifeline = os.pipe2(os.O_CLOEXEC)
            own = {
                name: value for name, value in os.environ.items() if name in KEPT or name.startswith("HOMELAB_AGENT")
            }
            descriptors = (self._listener.fileno(), self._lifeline[0])
            words = ("--listener", str(descriptors[0]), "--lifeline", str(descriptors[1]))
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    env=own,
                    pass_fds=descriptors,
                    start_new_session=True,
                )
            except OSError as error:
                raise PrivilegedUnavailable(cause=error) from error


def _listen(path: Path) -> socket.socket:
    """Listen there, for our own user alone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PrivilegedUnavailable(cause=error, repair="[agent] state = a shorter path") from error
    return listener
