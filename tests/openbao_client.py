"""The agent's client beside a real OpenBao: logged in by one way or another, as a test wants it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets.client import Client
from homelab_agent.secrets.settings import SecretsSettings
from tests.neighbours.openbao import AGENT, OpenBao, Refused

INLINE = ("auto", "inline")
"""`auto` is inline with the server of the tests."""

_LOG_IN = "update auth/approle/login"
_ROLE = f"auth/approle/role/{AGENT}"


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

    def tokens(self) -> int:
        """Return how many tokens of the agent's role the server knows."""
        return sum((found["meta"] or {}).get("role_name") == AGENT for _, found in self.openbao._tokens())

    def log_ins(self) -> int:
        """Return how often the agent's role has logged in."""
        return sum(f"{one.operation} {one.path}" == _LOG_IN for one in self.openbao.requests())

    def destroy_secret_id(self) -> None:
        """Make the secret id worthless."""
        self.openbao.ask("POST", f"{_ROLE}/secret-id/destroy", {"secret_id": self.openbao.secret_id})

    def restore_role(self) -> None:
        """Make the role again that was deleted, with the same ids."""
        self.openbao.role(role_id=AGENT, token_policies=[AGENT])
        self.openbao.ask("POST", f"{_ROLE}/custom-secret-id", {"secret_id": self.openbao.secret_id})

    @contextmanager
    def locked_out(self) -> Iterator[None]:
        """Have the server let nobody of the role in, as after five refusals, while the context lasts."""
        with self._configured(lambda text: re.sub(r"(?ms)^user_lockout .*?^}\n", "", text)):
            for _ in range(5):
                with suppress(Refused):
                    self.openbao.log_in("no-secret-id")
            yield
            mount = self.openbao.ask("GET", "sys/auth/approle")["data"]["accessor"]
            self.openbao.ask("POST", f"sys/locked-users/{mount}/unlock/{AGENT}")

    @contextmanager
    def _configured(self, change: Callable[[str], str]) -> Iterator[None]:
        as_delivered = self.openbao.configuration.read_text()
        self.openbao.configuration.write_text(change(as_delivered))
        self.openbao.restart()
        yield
        self.openbao.configuration.write_text(as_delivered)
        self.openbao.restart()
