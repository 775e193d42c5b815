"""One PostgreSQL server of ours: started, found again after the agent was killed, stopped.

The server is not tied to the agent's life: to kill a database with its parent would cost a recovery each time. It is
not our child (`pg_ctl` lets go of it), and the next agent finds it by its data directory, which is the working
directory of all its processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from homelab_agent.core import process, process_table
from homelab_agent.core.errors import AgentError
from homelab_agent.database import tuning
from homelab_agent.database.account import Account
from homelab_agent.database.binaries import Programs

T = TypeVar("T")

LOG_MAX = 1024 * 1024
ORPHANS_SECONDS = 10.0
"""How long the children of a killed server are given to notice; they look at once, or when their query is done."""


class ServerWillNotStart(AgentError):
    """The embedded PostgreSQL does not start."""

    repair = "read {log}"


class ServerWillNotStop(AgentError):
    """The embedded PostgreSQL (process {pid}) does not stop."""

    repair = "kill -QUIT {pid}"


@dataclass(frozen=True, slots=True)
class Server:
    """A server on one data directory, which is an absolute path without symbolic links."""

    programs: Programs
    data: Path
    socket: Path
    port: int
    log: Path
    account: Account
    files: Executor
    checkpoint_every: float = tuning.CHECKPOINT_SECONDS

    async def start(self, deadline: float) -> None:
        """Start the server, or find it running just as it would be started; return when it takes connections.

        A crash recovery is waited for. Raises `ServerWillNotStart`, with the server's own words as the cause.
        """
        text = tuning.configuration(self.programs.major, self.socket, self.port, checkpoint_every=self.checkpoint_every)
        if await self._in_thread(self.pid):
            if await self._in_thread(lambda: self._runs_as(text)):
                return await self._until_ready(deadline)
            await self.stop(deadline)
        await self.end_orphans()
        await self._in_thread(lambda: self._prepare(text))
        command = [self.programs.path("pg_ctl"), "start", "--silent", "--wait", f"--timeout={deadline:.0f}"]
        done = await process.run(
            [*command, f"--pgdata={self.data}", f"--log={self.log}"],
            env={"LC_ALL": "C", "TZ": "UTC"},
            cwd=self.data,
            deadline=deadline + 5,
            output_max=16384,
            user=self.account.switch,
        )
        if done.code != 0:
            said = await self._in_thread(self._last_words)
            raise ServerWillNotStart(log=self.log, cause=said or done.stderr.decode(errors="replace").strip())
        return None

    async def stop(self, deadline: float) -> None:
        """Stop the server: in order, else at once (its next start then recovers), else by force.

        Raises `ServerWillNotStop` when even that does not end it.
        """
        pid = await self._in_thread(self.pid)
        if not pid:
            return
        for number, share in ((signal.SIGINT, 0.7), (signal.SIGQUIT, 0.2), (signal.SIGKILL, 0.1)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            if await _ended(pid, deadline * share):
                return
        raise ServerWillNotStop(pid=pid)

    async def ended(self) -> None:
        """Return when the server runs no longer."""
        if pid := await self._in_thread(self.pid):
            await _ended(pid, None)

    def pid(self) -> int:
        """Return the process id of the server that runs on the data directory; 0 when none does."""
        named = _lines(self.data / "postmaster.pid")[:1]
        return int(named[0]) if named and named[0].isdecimal() and int(named[0]) in self.processes() else 0

    def processes(self) -> list[int]:
        """Return the process ids of all servers on the data directory, of their children, and of initdb's."""
        of_initdb = f"PGDATA={self.data}".encode()

        def is_of_ours(entry: Path) -> bool:
            is_there = (entry / "cwd").readlink() == self.data
            return is_there or of_initdb in (entry / "environ").read_bytes().split(b"\0")

        return process_table.living(is_of_ours)

    def trim_log(self) -> None:
        """Set the log aside when it has grown; a running server goes on with an empty one."""
        if self.log.exists() and self.log.stat().st_size > LOG_MAX:
            with self.log.open("r+b") as log:
                log.seek(-LOG_MAX, os.SEEK_END)
                self.log.with_suffix(".old").write_bytes(log.read())
                log.truncate(0)

    async def end_orphans(self) -> None:
        """Wait until nothing that a killed server or initdb had started is left; only then may the data be touched.

        Raises `ServerWillNotStart` when something is.
        """
        end = time.monotonic() + ORPHANS_SECONDS
        while orphans := await self._in_thread(self.processes):
            if time.monotonic() > end:
                raise ServerWillNotStart(log=self.log, cause=f"process {orphans[0]} of a killed server still runs")
            await asyncio.sleep(0.05)
        await self._in_thread(self._unlock)

    def _unlock(self) -> None:
        """Remove lock files: with nobody on the data they are stale, and the number in them may be anybody's by now.

        PostgreSQL itself would take a killed server that its parent has not reaped yet for a living one.
        """
        for lock in (self.data / "postmaster.pid", self.socket / f".s.PGSQL.{self.port}.lock"):
            lock.unlink(missing_ok=True)

    def _prepare(self, text: str) -> None:
        (self.data / "postgresql.conf").write_text(text)
        self.trim_log()
        self.log.touch(mode=0o600)
        self.account.own(self.log)

    def _runs_as(self, text: str) -> bool:
        running = Path(f"/proc/{self.pid()}/exe")
        wanted = Path(self.programs.path("postgres")).resolve()
        try:
            return running.readlink() == wanted and (self.data / "postgresql.conf").read_text() == text
        except OSError:
            return False

    async def _until_ready(self, deadline: float) -> None:
        """Wait for the last line of `postmaster.pid`, where the server says how far it is."""
        end = time.monotonic() + deadline
        while (await self._in_thread(lambda: _lines(self.data / "postmaster.pid")))[7:8] != ["ready"]:
            if time.monotonic() > end or not await self._in_thread(self.pid):
                raise ServerWillNotStart(log=self.log, cause=await self._in_thread(self._last_words))
            await asyncio.sleep(0.05)

    def _last_words(self) -> str:
        said = [line for line in _lines(self.log)[-20:] if "FATAL" in line or "PANIC" in line]
        return said[-1].partition("] ")[2] if said else ""

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.files, work)


async def _ended(pid: int, seconds: float | None) -> bool:
    """Wait until a process that is not our child has ended; return whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(seconds):
            await gone.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except OSError:
        return []
