"""The agent's client beside a real OpenBao: logged in by one way or another, as a test wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets.client import Client
from homelab_agent.secrets.settings import SecretsSettings
from tests.neighbours.openbao import AGENT, OpenBao

INLINE = ("auto", "inline")
"""`auto` is inline with the server of the tests."""

_LOG_IN = "update auth/approle/login"


class Home:
    """The agent's side: a state directory, and the files in which an operator puts what it logs in with."""

    def __init__(self, openbao: OpenBao, directory: Path, clock: Clock | None = None) -> None:
        self.openbao = openbao
        self.directory = directory
        self.clock = clock or SystemClock()
        self.redactor = Redactor()
        self.secret_id, self.token = directory / "secret-id", directory / "token"
        self.write(self.secret_id, openbao.secret_id)

    @staticmethod
    def write(path: Path, text: str) -> None:
        """Write a file that only its owner may read, as an operator does."""
        path.touch(0o600)
        path.write_text(text)

    def settings(self, **keys: Any) -> SecretsSettings:
        """Return the section `[secrets]`; `keys` go before what is usual."""
        return SecretsSettings(
            **{
                "url": self.openbao.url,
                "ca": self.openbao.ca,
                "role_id": AGENT,
                "secret_id": f"file:{self.secret_id}",
                "timeout": 10.0,
                **keys,
            }
        )

    def client(self, **keys: Any) -> Client:
        """Return a client that has asked nothing yet, and that the test closes."""
        settings = self.settings(**keys)
        secrets = Secrets(self.redactor)
        return Client(
            settings,
            directory=self.directory,
            secret_id=secrets.find(settings.secret_id) if settings.secret_id else None,
            token=secrets.find(settings.token) if settings.token else None,
            clock=self.clock,
            hide=secrets.hide,
        )

    @asynccontextmanager
    async def asking(self, **keys: Any) -> AsyncIterator[Client]:
        """Give a client, and close it."""
        client = self.client(**keys)
        try:
            yield client
        finally:
            await client.close()

    @contextmanager
    def asks(self, way: str = "approle") -> Iterator[list[str]]:
        """Fill the list, at the end of the context, with what the agent has asked in it; refused: with `!` before.

        Inline, OpenBao's log has two lines for each request: that of the log-in is left out here, but must be there.
        """
        before, found = len(self.openbao.requests()), list[str]()
        yield found
        asked = [f"{'!' if one.error else ''}{one.operation} {one.path}" for one in self.openbao.requests()[before:]]
        if way in INLINE:
            assert asked[::2] == [_LOG_IN] * len(asked[1::2]), asked
            asked = asked[1::2]
        found += asked
