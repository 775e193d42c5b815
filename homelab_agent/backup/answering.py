"""Whether a container without a network answers on a port of its own: asked from inside its network namespace.

A socket is of the namespace in which its thread has made it (network_namespaces(7)); from there on it is an ordinary
one. The processes of a container are found by its id in their control group, whatever numbers Docker knows them by.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from homelab_agent.core import process_table

ANSWER_SECONDS = 5.0
_CLONE_NEWNET = 0x40000000
_ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: homelab-agent\r\nConnection: close\r\n\r\n"
_HEAD_BYTES = 64


async def asked(container_id: str, port: int) -> str | None:
    """Return what is answered to HTTP there ("HTTP/1.1 200"); "" where somebody listens, None where nobody does."""
    found = await asyncio.to_thread(_inside, container_id, port)
    if found is None:
        return None
    with found:
        return await _answer(found)


async def _answer(connected: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    said = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await loop.sock_sendall(connected, _ASKED)
            while b"\n" not in said and len(said) < _HEAD_BYTES and (piece := await loop.sock_recv(connected, 64)):
                said += piece
    words = said.split(b"\r\n")[0].decode("latin-1").split()
    return " ".join(words[:2]) if words and words[0].startswith("HTTP/") else ""


def _inside(container_id: str, port: int) -> socket.socket | None:
    """Return a connection to a port of 127.0.0.1 inside, None where there is none; blocking."""
    for pid in process_table.living(lambda entry: container_id in (entry / "cgroup").read_text()):
        # A thread of its own, which ends with this: it does not come back from there.
        with suppress(OSError), ThreadPoolExecutor(1, thread_name_prefix="netns") as thread:
            return thread.submit(_connected, pid, port).result()
    return None


def _connected(pid: int, port: int) -> socket.socket:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(namespace).st_ino == Path("/proc/self/ns/net").stat().st_ino:
            raise ConnectionRefusedError(f"{pid} is in the network of this host")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(namespace)
    made = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
    made.settimeout(0)
    return made
