"""The whole agent's public door: how long each way of shutting it takes to the first refusal, and what it costs.

It replaces a loop that asks `systemctl is-active` every 300 s and leaves the door open when it has died.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import process
from tests import agent as agents
from tests.agent import Agent
from tests.gate_home import WEBHOOK, Home
from tests.neighbours import disk
from tests.neighbours import tailnet as neighbour
from tests.neighbours.tailnet import Tailnet

ROUNDS = 5
REST_SECONDS = 60.0
PACE = "closed_at_least = 0\nopen_at_least = 0\n"
"""Everything else as it is by default: a look every 5 s, every 1 s in doubt, 3 in a row."""


def run(*, minutes: float) -> None:
    """Measure with the real tailscaled and a relay before it."""
    del minutes
    with tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name, neighbour.running() as tailnet:
        directory = Path(name)
        directory.chmod(0o755)
        with agents.running(directory / "agent") as agent:
            home = Home(tailnet, agent, directory, pace=PACE)
            _started(home)
            _held(home)
            _killed(home)
            with_door = _cost(home)
        with agents.running(directory / "without") as agent:
            agent.write("[gitops]\n", interval=10)
            agent.start()
            without = _rest(agent, "without a gate")
        _full(tailnet, directory)
    process.figure("CPU of the gate at rest", with_door - without, "% of a core", bound=0.1)


def _started(home: Home) -> None:
    began = time.perf_counter()
    home.start()
    ready = time.perf_counter()
    _until(lambda: not home.refused())
    took = time.perf_counter() - ready
    process.figure("READY to the first public answer", took, "s", bound=3.0 + 1.0, note="three looks 1 s apart")
    process.figure("exec to the first public answer", time.perf_counter() - began, "s")


def _held(home: Home) -> None:
    took = []
    for number in range(ROUNDS):
        home.open()
        with home.tailnet.public.connect() as visitor:
            visitor.ask("GET", WEBHOOK)
            began = time.perf_counter()
            home.agent.run("gate", "close", "--reason", f"round {number}")
            command = time.perf_counter() - began
            took.append(_first_refusal(home.tailnet) + command)
        home.agent.run("gate", "auto")
    process.figure("gate close, its own start included, to the first refusal", statistics.median(took), "s", bound=1.0)


def _killed(home: Home) -> None:
    took = []
    for _ in range(ROUNDS):
        home.open()
        home.agent.kill()
        took.append(_first_refusal(home.tailnet))
        home.agent.start()
    process.figure("agent killed to the first refusal (worst)", max(took), "s", bound=1.0)


def _full(tailnet: Tailnet, directory: Path) -> None:
    """Fill the agent's disk, and ask for what it then cannot promise."""
    took = []
    with disk.tmpfs(megabytes=96) as small, agents.running(small.point / "agent") as agent:
        home = Home(tailnet, agent, directory, pace=PACE).start()
        _until(agent.connected)
        for _ in range(ROUNDS):
            home.open()
            small.fill()
            is_refused = False
            while not is_refused:
                began = time.perf_counter()
                is_refused = agent.run("jobs", "run", "--detach", "database.partitions").returncode != 0
            _first_refusal(tailnet)
            took.append(time.perf_counter() - began)
            small.free()
    process.figure("a write fails, with the command that asks for it, to the first refusal", max(took), "s", bound=1.0)


def _cost(home: Home) -> float:
    home.open()
    home.agent.stop()
    home.configure(interval=10)
    home.agent.start()
    home.open()
    return _rest(home.agent, "with an open door")


def _rest(agent: Agent, name: str) -> float:
    time.sleep(10)
    before = process.cpu_seconds(agent.pid)
    time.sleep(REST_SECONDS)
    used = 100 * (process.cpu_seconds(agent.pid) - before) / REST_SECONDS
    process.figure(f"CPU at rest {name}, whole agent", used, "% of a core")
    return used


def _first_refusal(tailnet: Tailnet) -> float:
    """Return how long it takes until nobody is let in."""
    began = time.perf_counter()

    def is_refused() -> bool:
        try:
            return tailnet.public.ask("GET", WEBHOOK).status == 503
        except OSError:
            return True

    _until(is_refused)
    return time.perf_counter() - began


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
