"""A door as `tailscale` holds it open: a child in the foreground, whose session with tailscaled ends with it.

Never with `--bg`, which would outlive us and come back with the host; never by `reset`, which takes back what others
publish. The child dies with the agent (`core/process.py`), and tailscaled then takes back what it published. That
it runs, and how it ended, proves nothing: it runs on while the daemon is down, logged out or out of the policy, and
it ends with 0 where nothing was published. What it says is taken for a cause, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from homelab_agent.core import process
from homelab_agent.gate.cause import Heard
from homelab_agent.gate.prerequisites import Obstacle

GRACE_SECONDS = 0.5
"""Between asking the child to end and killing it: it needs some milliseconds."""

_OUTPUT_BYTES = 16 * 1024

Verb: TypeAlias = Literal["funnel", "serve"]
"""To the internet, or inside the tailnet alone."""


@dataclass(frozen=True, slots=True)
class Command:
    """The command that publishes a door: requests to this node's `port` go to `target`."""

    program: str
    socket: Path
    verb: Verb
    port: int
    target: str

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `program`; a child with these is one of ours."""
        return (f"--socket={self.socket}", self.verb, f"--https={self.port}", self.target)


class Session:
    """One door held open, or none; `on_end` is called when the child has ended by itself."""

    def __init__(self, command: Command, on_end: Callable[[], None] = lambda: None) -> None:
        self.command = command
        self._on_end = on_end
        self._child: process.Child | None = None
        self._watch: asyncio.Task[None] | None = None
        self._is_wanted = False
        self._heard = Heard()

    @property
    def running(self) -> bool:
        """Whether the child is there; that says nothing of what is published."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int:
        """The child's process id; 0 when there is none."""
        return self._child.pid if self._child is not None and self._child.running else 0

    @property
    def cause(self) -> Obstacle | None:
        """Why nothing is published by what the child says, or why it has ended by itself; None if nothing is known."""
        return self._heard.cause

    async def open(self) -> None:
        """Start the child, if none runs; whether something is published then, the daemon knows.

        Raises `ProgramMissing`, `ProgramWillNotStart`.
        """
        if self.running:
            return
        self._heard = Heard()
        argv = [self.command.program, *self.command.words]
        self._child = await process.start(argv, output_max=_OUTPUT_BYTES, on_line=self._heard.take)
        self._is_wanted = True
        self._watch = asyncio.create_task(self._attend(self._child), name=f"door {self.command.port}")

    async def close(self) -> None:
        """End the child, by force where it does not end by itself; return when it has ended.

        Raises `ProgramWillNotEnd` when the kernel does not let it go.
        """
        self._is_wanted = False
        self._heard = Heard()
        if self._child is not None:
            await self._child.stop(GRACE_SECONDS)
            self._child = None

    async def _attend(self, child: process.Child) -> None:
        completed = await child.wait()
        if self._is_wanted:
            self._heard.cause = self._heard.end(completed.code)
            self._on_end()
