"""The door's session with tailscaled: held by a child, `tailscale funnel`, beside one that is held over its LocalAPI.

Both are opened and closed again and again in front of a real tailscaled and its public relay, and then lose who holds
them. In the end that one hangs while the tailnet changes: tailscaled has more and more to tell whoever holds a session.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Self

import aiohttp

from benchmarks import process
from homelab_agent.gate.child import Command, Session
from homelab_agent.gate.tailscale import Tailscaled
from tests.neighbours import tailnet as neighbour
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailscaled import PORT
from tests.processes import freeze

ROUNDS, LOOKS, KILLS, CHANGES = 30, 500, 10, 1000
WEB = 8085
TARGET = f"http://127.0.0.1:{WEB}"
WAYS = {"child": "a child", "localapi": "LocalAPI"}


class Held:
    """A session of our own: as long as tailscaled's stream of notices is read, what is published for it stays."""

    pid = 0

    def __init__(self, command: Command, name: str) -> None:
        self._command = command
        self._name = f"{name}:{command.port}"
        self.heard_bytes = 0

    async def open(self) -> None:
        connector = aiohttp.UnixConnector(str(self._command.socket))
        self._client = aiohttp.ClientSession("http://local-tailscaled.sock/localapi/v0/", connector=connector)
        self._stream = await self._client.get("watch-ipn-bus?mask=2", timeout=aiohttp.ClientTimeout())
        session = json.loads(await self._stream.content.readline())["SessionID"]
        self._reading = asyncio.create_task(self._read())
        layer = {
            "TCP": {str(self._command.port): {"HTTPS": True}},
            "Web": {self._name: {"Handlers": {"/": {"Proxy": self._command.target}}}},
            "AllowFunnel": {self._name: True},
        }
        async with self._client.get("serve-config") as told:
            etag, raw = told.headers["Etag"], await told.json() or {}
        raw["Foreground"] = {**(raw.get("Foreground") or {}), session: layer}
        async with self._client.post("serve-config", json=raw, headers={"If-Match": etag}) as answer:
            assert answer.status == 200, await answer.text()

    async def close(self) -> None:
        self._reading.cancel()
        self._stream.close()
        await self._client.close()

    async def _read(self) -> None:
        async for chunk in self._stream.content.iter_any():
            self.heard_bytes += len(chunk)


def run(*, minutes: float) -> None:
    """Measure both ways in turn, each in a process of its own."""
    del minutes
    with neighbour.running() as tailnet, _answering(tailnet):
        for way, name in WAYS.items():
            _open_and_shut(tailnet, way, name)
        _looks(tailnet)
        for way, name in WAYS.items():
            _killed(tailnet, way, name)
        for way, name in WAYS.items():
            _hung(tailnet, way, name)


def _open_and_shut(tailnet: Tailnet, way: str, name: str) -> None:
    opened, shut = [], []
    with _Holder(tailnet, way) as holder:
        before = process.pss_megabytes(holder.pid)
        for _ in range(ROUNDS):
            opened.append(holder.timed("open", lambda: _is_let_in(tailnet)))
            shut.append(holder.timed("close", lambda: not _is_let_in(tailnet)))
        own = int(holder.tell("open"))
        _until(lambda: _is_let_in(tailnet))
        process.figure(f"{name}: open to the first public connection (median)", 1000 * statistics.median(opened), "ms")
        process.figure(f"{name}: closed to the first refusal (median)", 1000 * statistics.median(shut), "ms")
        process.figure(f"{name}: closed to the first refusal (worst)", 1000 * max(shut), "ms")
        if own:
            process.figure(f"{name}: its memory (RSS)", process.rss_megabytes(own), "MB")
            process.figure(f"{name}: of that anonymous", process.anonymous_megabytes(own), "MB")
        grown = process.pss_megabytes(holder.pid) - before
        process.figure(f"{name}: memory grown in who holds it (PSS, {ROUNDS} rounds)", grown, "MB")


