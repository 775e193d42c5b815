"""A DNS-over-HTTPS resolver in the test's own loop, which says what a test wants: the real ones say what is so."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

from aiohttp import web

from tests.neighbours.ports import free_port

_A = 1


def answer(question: bytes, *addresses: str, code: int = 0) -> bytes:
    """Return a resolver's answer to `question`: those of the addresses that are of its kind."""
    kind = struct.unpack(">H", question[-4:-2])[0]
    packed = [ip_address(one).packed for one in addresses]
    found = [one for one in packed if len(one) == (4 if kind == _A else 16)]
    head = struct.pack(">6H", 0, 0x8180 | code, 1, len(found), 0, 0)
    return head + question[12:] + b"".join(struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(one)) + one for one in found)


@asynccontextmanager
async def resolver(say: Callable[[bytes], web.Response]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Give the address of a resolver that answers what `say` makes of a question, and what it was asked."""
    asked: list[bytes] = []

    async def resolve(request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == request.headers["Accept"] == "application/dns-message"
        asked.append(await request.read())
        return say(asked[-1])

    app = web.Application()
    app.router.add_post("/dns-query", resolve)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}/dns-query", asked
    finally:
        await runner.cleanup()


def saying(*addresses: str, code: int = 0) -> Callable[[bytes], web.Response]:
    return lambda question: web.Response(body=answer(question, *addresses, code=code))
