"""From exec to READY, against a PostgreSQL that runs already; the peer is Python importing the same libraries."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import process
from tests import agent as agents
from tests.neighbours import postgres, postgres_kinds

ROUNDS = 9
LIBRARIES = (
    "import asyncio, aiohttp.web, asyncpg, apscheduler, click, jinja2, prometheus_client, psutil, pydantic, structlog"
)


def run(*, minutes: float) -> None:
    """Start it again and again, in turn with the peer; print medians."""
    del minutes
    ready, imports = [], []
    with (
        postgres.running(postgres_kinds.WHEEL) as server,
        tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name,
    ):
        Path(name).chmod(0o755)
        with agents.running(Path(name) / "agent") as ours:
            ours.write(database=server.url, interval=10)
            for _ in range(ROUNDS):
                ready.append(_until_ready(ours, Path(name) / "notify"))
                ours.stop()
                began = time.monotonic()
                subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
                imports.append(time.monotonic() - began)
    process.figure("agent: exec to READY (median)", statistics.median(ready), "s", bound=1.0)
    process.figure("peer: Python importing its libraries (median)", statistics.median(imports), "s")


def _until_ready(ours: agents.Agent, path: Path) -> float:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(30)
        ours.env |= {"NOTIFY_SOCKET": str(path), "PATH": os.environ["PATH"]}
        began = time.monotonic()
        ours.spawn()
        while b"READY=1" not in manager.recv(4096):
            continue
        return time.monotonic() - began
