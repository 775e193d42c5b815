"""The root half as the agent's child, where no unit provides one: started by the first call, and again after it rested.

The agent listens, as systemd would, and hands the listening socket to a child that it starts when somebody connects. A
pair of connected sockets would serve one call after the other, and a child that ends would take the way to the next
one with it; like this, calls run side by side, a half at rest is no process at all, and the half cannot tell whether
systemd or the agent has started it.

Other children are killed with the agent (`core/process.py`). This one may hold what it has to release first, so it
ends by itself, by its lifeline: a pair of sockets of which the agent keeps one end, and nobody else has it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from homelab_agent.core import journal
from homelab_agent.core.privilege import PrivilegedUnavailable
from homelab_agent.privileged import frames
from homelab_agent.privileged.half import LIFELINE, LISTENER

NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Between systemd and the agent alone; of all else but what is withheld the half, the same program, has the same."""

_BACKLOG = 128
_HANDED_OVER = 'export LISTEN_PID=$$; exec "$@" 3<&0 4<&1 </dev/null >&2'
"""Run by sh: what it has as its standard input and output becomes 3 and 4, where sd_listen_fds(3) looks."""

log = journal.logger("privileged")


class Child:
    """A way to the root half; `run` is what makes it one."""

    def __init__(self, path: Path, command: Sequence[str | Path], *, withheld: Collection[str] = ()) -> None:
        """`command` runs `half.serve`; the agent listens at `path`.

        The half is not given the variables that are `withheld`, for they hold secrets that it has no use for.
        """
        self._withheld = {*NOT_INHERITED, *withheld}
        self._path = path
        self._command = [os.fspath(word) for word in command]
        self._listens = False
        self._settled = asyncio.Event()
        self._trouble = ""

    async def connect(self) -> socket.socket:
        """Return a new connection; waits for an agent that is just starting. Raises `PrivilegedUnavailable`."""
        await self._settled.wait()
        try:
            if not self._listens:
                raise ConnectionRefusedError(self._trouble or "the agent is stopping")
            return await frames.connected(self._path)
        except OSError as error:
            raise PrivilegedUnavailable(cause=error, repair="homelab-agent status") from error

    def lost(self) -> PrivilegedUnavailable:
        """Return why a connection ended before anything was begun."""
        cause = self._trouble or "it ended before it began"
        return PrivilegedUnavailable(cause=cause, repair="read what it said in the agent's log")

    async def run(self) -> None:
        """Listen, and have a half there whenever somebody connects; when cancelled, end it in order."""
        listening = asyncio.ensure_future(asyncio.to_thread(_listen, self._path))
        try:
            listener = await asyncio.shield(listening)
            self._listens = True
            self._settled.set()
            while True:
                await frames.readable(listener)
                await self._live(listener)
        except PrivilegedUnavailable as error:
            self._trouble = error.cause
            raise
        finally:
            self._listens = False
            self._settled.set()
            with suppress(PrivilegedUnavailable):
                (await listening).close()
                await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _live(self, listener: socket.socket) -> None:
        """Start a half and return when it has ended; turn away who waits for one that does not come up."""
        lifeline, handed = socket.socketpair()
        lifeline.setblocking(False)  # noqa: FBT003 - the socket API
        with lifeline, handed:
            starting = asyncio.ensure_future(asyncio.to_thread(self._start, listener, handed))
            try:
                process = await asyncio.shield(starting)
                handed.close()
                code = await _ended(process)
            except asyncio.CancelledError:
                process = await starting
                handed.close()
                lifeline.close()
                await _ended(process)
                raise
            came_up = _has_come_up(lifeline)
        self._trouble = f"it ended with exit code {code} before it took a call" if code and not came_up else ""
        if self._trouble:
            log.error("privileged.cannot_start", cause=self._trouble)
            _turn_away(listener)
        elif code:
            log.warning("privileged.died", code=code)

    def _start(self, listener: socket.socket, lifeline: socket.socket) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if name not in self._withheld}
        return subprocess.Popen(
            ["/bin/sh", "-c", _HANDED_OVER, "sh", *self._command],
            stdin=listener.fileno(),
            stdout=lifeline.fileno(),
            env={**kept, "LISTEN_FDS": "2", "LISTEN_FDNAMES": f"{LISTENER}:{LIFELINE}"},
            start_new_session=True,  # what is typed at the agent's terminal is not for it
        )


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Wait until it has ended; return its exit code."""
    descriptor = os.pidfd_open(process.pid)
    try:
        await frames.readable(descriptor)
    finally:
        os.close(descriptor)
    return process.wait()


def _has_come_up(lifeline: socket.socket) -> bool:
    """Return whether a half that has ended had taken a connection before."""
    try:
        return bool(lifeline.recv(1))
    except OSError:
        return False


def _turn_away(listener: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


def _listen(path: Path) -> socket.socket:
    """Listen there, for our own user alone; raises `PrivilegedUnavailable`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # the file gets the mode that the socket has
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the socket API
    except OSError as error:
        listener.close()
        raise PrivilegedUnavailable(cause=error, repair="[agent] state = a shorter path") from error
    return listener
