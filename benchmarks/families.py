"""All families on: CPU per sample and memory, on a machine with systemd and Docker, beside peers that sample it.

CPU time, not elapsed time: other work on the host's cores moves it less. All sample the same machine meanwhile; a
figure is the median of windows of a minute, a ratio that of the windows' ratios. Who wakes every ten seconds finds
nothing of his in the cores' caches where others have worked meanwhile: his code costs several times what it does in
a loop.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks import process, rest
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.settings import MetricsSettings
from tests.neighbours import machine as machines
from tests.neighbours.machine import Machine
from tests.waiting import until

CHECKOUT = Path(__file__).parents[1]
CONTAINERS = 10
WARM_UP_SECONDS = 90.0
WINDOW_SECONDS = 60.0
ROUNDS = 40

_UNIT = "[Service]\nWorkingDirectory={directory}\nEnvironment=PYTHONPATH={directory}\nExecStart={argv}\n"
_CONFIG = """
[agent]
state = "/var/lib/agent"
[web]
listen = "127.0.0.1:8085"
[[metrics.probe]]
name = "page"
target = "http://127.0.0.1:8086/"
"""
_SCRAPE = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(sys.argv[1]).read()
    time.sleep(float(sys.argv[2]))
"""
_ANSWERS = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
_PORT = 9199


def run(*, minutes: float) -> None:
    """Sample with everyone for `minutes`, then print each one's cost per sample, and what each of our collectors is."""
    with machines.running(shared=[CHECKOUT]) as machine:
        _start_containers(machine)
        _start(machine, "page", "/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /srv 8086")
        _start(machine, "agent", f"{sys.executable} -m homelab_agent --config /etc/agent.toml run", config=_CONFIG)
        until(lambda: "node_systemd_unit_state" in _page(machine), "units are sampled", seconds=120)
        until(lambda: 'name="guest1"' in _page(machine), "containers are sampled by their names", seconds=180)
        peers = _start_peers(machine)
        time.sleep(WARM_UP_SECONDS)
        windows = max(round(minutes * 60 / WINDOW_SECONDS), 4)
        found = _watch(machine, ["agent", *peers], windows)
        _print(machine, found)
        _collectors(machine)


def collect() -> None:
    """Print, as JSON, the CPU of one reading of each collector on this host, in milliseconds: in the machine."""
    collection = Collection(Host("here"), MetricsSettings())
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for one in collection.collectors:
            if one.name == collection.containers.name:  # as if all had names
                collection.containers.learn({}, collection.containers.unknown)
            began = time.process_time()
            try:
                one.collect()
            except NotAvailable:
                continue
            spent.setdefault(f"{one.name}{' (slow)' if one.slow else ''}", []).append(time.process_time() - began)
        time.sleep(0.2)
    print(json.dumps({name: 1000 * statistics.median(times[1:]) for name, times in spent.items()}))


def _start_containers(machine: Machine) -> None:
    machine.systemctl("start", "docker.service")
    machine("sh", "-c", "tar -C / -c bin/busybox | docker import - busybox")
    for number in range(CONTAINERS):
        words = ("run", "--detach", "--network", "none", "--name", f"guest{number}", "busybox")
        machine("/usr/bin/docker", *words, "/bin/busybox", "sleep", "100000")


def _start(machine: Machine, name: str, argv: str, *, config: str = "") -> None:
    if config:
        machine.path(f"/etc/{name}.toml").write_text(config)
    machine.install(f"{name}.service", _UNIT.format(directory=CHECKOUT, argv=argv))
    machine.systemctl("start", f"{name}.service")


def _start_peers(machine: Machine) -> list[str]:
    found = []
    for name, argv in _peers().items():
        if shutil.which(argv.split()[0]) is None:
            print(f"{name}: not here (apt-get install {name.split('-with-')[0]})")
            continue
        if name == "collectd":
            machine.path("/var/tmp/collectd").mkdir()
            config = rest.COLLECTD.format(interval=rest.INTERVAL_SECONDS, directory="/var/tmp/collectd")
            machine.path("/etc/bench-collectd.conf").write_text(config)
        _start(machine, name, argv)
        found.append(name)
    for number, name in enumerate(name for name in found if "node-exporter" in name):
        url = f"http://127.0.0.1:{_PORT + number}/metrics"
        until(partial(_page, machine, url), f"{name} answers")
        machine.path("/var/tmp/scrape.py").write_text(_SCRAPE)
        _start(machine, f"scrape-{number}", f"/usr/bin/python3 /var/tmp/scrape.py {url} {rest.INTERVAL_SECONDS:g}")
    return found


def _peers() -> Mapping[str, str]:
    interval = f"{rest.INTERVAL_SECONDS:g}"
    exporter = "/usr/bin/prometheus-node-exporter --web.listen-address=127.0.0.1:"
    return {
        "prometheus-node-exporter": f"{exporter}{_PORT}",
        "prometheus-node-exporter-with-units": f"{exporter}{_PORT + 1} --collector.systemd",
        "collectd": "/usr/sbin/collectd -f -C /etc/bench-collectd.conf",
        "glances": f"/usr/bin/glances -q -t {interval} --export csv --export-csv-file /var/tmp/glances.csv",
    }


def _page(machine: Machine, url: str = "http://127.0.0.1:8085/metrics") -> str:
    return machine.run("python3", "-c", _ANSWERS, url).stdout


def _processes(machine: Machine, unit: str) -> list[int]:
    """Return the host's numbers of a unit's processes, PostgreSQL's left out: they are told by themselves."""
    inside = int(machine.show(f"{unit}.service")["MainPID"])
    first = next(pid for pid in process.tree(machine.pid) if _inside(pid) == inside)
    return [pid for pid in process.tree(first) if not Path(f"/proc/{pid}/comm").read_text().startswith("postgres")]


def _inside(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def _watch(machine: Machine, names: list[str], windows: int) -> Mapping[str, list[float]]:
    """Return each one's CPU seconds in each window."""
    pids = {name: _processes(machine, name) for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(windows):
        before = {name: sum(map(process.cpu_seconds, pids[name])) for name in names}
        time.sleep(WINDOW_SECONDS)
        for name in names:
            found[name].append(sum(map(process.cpu_seconds, pids[name])) - before[name])
    return found


def _print(machine: Machine, found: Mapping[str, list[float]]) -> None:
    samples = WINDOW_SECONDS / rest.INTERVAL_SECONDS
    for name, windows in found.items():
        ours = name == "agent"
        low, middle, high = statistics.quantiles(windows)
        per_sample = 1000 / samples
        ratio = statistics.median(a / b for a, b in zip(found["agent"], windows, strict=True))
        note = f"between {low * per_sample:.2f} and {high * per_sample:.2f} in half of {len(windows)} windows"
        note += "" if ours else f"; ours is {ratio:.2f}x"
        process.figure(f"{name}: CPU per sample", middle * per_sample, "ms", bound=5 if ours else None, note=note)
        of_a_core = 100 * middle / WINDOW_SECONDS
        process.figure(f"{name}: of a core", of_a_core, "%", bound=0.1 if ours else None)
        memory = sum(map(process.rss_megabytes, _processes(machine, name)))
        process.figure(f"{name}: RSS", memory, "MB", bound=75 if ours else None)


def _collectors(machine: Machine) -> None:
    code = "from benchmarks import families; families.collect()"
    argv = ["env", f"PYTHONPATH={CHECKOUT}", sys.executable, "-c", code]
    for name, milliseconds in json.loads(machine(*argv)).items():
        process.figure(f"collector {name}: CPU of a reading", milliseconds, "ms")
