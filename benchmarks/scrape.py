"""CPU of one scrape of `GET /metrics`, beside node_exporter's, both asked on a kept connection."""

from __future__ import annotations

import http.client
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import process
from tests import agent as agents
from tests.neighbours import ports, postgres, postgres_kinds
from tests.waiting import until

SCRAPES = 500


def run(*, minutes: float) -> None:
    """Scrape both in turn, in blocks, and print the CPU time of each scrape."""
    del minutes
    with ExitStack() as stack:
        server = stack.enter_context(postgres.running(postgres_kinds.WHEEL))
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="homelab-agent-bench-"))
        ours = stack.enter_context(agents.running(Path(name) / "agent"))
        ours.write(database=server.url, interval=10)
        ours.start()
        until(lambda: b"node_memory" in ours.get("/metrics")[1], "a sample is shown")
        targets = {"agent": (ours.pid, ours.port)}
        if exporter := shutil.which("prometheus-node-exporter"):
            port = ports.free_port()
            pid = stack.enter_context(process.peer([exporter, f"--web.listen-address=127.0.0.1:{port}"]))
            targets["prometheus-node-exporter"] = (pid, port)
            time.sleep(1)
        for who, (pid, port) in targets.items():
            cost, size = _scrape(pid, port)
            bound = 1.0 if who == "agent" else None
            process.figure(f"{who}: CPU per scrape", 1000 * cost, "ms", bound=bound, note=f"{size} bytes")


def _scrape(pid: int, port: int) -> tuple[float, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = b""
    for _ in range(20):
        body = _once(connection)
    before = process.cpu_seconds(pid)
    for _ in range(SCRAPES):
        body = _once(connection)
    spent = process.cpu_seconds(pid) - before
    connection.close()
    return spent / SCRAPES, len(body)


def _once(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/metrics")
    return connection.getresponse().read()
