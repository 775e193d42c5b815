"""Who runs OpenBao: its unit where there is systemd, else a child of ours while it is set up."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.secrets.first_start import START_SECONDS, Ended

UNIT = "openbao.service"
_STOP_SECONDS = 30.0


class CommandFails(AgentError):
    """{command} fails."""

    repair = "{command}"


class StoreInUse(AgentError):
    """The store below {directory} was begun and not finished, and a server that was started elsewhere has it open."""

    repair = "stop that server, then give the same command again"


async def command(*argv: str) -> None:
    """Run a command of the system's; raises `CommandFails`."""
    done = await process.run(argv, deadline=START_SECONDS + _STOP_SECONDS)
    if done.code != 0:
        cause = " ".join(done.stderr.decode(errors="replace").split())
        raise CommandFails(command=shlex.join(argv), cause=cause)


class Unit:
    """OpenBao's unit. It is enabled, and runs on."""

    log = f"journalctl -u {UNIT} -e"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ended]:
        """Have it started, now and at each boot."""
        cause = ""
        try:
            await command("systemctl", "enable", "--now", UNIT)
        except CommandFails as error:
            cause = await self._said() or error.cause

        async def ended() -> str:
            return cause

        yield ended

    async def _said(self) -> str:
        """Return what the server said of why it did not start this time, "" where the journal has nothing."""
        shown = await process.run(
            ["systemctl", "show", "--property=InvocationID", "--value", UNIT], deadline=_STOP_SECONDS
        )
        started = f"_SYSTEMD_INVOCATION_ID={shown.stdout.decode().strip()}"
        with suppress(CommandFails):
            await command("journalctl", "--sync")
        journal = await process.run(["journalctl", "--output=cat", "--no-pager", started], deadline=_STOP_SECONDS)
        return _error_in(journal.stdout.decode(errors="replace"))

    async def stop(self) -> None:
        """Stop it, also where it is about to be started once more."""
        await command("systemctl", "stop", UNIT)
        await command("systemctl", "reset-failed", UNIT)


class Child:
    """OpenBao as a child, which ends with the context, and with us; or one that somebody else has running there."""

    def __init__(self, argv: list[str], directory: Path, serves: Callable[[], bool]) -> None:
        """Take the command, and `serves`, which tells whether a server is there, and blocks."""
        self.log = shlex.join(argv)
        self._argv = argv
        self._directory = directory
        self._serves = serves

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ended]:
        """Start it, unless one runs."""
        if await asyncio.to_thread(self._serves):
            yield _still_runs
            return
        child = await process.start(self._argv, env={"HOME": str(self._directory)})

        async def ended() -> str:
            if child.running:
                return ""
            completed = await child.wait()
            said = (completed.stdout + completed.stderr).decode(errors="replace")
            return _error_in(said) or f"it ended with {completed.code}"

        try:
            yield ended
        finally:
            await child.stop(_STOP_SECONDS)

    async def stop(self) -> None:
        """See that nobody has it running; raises `StoreInUse`."""
        if await asyncio.to_thread(self._serves):
            raise StoreInUse(directory=self._directory)


async def _still_runs() -> str:
    return ""


def _error_in(said: str) -> str:
    """Return the line of a server's that tells why it ended: its log's first error, else the first word of one."""
    lines = [line for line in said.splitlines() if not line.startswith("{") and "[WARN]" not in line]
    return next((line for sign in ("[ERROR]", "rror") for line in lines if sign in line), "")
