"""OpenBao as the agent lives with it: asked for new versions, done without for a while, and told what is wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets.client import Client
from homelab_agent.secrets.health import Server, State
from homelab_agent.secrets.reference import SCHEME
from homelab_agent.secrets.settings import SecretsSettings
from homelab_agent.secrets.store import Store

_JITTER = 0.1


class OpenBao:
    """Keeps what was read from OpenBao new; `troubles` is what went wrong at the last look, by reference.

    `settings` are those that it began with.
    """

    def __init__(self, settings: SecretsSettings, secrets: Secrets, client: Client, clock: Clock) -> None:
        """Have `secrets` read its references by `client`."""
        self.client = client
        self.settings = settings
        self.troubles: Mapping[str, AgentError] = {}
        self._url = settings.url
        self._poll = settings.poll
        self._secrets = secrets
        self._clock = clock
        self._store = Store(client, clock, max_stale=settings.max_stale)
        self._server: Server | None = None
        secrets.add_origin(SCHEME, self._store)

    def reload(self, settings: SecretsSettings) -> None:
        """Take the keys that change in a running agent."""
        self._poll, self._store.max_stale = settings.poll, settings.max_stale

    async def log_in(self) -> None:
        """Keep the log-in alive until cancelled, and leave then; what fails otherwise is begun again by who runs it."""
        try:
            await self.client.run()
        except asyncio.CancelledError:
            await self.client.close()
            raise

    async def run(self, report: Callable[[Finding], None]) -> None:
        """Ask for new versions until cancelled, and tell each time how OpenBao stands."""
        while True:
            pause = self._poll * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
            await self._clock.sleep(about(self._clock.read(), pause))
            await self.look()
            report(await self.probe())

    async def look(self) -> None:
        """Ask once; what is new is tried and adopted."""
        self.troubles = await self._secrets.refresh(SCHEME)

    async def probe(self) -> Finding:
        """Say how OpenBao stands; it is asked only while the looks do not tell that it is well."""
        server = self._server
        if server is None or server.state is not State.ACTIVE or self.troubles or self._store.asked_at is None:
            server = self._server = await self.client.status()
        if server.state is State.ACTIVE and not self.troubles:
            return Finding.ok(f"OpenBao {server.version} at {self._url}; {self.client.standing()}; {self.summary()}")
        return self._in_trouble(server)

    def summary(self) -> str:
        """Return how many secrets come from it, and how old the oldest of them is, in words."""
        read = [one for one in self._secrets.standings() if one.reference.startswith(f"{SCHEME}:") and one.read_at]
        asked_at = self._store.asked_at
        if asked_at is None:
            return "secrets: 0"
        return f"secrets: {len(read)}, asked for {self._clock.read().monotonic - asked_at:.0f} s ago"

    def _in_trouble(self, server: Server) -> Finding:
        first = next(iter(self.troubles.values()), None)
        if server.state is State.ACTIVE:
            said = "; ".join(dict.fromkeys(str(error).rstrip(".") for error in self.troubles.values()))
        else:
            said = server.detail.rstrip(".")
        repair = (first.repair if first is not None else server.repair) or "homelab-agent doctor secrets"
        lost = [reference for reference in self.troubles if not self._is_usable(reference)]
        about = [*self.troubles, *(f"{reference} lost" for reference in lost)]
        if lost:
            return Finding.failed(f"{said}; not to be used: {', '.join(lost)}", repair, about=about)
        return Finding.degraded(f"{said}; what is known is used{self._for_how_long()}", repair, about=about)

    def _is_usable(self, reference: str) -> bool:
        until = self._store.good_until(self._store.group(reference.removeprefix(f"{SCHEME}:")))
        return until is not None and self._clock.read().monotonic <= until

    def _for_how_long(self) -> str:
        asked_at = self._store.asked_at
        if asked_at is None:
            return ""
        now = self._clock.read()
        age = now.monotonic - asked_at
        until = now.wall + timedelta(seconds=self._store.max_stale - age)
        return f", {age:.0f} s old, until {until.astimezone():%Y-%m-%d %H:%M}"


def add(settings: SecretsSettings, secrets: Secrets, directory: Path, clock: Clock) -> OpenBao | None:
    """Have `secrets` understand references to OpenBao, where it is configured; return it then.

    `directory` is the agent's state directory. Raises `ReferenceFaulty` for what it is to log in with.
    """
    if not settings.url:
        return None
    client = Client(
        settings,
        directory=directory,
        secret_id=secrets.find(settings.secret_id) if settings.secret_id else None,
        token=secrets.find(settings.token) if settings.token else None,
        clock=clock,
        hide=secrets.hide,
    )
    return OpenBao(settings, secrets, client, clock)
