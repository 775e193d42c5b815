"""One command that runs in a container: its output, its exit code, the last of its standard error."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Self

from homelab_agent.backup import exec_stream
from homelab_agent.backup.docker_errors import CommandCutShort, CommandFailed, CommandTooSlow, DockerUnreachable
from homelab_agent.core.errors import AgentError

TAIL_BYTES = 4096
END_SECONDS = 10.0
"""How long after its output a command may take to end."""
LOOK_SECONDS = 0.05
BEGIN_SECONDS = 20.0


class Knows(Protocol):
    """The engine, as far as it knows of a command."""

    async def executed(self, exec_id: str, container_id: str) -> Mapping[str, Any]:
        """Return Running, ExitCode, Pid, ContainerID."""


class Command:
    """Iterates over its standard output; `code` is known after the iterator's end, None before.

    `stderr` is the last of what it wrote there, 4 KiB at most.
    """

    def __init__(self, engine: Knows, container_id: str, program: str, exec_id: str) -> None:
        self.code: int | None = None
        self._engine = engine
        self._container = container_id
        self._program = program
        self._id = exec_id
        self._error = bytearray()
        self._pieces = _each(())

    @property
    def stderr(self) -> str:
        """What it said last."""
        return self._error.decode(errors="replace").strip()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    @asynccontextmanager
    async def running(
        self, socket: Path, api: str, stdin: AsyncIterator[bytes] | None, seconds: float
    ) -> AsyncIterator[None]:
        """Begin it; what does not end within `seconds`, or is left, is killed."""
        feeding: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(seconds) as bound, AsyncExitStack() as stack:
                stream = await self._begin(stack, socket, f"/{api}/exec/{self._id}/start")
                stack.push_async_callback(self._kill)  # while the stream is open: then the engine forgets its number
                if stdin is not None:
                    feeding = asyncio.create_task(self._feed(stream, stdin))
                self._pieces = self._read(stream, feeding)
                yield
        except TimeoutError:
            if not bound.expired():
                raise
            raise CommandTooSlow(program=self._program, container=self._container, seconds=seconds) from None
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def _begin(self, stack: AsyncExitStack, socket: Path, path: str) -> exec_stream.ExecStream:
        try:
            async with asyncio.timeout(BEGIN_SECONDS):
                return await stack.enter_async_context(exec_stream.opened(socket, path))
        except exec_stream.NotUpgraded as error:
            code = f"no start at all ({error.status})"
            raise CommandFailed(program=self._program, container=self._container, code=code, cause=error) from error
        except TimeoutError:
            raise DockerUnreachable(socket=socket, cause=f"no answer within {BEGIN_SECONDS:g} s") from None
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise DockerUnreachable(socket=socket, cause=error) from error

    async def _feed(self, stream: exec_stream.ExecStream, stdin: AsyncIterator[bytes]) -> None:
        try:
            await stream.feed(stdin)
        except Exception:
            # Killed before its input ends: else it would take the part for the whole.
            await self._kill()
            stream.cut()
            raise

    async def _read(self, stream: exec_stream.ExecStream, feeding: asyncio.Task[None] | None) -> AsyncIterator[bytes]:
        cut: Exception | None = None
        try:
            async for is_error, piece in stream.read():
                if is_error:
                    self._error += piece
                    del self._error[:-TAIL_BYTES]
                else:
                    yield piece
        except (OSError, EOFError) as error:
            cut = error
        if feeding is not None and feeding.done() and (failed := feeding.exception()):
            raise failed
        if cut is not None:
            raise CommandCutShort(program=self._program, container=self._container, cause=cut) from cut
        self.code = await self._ended()
        if self.code:
            raise CommandFailed(program=self._program, container=self._container, code=self.code, cause=self.stderr)

    async def _ended(self) -> int:
        """Return its exit code. That its output has ended means that it ends, or that the engine does."""
        deadline = asyncio.get_running_loop().time() + END_SECONDS
        while True:
            try:
                said = await self._engine.executed(self._id, self._container)
            except AgentError as error:
                raise CommandCutShort(program=self._program, container=self._container, cause=error) from error
            if not said.get("Running") and said.get("ExitCode") is not None:
                return int(said["ExitCode"])
            if asyncio.get_running_loop().time() > deadline:
                cause = f"it still runs {END_SECONDS:g} s later"
                raise CommandCutShort(program=self._program, container=self._container, cause=cause)
            await asyncio.sleep(LOOK_SECONDS)

    async def _kill(self) -> None:
        """End it where it has not: the engine would let it run on, with nobody who reads."""
        if self.code is not None:
            return
        with suppress(AgentError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                # A command may write before the engine has its number.
                while (said := await self._engine.executed(self._id, self._container)).get("Running"):
                    if said.get("Pid"):
                        _kill_in(int(said["Pid"]), str(said["ContainerID"]))
                        return
                    await asyncio.sleep(LOOK_SECONDS)


async def _each(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _kill_in(pid: int, container_id: str) -> None:
    """Kill the process if it is of this container: the number may be another's by now, or of another namespace."""
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if container_id in Path(f"/proc/{pid}/cgroup").read_text():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
