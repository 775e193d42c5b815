"""The process that is the root half: what it was handed, whom it serves, and when it ends.

systemd hands it the listening socket (sd_listen_fds(3)), and so does an agent that has no such unit (`child.py`). The
agent hands it a lifeline besides, one end of a pair of sockets: when the agent has gone, however it went, the half
takes no more calls, releases what it holds, and ends. So that no two halves meet, the next agent's waits for that.
"""

from __future__ import annotations

import asyncio
import select
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

from homelab_agent.core import journal, systemd
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.lock import DirectoryLock, StateDirectoryBusy
from homelab_agent.core.privilege import Verb
from homelab_agent.core.worker import Worker
from homelab_agent.privileged.server import IDLE_SECONDS, Server

LISTENER = "privileged"
LIFELINE = "lifeline"
"""The names that the two sockets have (LISTEN_FDNAMES)."""

_TRY_AGAIN_SECONDS = 0.1

Collect: TypeAlias = Callable[[], Mapping[str, Verb]]
"""Gives the verbs that there are now, by name; asked in a thread for each call. Raises why there are none."""

log = journal.logger("privileged")


class NothingToServe(AgentError):
    """The root half is started with its socket: by systemd, or by the agent."""

    repair = "systemctl start homelab-agent-privileged.socket"
    exit_code = Exit.USAGE


def serve(verbs: Collect, *, callers: frozenset[int], idle_seconds: float = IDLE_SECONDS) -> None:
    """Be the root half of the agent that runs as one of `callers` (user ids), until nobody needs it.

    Raises `NothingToServe`. Does not return while anything is held.
    """
    sockets = systemd.inherited_sockets()
    lifeline = sockets.pop(LIFELINE, None)
    if len(sockets) != 1:
        raise NothingToServe
    (listener,) = sockets.values()
    with ExitStack() as held:
        if lifeline is not None and not _is_alone(Path(listener.getsockname()).parent, lifeline, held):
            return
        asyncio.run(_run(listener, lifeline, verbs, callers, idle_seconds))


def _is_alone(directory: Path, lifeline: socket.socket, held: ExitStack) -> bool:
    """Wait for the half of an agent that has died before; return whether our own agent is there still."""
    lock = DirectoryLock(directory / "privileged")
    told = False
    while True:
        try:
            held.enter_context(lock)
        except StateDirectoryBusy as error:
            if not told:
                log.warning("privileged.waits", cause=error.message)
            told = True
            if select.select([lifeline], [], [], _TRY_AGAIN_SECONDS)[0]:
                return False
        else:
            return True


async def _run(
    listener: socket.socket,
    lifeline: socket.socket | None,
    collect: Collect,
    callers: frozenset[int],
    idle_seconds: float,
) -> None:
    files = Worker("privileged")
    server = Server(
        listener,
        lambda: files.run(collect),
        callers=callers,
        idle_seconds=idle_seconds,
        on_first=lambda: _tell(lifeline),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    if lifeline is not None:
        _stop_at_end_of(lifeline, server)
    telling = asyncio.create_task(systemd.tell_surely(READY=1), name="tell that it is ready")
    await server.run()
    telling.cancel()
    systemd.notify(STOPPING=1)
    files.close()


def _tell(lifeline: socket.socket | None) -> None:
    """Let the agent know that we have come so far as to take a connection."""
    if lifeline is not None:
        with suppress(OSError):
            lifeline.send(b"+")


def _stop_at_end_of(lifeline: socket.socket, server: Server) -> None:
    loop = asyncio.get_running_loop()

    def on_end() -> None:
        loop.remove_reader(lifeline)
        server.stop()

    lifeline.setblocking(False)  # noqa: FBT003 - the socket API
    loop.add_reader(lifeline, on_end)
