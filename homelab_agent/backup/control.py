"""What is asked of a Docker engine to freeze, to resume and to have commands run; `docker.py` asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from homelab_agent.backup.inventory import Container, Identity


class Control(Protocol):
    """A Docker engine. Each call ends within a bound of its own, also where the engine hangs.

    It raises an AgentError where the engine does not answer, or refuses: nobody knows then whether it was done, or
    will be.
    """

    async def container(self, container_id: str) -> Container | None:
        """Return a container as it is now, whatever it is called; None where there is none of that id."""

    async def find(self, identity: Identity) -> Container | None:
        """Return who bears these labels of Compose, else this name; None where nobody does."""

    async def pause(self, container_id: str) -> None:
        """Freeze all its processes where they are."""

    async def unpause(self, container_id: str) -> None:
        """Let them go on."""

    async def stop(self, container_id: str, *, seconds: float, signal: str = "") -> None:
        """End it and return when it has ended: by `signal`, else its image's own; after `seconds` by SIGKILL."""

    async def start(self, container_id: str) -> None:
        """Start it; nothing happens where it runs."""

    async def wait_healthy(self, container_id: str, *, seconds: float) -> bool:
        """Return whether its check said within that time that it is well; at once where it has no check."""

    def execute(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        user: str = "",
        env: Mapping[str, str] | None = None,
        stdin: AsyncIterator[bytes] | None = None,
        seconds: float = 3600.0,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command in it, as one of its own users, and give what it writes to its standard output.

        The iterator's end raises an AgentError, with the last of its standard error, where its exit code is not 0; the
        context does where it takes longer than `seconds`.
        """
