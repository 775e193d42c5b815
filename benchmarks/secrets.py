"""Secrets from OpenBao: a value from memory and from the server, a new version until it is used, what rest costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import process
from homelab_agent.config import keys
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets import openbao
from homelab_agent.secrets.settings import SecretsSettings
from tests import agent as agents
from tests.agent import Agent
from tests.neighbours import openbao as neighbour
from tests.neighbours.openbao import OpenBao
from tests.waiting import until

POLL_SECONDS = 5
READS, GETS, ROTATIONS, LOOKS = 50, 200_000, 10, 6


def run(*, minutes: float) -> None:
    """Measure with a real OpenBao over its unix socket."""
    del minutes
    with tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name, neighbour.running() as server:
        directory = Path(name)
        directory.chmod(0o755)
        secret_id = directory / "secret-id"
        secret_id.touch(0o600)
        secret_id.write_text(server.secret_id)
        for number in range(READS):
            server.put(f"homelab/path{number}", value=f"value number {number}")
        section = {
            "url": f"unix:{server.socket}",
            "role_id": server.role_id,
            "secret_id": f"file:{secret_id}",
            "poll": POLL_SECONDS,
        }
        asyncio.run(_resolve(SecretsSettings.model_validate(section), directory))
        with agents.running(directory / "agent") as agent:
            _rotate(agent, server, section)
    _import()


async def _resolve(settings: SecretsSettings, directory: Path) -> None:
    """Print how long a value takes, the first time and from memory."""
    clock = SystemClock()
    secrets = Secrets(Redactor(), clock)
    bao = openbao.add(settings, secrets, directory, clock)
    assert bao is not None
    took = []
    for number in range(READS):
        secret = secrets.find(f"openbao:secret/homelab/path{number}#value")
        began = time.perf_counter()
        await secret.refresh()
        took.append(1000 * (time.perf_counter() - began))
    process.figure("the very first read, with log-in and library", took[0], "ms")
    process.figure("first read of a path, median", statistics.median(took[1:]), "ms", bound=20)
    began = time.perf_counter()
    for _ in range(GETS):
        secret.get()
    process.figure("a value from memory", 1e6 * (time.perf_counter() - began) / GETS, "us", bound=5)
    await bao.client.close()


def _rotate(agent: Agent, server: OpenBao, section: dict[str, object]) -> None:
    """Print how long a new version takes until the agent uses it, and what is asked at rest."""
    entry = {
        "name": "site",
        "full_name": "octo/site",
        "directory": str(agent.directory),
        "secret": [{"name": "main", "secret": "openbao:secret/homelab/path0#value"}],
    }
    lines = "".join(f"{key} = {keys.toml(value)}\n" for key, value in section.items())
    agent.write(f"[secrets]\n{lines}[gitops]\npoll = 0\nrepository = [{keys.toml(entry)}]\n", interval=10)
    agent.start()
    until(lambda: _version(agent) == "1", "the secret is read", seconds=60)
    before = server.reads("secret/metadata/homelab/path0"), server.reads("secret/data/homelab/path0")
    time.sleep(LOOKS * POLL_SECONDS)
    asked = server.reads("secret/metadata/homelab/path0") - before[0]
    process.figure("at rest: metadata read per path and poll", asked / LOOKS, "", bound=1.4)
    process.figure("at rest: values read", server.reads("secret/data/homelab/path0") - before[1], "", bound=0)
    took = []
    for number in range(ROTATIONS):
        wanted = str(server.put("homelab/path0", value=f"a newer value, number {number}"))
        began = time.perf_counter()
        until(lambda version=wanted: _version(agent) == version, "the new version is used", seconds=60)  # type: ignore[misc]
        took.append(time.perf_counter() - began)
        time.sleep(number * POLL_SECONDS / ROTATIONS)
    process.figure(f"a new version until it is used, worst of {ROTATIONS}", max(took), "s", bound=POLL_SECONDS + 1)


def _version(agent: Agent) -> str:
    found = agent.json("/api/secrets")["secrets"]
    return str(next(one["version"] for one in found if one["source"] == "openbao"))


def _import() -> None:
    """Print what OpenBao's client costs an agent that uses it."""
    script = (
        "import resource, sys\n"
        "from homelab_agent.agent import run\n"
        "page = resource.getpagesize()\n"
        "rss = lambda: int(open('/proc/self/statm').read().split()[1]) * page / 2**20\n"
        "before = rss()\n"
        "from homelab_agent.secrets import session\n"
        "print(rss() - before)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    process.figure("memory of the client and hvac", float(said), "MB")
