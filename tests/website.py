"""The web room alone, at real sockets: a foundation without metrics and database, and clients that ask it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, cast

import aiohttp
from prometheus_client import CollectorRegistry
from yarl import URL

import homelab_agent
from homelab_agent.core.capability import Capability
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.foundation import Database, Foundation
from homelab_agent.core.health import Health
from homelab_agent.core.jobs import Jobs
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.web import service, sockets
from homelab_agent.web.settings import WebSettings

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))
HOST = "server.tail1234.ts.net"
TAILNET = {"Host": HOST, "X-Forwarded-For": "100.101.102.103", "X-Forwarded-Proto": "https"}
FUNNEL = {**TAILNET, "X-Forwarded-For": "198.51.100.7", "Tailscale-Funnel-Request": "?1"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; a repeated header's values are joined."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Site:
    """A running web room."""

    base: Foundation
    web: Capability
    directory: Path
    port: int
    task: asyncio.Future[None]

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        unix: bool = False,
    ) -> Answer:
        """Send one request over a connection of its own; `path` goes as it is."""
        connector = aiohttp.UnixConnector(str(self.directory / "agent.sock")) if unix else None
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.request(method, url, headers=headers, data=body, allow_redirects=False) as answer,
        ):
            return Answer(answer.status, answer.headers.copy(), await answer.read())

    async def local(self, method: str, path: str, said: object = None) -> Any:
        """Ask as the command line does; return the JSON of a good answer."""
        body = None if said is None else json.dumps(said).encode()
        answer = await self.ask(method, path, body=body, unix=True)
        assert answer.status < 300, answer
        return answer.json()

    async def token(self) -> dict[str, str]:
        """Return the header of a new token."""
        made = await self.local("POST", "/api/tokens", {"name": f"t{len(await self.tokens())}"})
        return {"Authorization": f"Bearer {made['token']}"}

    async def tokens(self) -> Sequence[Any]:
        return cast("Sequence[Any]", (await self.local("GET", "/api/tokens"))["tokens"])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a bare TCP connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def until_connections(self, number: int, *, seconds: float = 5.0) -> None:
        """Wait until the web room says that it has `number` open connections."""
        said = f"; open connections: {number}"
        async with asyncio.timeout(seconds):
            while not (await self.base.health.probe("web")).finding.detail.endswith(said):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def send(self, raw: bytes, *, seconds: float = 10) -> bytes:
        """Send bytes as they are and return all that comes back until the server closes the connection."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            async with asyncio.timeout(seconds):
                return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    capabilities: Sequence[Capability | Callable[[Foundation], Capability]] = (),
    *,
    settings: WebSettings | None = None,
    **more: Any,
) -> AsyncIterator[Site]:
    """Serve the routes of `capabilities`, made or to be made, and the web room's own until the context ends."""
    settings = settings or WebSettings(listen="127.0.0.1:0", hosts=[HOST])
    clock = SystemClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="testhost", max_bytes=1 << 20, max_age=3600.0)
    listeners = await asyncio.to_thread(sockets.listen, settings.listen, directory)
    port = listeners.addresses()[0][1]
    base = Foundation(
        host="testhost",
        directory=directory,
        clock=clock,
        state=state,
        spool=spool,
        health=Health(clock),
        jobs=Jobs(state, spool, clock, host="testhost", timezone=UTC),
        database=cast("Database", None),
        registry=CollectorRegistry(),
        port=listeners.loopback_port(),
    )
    made = [one if isinstance(one, Capability) else one(base) for one in capabilities]
    web = service.build(settings, base, made, listeners=listeners, **more)
    for capability in (*made, web):
        base.health.add(capability.checks)
        base.jobs.add(capability.jobs)
    task: asyncio.Future[None] = asyncio.ensure_future(web.tasks[0].run())
    site = Site(base, web, directory, port, task)
    try:
        await site.until_connections(0)
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await base.jobs.stop(5)
        await spool.close()
        await state.close()
