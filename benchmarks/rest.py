"""At rest: CPU per sample, memory and bytes written, beside the peers that sample this same host meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from benchmarks import process
from tests import agent as agents
from tests.neighbours import disk, ports
from tests.waiting import until

INTERVAL_SECONDS = 10.0
WARM_UP_SECONDS = 60.0

COLLECTD = """
Interval {interval}
BaseDir "{directory}"
PIDFile "{directory}/collectd.pid"
Hostname "bench"
LoadPlugin cpu
LoadPlugin memory
LoadPlugin swap
LoadPlugin load
LoadPlugin df
LoadPlugin disk
LoadPlugin interface
LoadPlugin csv
<Plugin csv>
  DataDir "{directory}/csv"
</Plugin>
"""


def run(*, minutes: float) -> None:
    """Sample with everyone for `minutes`, then print each one's cost per sample."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homelab-agent-bench-")))
        own_disk = stack.enter_context(disk.ext4(megabytes=2048)).point
        ours = stack.enter_context(agents.running(own_disk / "agent"))
        ours.config.write_text(f'[agent]\nstate = "{ours.state}"\n[web]\nlisten = "127.0.0.1:{ours.port}"\n')
        ours.start()
        until(ours.connected, "PostgreSQL runs", seconds=60)
        postmaster = _postmaster(ours.state)
        peers = _peers(stack, directory)
        scraped = peers.get("prometheus-node-exporter")
        time.sleep(WARM_UP_SECONDS)
        _checkpoint(ours)
        written_before = _written(own_disk)
        before = {name: process.cpu_seconds(pid) for name, pid in {**peers, "agent": ours.pid}.items()}
        database_before = _database_cpu(postmaster)
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            time.sleep(INTERVAL_SECONDS)
            if scraped:
                urllib.request.urlopen(f"http://127.0.0.1:{_NODE_PORT[0]}/metrics").read()
        seconds = time.monotonic() - began
        samples = seconds / INTERVAL_SECONDS
        for name, pid in {"agent": ours.pid, **peers}.items():
            used = process.cpu_seconds(pid) - before[name]
            ours_here = name == "agent"
            process.figure(f"{name}: CPU per sample", 1000 * used / samples, "ms", bound=3 if ours_here else None)
            process.figure(f"{name}: of a core", 100 * used / seconds, "%", bound=0.05 if ours_here else None)
            process.figure(f"{name}: RSS", process.rss_megabytes(pid), "MB", bound=75 if ours_here else None)
        _checkpoint(ours)
        written = (_written(own_disk) - written_before) * 86400 / seconds / 2**20
        process.figure("written to the disk per day, with PostgreSQL", written, "MB", bound=150)
        database_cpu = _database_cpu(postmaster) - database_before
        process.figure("embedded PostgreSQL: CPU per sample", 1000 * database_cpu / samples, "ms")


def _checkpoint(ours: agents.Agent) -> None:
    """Let PostgreSQL write what it holds back: the window begins and ends with one, as every hour at rest does."""
    assert ours.run("db", "psql", "-qc", "CHECKPOINT").returncode == 0


def _written(own_disk: Path) -> int:
    """Return the bytes that went to the device below, with the file system's own.

    What the kernel counts for a process (proc(5), write_bytes) is whole folios, up to a megabyte for a few kilobytes.
    """
    os.sync()
    device = own_disk.stat().st_dev
    sectors = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[6]
    return int(sectors) * 512


_NODE_PORT: list[int] = []


def _peers(stack: ExitStack, directory: Path) -> dict[str, int]:
    found = {}
    if exporter := shutil.which("prometheus-node-exporter"):
        _NODE_PORT[:] = [ports.free_port()]
        argv = [exporter, f"--web.listen-address=127.0.0.1:{_NODE_PORT[0]}"]
        found["prometheus-node-exporter"] = stack.enter_context(process.peer(argv))
    if collectd := shutil.which("collectd", path="/usr/sbin:/usr/bin"):
        config = directory / "collectd.conf"
        config.write_text(COLLECTD.format(interval=INTERVAL_SECONDS, directory=directory))
        found["collectd"] = stack.enter_context(process.peer([collectd, "-f", "-C", str(config)]))
    if glances := shutil.which("glances"):
        export = ["--export", "csv", "--export-csv-file", str(directory / "glances.csv")]
        argv = [glances, "-q", "-t", f"{INTERVAL_SECONDS:g}", *export]
        found["glances"] = stack.enter_context(process.peer(argv))
    for name in {"prometheus-node-exporter", "collectd", "glances"} - set(found):
        print(f"{name}: not here (apt-get install {name})")
    return found


def _postmaster(state: Path) -> int:
    (pidfile,) = until(lambda: list(state.glob("postgres/**/postmaster.pid")), "PostgreSQL runs")
    return int(pidfile.read_text().split()[0])


def _database_cpu(postmaster: int) -> float:
    """Return the CPU seconds of the server and its processes, also of those that have ended."""
    living = sum(process.cpu_seconds(each) for each in process.tree(postmaster))
    return living + process.reaped_cpu_seconds(postmaster)