def _looks(tailnet: Tailnet) -> None:
    """Print what the gate's look at the daemon costs, and the same by the command."""

    async def look() -> None:
        daemon = Tailscaled(tailnet.homelab.socket)
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(LOOKS):
            await daemon.read()
        process.figure("a look at the daemon", 1000 * (time.perf_counter() - began) / LOOKS, "ms")
        process.figure("a look at the daemon: our CPU", 1000 * (time.process_time() - cpu) / LOOKS, "ms")

    asyncio.run(look())
    began = time.perf_counter()
    for _ in range(20):
        tailnet.homelab("funnel", "status", "--json")
    process.figure("peer: tailscale funnel status --json alone", 1000 * (time.perf_counter() - began) / 20, "ms")


def _killed(tailnet: Tailnet, way: str, name: str) -> None:
    took = []
    for _ in range(KILLS):
        with _Holder(tailnet, way) as holder:
            holder.tell("open")
            _until(lambda: _is_let_in(tailnet))
            began = time.perf_counter()
            holder.kill()
            _until(lambda: not _is_let_in(tailnet))
            took.append(1000 * (time.perf_counter() - began))
    process.figure(f"{name}: who holds it killed, to the first refusal (worst of {KILLS})", max(took), "ms", bound=1000)


def _hung(tailnet: Tailnet, way: str, name: str) -> None:
    """Freeze who holds the session, and count what happens in the tailnet until the daemon has had enough."""
    with _Holder(tailnet, way) as holder:
        holder.tell("open")
        _until(lambda: _is_let_in(tailnet))
        before = int(holder.tell("heard"))
        for _ in range(10):
            _change(tailnet)
        heard = (int(holder.tell("heard")) - before) / 10
        freeze(holder.pid)
        changes = 0
        while changes < CHANGES and _is_let_in(tailnet):
            _change(tailnet)
            changes += 1
        outcome = "open still" if _is_let_in(tailnet) else "shut by the daemon"
        process.figure(f"{name}: who holds it hangs, changes in the tailnet meanwhile", changes, "", note=outcome)
        if way == "localapi":
            process.figure(f"{name}: to be read for each change in a tailnet of three", heard, "bytes")


def _change(tailnet: Tailnet) -> None:
    mark = tailnet.control.mark()
    _until(lambda: mark in tailnet.homelab.capabilities)


def _is_let_in(tailnet: Tailnet) -> bool:
    with suppress(OSError), tailnet.public.connect(PORT):
        return True
    return False


def _until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end


class _Holder:
    """A process that holds a door as the agent would, told by lines."""

    def __init__(self, tailnet: Tailnet, way: str) -> None:
        words = [way, str(tailnet.homelab.program), str(tailnet.homelab.socket), tailnet.name]
        argv = [sys.executable, "-m", "benchmarks.gate", *words]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        self.tell("warm")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def tell(self, word: str) -> str:
        """Have a word done and return what it came to."""
        self._say(word)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def timed(self, word: str, condition: Callable[[], bool]) -> float:
        """Return the seconds until `condition` holds from when the word is said."""
        began = time.perf_counter()
        self._say(word)
        _until(condition)
        took = time.perf_counter() - began
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return took

    def kill(self) -> None:
        """End it as the kernel would."""
        self._process.kill()
        self._process.wait()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")


async def _hold(way: str, program: str, socket: str, name: str) -> None:
    command = Command(program, Path(socket), "funnel", PORT, TARGET)
    door: Session | Held = Session(command) if way == "child" else Held(command, name)
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    while word := (await words.readline()).decode().strip():
        match word:
            case "open":
                await door.open()
            case "close":
                await door.close()
            case "heard":
                print(door.heard_bytes if isinstance(door, Held) else 0, flush=True)
                continue
        print(door.pid, flush=True)


@contextmanager
def _answering(tailnet: Tailnet) -> Iterator[None]:
    """Answer in the host's network where the agent would."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", WEB), Answering, bind_and_activate=False)
    server.socket.close()
    server.socket = tailnet.network.make_socket()
    server.server_bind()
    server.server_activate()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    asyncio.run(_hold(*sys.argv[1:]))
