"""Shutting a door without an agent: what is left of it is ended, and nothing of anybody else's.

For systemd after the agent has ended, and for a person in a hurry. A child of ours that has outlived its agent is
killed first, for which the daemon need not answer; then tailscaled is asked, and takes back what still sends requests
on the port to the agent, in the background or for a session whose holder was not to be found.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core import process_table
from homelab_agent.gate.child import Command
from homelab_agent.gate.reading import Entry
from homelab_agent.gate.tailscale import DaemonNotRunning, Tailscaled

_KILLED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Closed:
    """What was done: the processes that were ended, and what tailscaled took back; `note` says if it does not run."""

    ended: tuple[int, ...] = ()
    dropped: tuple[Entry, ...] = ()
    note: str = ""

    @property
    def words(self) -> list[str]:
        """The same for a person, a line each; that there was nothing is said too."""
        said = [f"ended process {pid}, which held the door open" for pid in self.ended]
        for entry in self.dropped:
            kind = "a session" if entry.session else "an entry that stays"
            said.append(f"took back {kind}: port {entry.port} of {entry.host} to {entry.target}")
        return [*(said or ["nothing was open"]), *([self.note] if self.note else [])]


async def close_now(command: Command) -> Closed:
    """End what publishes a door and return what that was; no agent may be about to open it again.

    Where no tailscaled runs, nothing is open. Raises `DaemonUnreachable` where it runs and does not answer, and
    `NotPermitted`, `NotChanged` where it takes nothing back: then a door may be open.
    """
    ended = await asyncio.to_thread(_end_all, command)
    try:
        dropped = await Tailscaled(command.socket).drop(command.port, command.target, sessions=True)
    except DaemonNotRunning as error:
        return Closed(ended, note=str(error))
    return Closed(ended, tuple(dropped))


def _end_all(command: Command) -> tuple[int, ...]:
    """Kill every process that runs `command` and is ours to kill; return those that have ended by it."""
    found = process_table.living(lambda entry: _runs(entry, command))
    return tuple(pid for pid in found if _end(pid, command))


def _end(pid: int, command: Command) -> bool:
    """Kill a process if it still runs `command`; whether it has ended by that. Another's is left to tailscaled."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not _runs(Path(f"/proc/{pid}"), command):  # the number is another's by now
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return bool(select.select([descriptor], [], [], _KILLED_SECONDS)[0])
    except OSError:  # it has ended, or is not ours to kill
        return False
    finally:
        os.close(descriptor)


def _runs(entry: Path, command: Command) -> bool:
    _, *words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return words == [word.encode() for word in command.words]
