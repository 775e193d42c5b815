"""The visitor comes as the public does: by the public name and the relay, and knows its own agent by the nonce."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from homelab_agent.core.door import PROBE_HEADER, PUBLIC_PATH
from homelab_agent.gate.visitor import Visit, Visitor
from tests.clock import until
from tests.doh import resolver, saying
from tests.neighbours.ports import free_port
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import FUNNEL
from tests.neighbours.tailscaled import PORT

WEB = 8085
NONCE = "nonce-of-this-test"
VISIT = """
import asyncio, dataclasses, json, sys
from homelab_agent.gate.visitor import Visitor
resolver, url, nonce, patience = sys.argv[1:]
print(json.dumps(dataclasses.asdict(asyncio.run(Visitor(resolver, patience=float(patience)).visit(url, nonce)))))
"""
"""Run in the tailnet's network, as the agent is."""


async def visit(
    tailnet: Tailnet, *, name: str = "", path: str = PUBLIC_PATH, patience: float = 20, authority: bool = True
) -> tuple[bool | None, str]:
    argv = [sys.executable, "-c", VISIT, tailnet.resolver, f"https://{name or tailnet.name}:{PORT}{path}", NONCE]
    child = await asyncio.create_subprocess_exec(
        *tailnet.network.inside(*argv, str(patience)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **({"SSL_CERT_FILE": str(tailnet.ca)} if authority else {})},
    )
    said, _ = await child.communicate()
    found = json.loads(said)
    return found["alive"], found["detail"]


@asynccontextmanager
async def agent(tailnet: Tailnet, *, status: int = 405, echoes: bool = True) -> AsyncIterator[list[web.Request]]:
    """Answer in the host's network as the agent would a probe, or somebody else; give what was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        echo = {PROBE_HEADER: request.headers.get(PROBE_HEADER, "")} if echoes else {}
        return web.Response(status=status, headers={"Location": "https://example.org/", **echo})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = tailnet.network.make_socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", WEB))
    try:
        await web.SockSite(runner, listening).start()
        yield asked
    finally:
        await runner.cleanup()


async def test_an_open_door_leads_to_the_agent(tailnet: Tailnet) -> None:
    async with agent(tailnet) as asked:
        with tailnet.homelab.session(WEB):
            await until(tailnet.public.reaches, "the public is let in")
            assert await visit(tailnet) == (True, f"{tailnet.name} leads here, by {tailnet.network.public[0]}")
    (request,) = asked
    assert (request.method, request.path) == ("GET", PUBLIC_PATH)
    assert request.headers["Tailscale-Funnel-Request"] == "?1"


@pytest.mark.parametrize(("status", "echoes"), [(405, False), (200, True), (302, True), (503, True), (502, False)])
async def test_who_answers_otherwise_is_not_the_agent_behind_an_open_door(
    tailnet: Tailnet, *, status: int, echoes: bool
) -> None:
    async with agent(tailnet, status=status, echoes=echoes) as asked:
        with tailnet.homelab.session(WEB):
            await until(tailnet.public.reaches, "the public is let in")
            alive, detail = await visit(tailnet)
    assert alive is False
    assert detail.endswith(f"it answers {status}, which is not this agent's answer")
    assert len(asked) == 1


async def test_with_nobody_behind_it_the_daemon_answers_and_that_is_not_enough(tailnet: Tailnet) -> None:
    with tailnet.homelab.session(WEB):
        await until(tailnet.public.reaches, "the public is let in")
        alive, detail = await visit(tailnet)
    assert alive is False
    assert "it answers 502" in detail


DEAD: dict[str, Callable[[Tailnet], object]] = {
    "the relay closes": lambda tailnet: tailnet.relay.close(),
    "the relay hangs": lambda tailnet: tailnet.relay.hang(),
    "no certificate": lambda tailnet: tailnet.remove_certificate(),
    "another name's": lambda tailnet: tailnet.place_certificate("other.tail-test.ts.net"),
    "a stranger's": lambda tailnet: tailnet.place_certificate(trusted=False),
    "too old": lambda tailnet: tailnet.place_certificate(lasts=timedelta(days=-1)),
    "policy": lambda tailnet: tailnet.control.withdraw(FUNNEL),
    "daemon": lambda tailnet: tailnet.homelab.freeze(),
}


@pytest.mark.parametrize("fault", DEAD)
async def test_a_public_way_that_is_dead_is_seen_though_the_door_is_open(tailnet: Tailnet, fault: str) -> None:
    async with agent(tailnet) as asked:
        with tailnet.homelab.session(WEB):
            await until(tailnet.public.reaches, "the public is let in")
            DEAD[fault](tailnet)
            alive, detail = await visit(tailnet, patience=2)
            assert alive is False
            assert detail.startswith(tailnet.network.public[0])
            assert asked == []
            tailnet.homelab.thaw()


async def test_of_several_addresses_one_that_leads_here_is_enough(
    tailnet: Tailnet, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a relay's that is down, and beside it one that works."""
    made = tailnet.world.certificate(tailnet.name, datetime.now(UTC) + timedelta(days=1), trusted=True)
    both = open_directory / "both.pem"
    both.write_text(made["certificate"] + made["key"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(both)
    monkeypatch.setenv("SSL_CERT_FILE", str(tailnet.ca))

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=405, headers={PROBE_HEADER: request.headers[PROBE_HEADER]})

    app = web.Application()
    app.router.add_get(PUBLIC_PATH, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.2", port, ssl_context=tls).start()
        async with resolver(saying("127.0.0.1", "127.0.0.2")) as (url, _):
            found = await Visitor(url).visit(f"https://{tailnet.name}:{port}{PUBLIC_PATH}", NONCE)
            other = await Visitor(url).visit(f"https://other.ts.net:{port}{PUBLIC_PATH}", NONCE)
    finally:
        await runner.cleanup()
    assert found == Visit(alive=True, detail=f"{tailnet.name} leads here, by 127.0.0.2")
    assert other.alive is False
    assert "other.ts.net" in other.detail


async def test_nothing_published_is_a_dead_way(tailnet: Tailnet) -> None:
    assert (await visit(tailnet))[0] is False


async def test_a_name_that_nobody_knows_is_a_dead_way(tailnet: Tailnet) -> None:
    name = f"nobody.{tailnet.name}"
    assert await visit(tailnet, name=name) == (False, f"{name} is not known on the internet")


async def test_a_resolver_that_cannot_be_trusted_says_nothing_of_the_way(tailnet: Tailnet) -> None:
    alive, detail = await visit(tailnet, authority=False)
    assert alive is None
    assert detail.startswith(f"{tailnet.resolver} cannot say where {tailnet.name} is.")
