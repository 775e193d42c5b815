"""The secrets of an agent that a real OpenBao keeps, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from homelab_agent.core.health import Finding, State
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Change, Secret, Secrets
from homelab_agent.secrets import openbao
from homelab_agent.secrets.openbao import OpenBao
from homelab_agent.secrets.settings import SecretsSettings
from tests.clock import MovableClock
from tests.neighbours.openbao import OpenBao as Server

MAX_STALE = 600.0


class House:
    """`look` is what the agent does once a minute; `changes` is what was told of new values."""

    def __init__(self, server: Server, directory: Path, uses: Mapping[str, Sequence[str]]) -> None:
        file = directory / "secret-id"
        file.touch(0o600)
        file.write_text(server.secret_id)
        self.settings = SecretsSettings(
            url=server.url, role_id=server.role_id, secret_id=f"file:{file}", timeout=1.0, max_stale=MAX_STALE
        )
        self.server = server
        self.clock = MovableClock(datetime.now(UTC))  # the server knows when a version was deleted
        self.redactor = Redactor()
        self.changes: list[Change] = []
        self.secrets = Secrets(self.redactor, self.clock, uses=uses)
        self.secrets.on_change = self._tell
        made = openbao.add(self.settings, self.secrets, directory, self.clock)
        assert made is not None
        self.bao: OpenBao = made

    def find(self, name: str) -> Secret:
        """Return the secret of a name within secret/homelab, as `postgres#password`."""
        return self.secrets.find(f"openbao:secret/homelab/{name}")

    async def look(self) -> None:
        """Let a minute pass, and look."""
        await self.clock.advance(60)
        await self.bao.look()

    async def finding(self, state: State) -> Finding:
        """Return how OpenBao stands, which must be so."""
        found = await self.bao.probe()
        assert found.state is state, found
        return found

    async def _tell(self, change: Change) -> None:
        self.changes.append(change)


@asynccontextmanager
async def house(
    server: Server, directory: Path, uses: Mapping[str, Sequence[str]] | None = None
) -> AsyncIterator[House]:
    """Give an agent's secrets; the log-in ends with the context."""
    here = House(server, directory, uses or {})
    try:
        yield here
    finally:
        await here.bao.client.close()
