"""Server-sent events (the HTML standard, section 9.2): an answer that goes on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from homelab_agent.core import journal
from homelab_agent.core.errors import describe
from homelab_agent.core.http import Event, Events
from homelab_agent.web import wire
from homelab_agent.web.incoming import Incoming

HEARTBEAT_SECONDS = 10.0
"""How often a quiet stream says that it lives: a proxy keeps it, and a client that is gone is noticed."""
RETRY_MILLISECONDS = 3000
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}

_log = journal.logger("web")


def encode(event: Event) -> bytes:
    """Return one event as it is sent; a line break in name or id cannot end the field early."""
    lines = [f"event: {_one_line(event.name)}"]
    if event.id:
        lines.append(f"id: {_one_line(event.id)}")
    return "\n".join(lines).encode() + b"\ndata: " + wire.dump(event.data) + b"\n\n"


async def stream(
    incoming: Incoming, events: Events, over: asyncio.Future[None], headers: dict[str, str]
) -> web.StreamResponse:
    """Send events until their source ends, the client leaves or `over` is done."""
    response = web.StreamResponse(headers={**HEADERS, **headers})
    # An event stream has no end to wait for: nothing else is asked over this connection.
    response.force_close()
    await response.prepare(incoming)
    if incoming.method == "HEAD":
        await _close(None, events)
        return response
    coming: asyncio.Future[Event] | None = None
    try:
        await response.write(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
        while not over.done():
            coming = coming or asyncio.ensure_future(anext(events.source))
            waiting: set[asyncio.Future[Any]] = {coming, over}
            await asyncio.wait(waiting, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                await response.write(b": still here\n\n")
                continue
            come, coming = coming, None
            await response.write(encode(come.result()))
    except (ConnectionError, StopAsyncIteration):
        pass  # the client left, or the source has ended
    except Exception as error:  # noqa: BLE001 - the answer has begun: all that is left is to end it
        _log.exception("web.stream_failed", cause=describe(error))
    finally:
        await _close(coming, events)
    return response


async def _close(coming: asyncio.Future[Event] | None, events: Events) -> None:
    """End the source: its `finally` runs now, not when the garbage is collected."""
    if coming is not None:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await coming
    close = getattr(events.source, "aclose", None)
    if close is not None:
        await close()


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ").replace("\0", " ")
