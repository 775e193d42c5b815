"""The stack of compose/ on a machine of its own: a systemd with its journal and Debian's Docker Engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from tests import stack_images
from tests.neighbours import cache, compose, docker, machine
from tests.neighbours.loki import Line, lines_of
from tests.neighbours.machine import Machine
from tests.waiting import until

ROOT = Path(__file__).parents[1]
HERE = "/opt/homelab"
SERVICES = "postgres loki promtail"
"""Without Grafana, of which there is no image (`stack_images`)."""
CONFIG = "/etc/homelab-agent/config.toml"
HOST = "testhost"
"""What the agent calls the machine, which has another name of its own."""
STACKS = f'url = "postgresql://homelab@127.0.0.1:5432/homelab"\npassword = "file:{HERE}/compose/secrets/for_the_agent"'
"""What `make up` prints for an agent that uses the stack's PostgreSQL."""
PLUGIN = "/usr/local/lib/docker/cli-plugins/docker-compose"


class Stack:
    """The stack's files at `HERE` on a machine, and who asks it."""

    def __init__(self, on: Machine) -> None:
        self.machine = on
        self.said = ""
        """What the first `make up` has said."""

    def prepare(self, services: str) -> None:
        """Start Docker with Compose, import these services' images, and put compose/ and the Makefile there."""
        plugin = self.machine.path(PLUGIN)
        plugin.parent.mkdir(parents=True, exist_ok=True)
        plugin.symlink_to(compose.program())
        self.machine.systemctl("start", "docker.service")
        for service in services.split():
            stack_images.MADE[service](self.docker)
        there = self.machine.path(HERE)
        own = shutil.ignore_patterns(".env", "secrets", "__pycache__")
        shutil.copytree(ROOT / "compose", there / "compose", ignore=own)
        for name in ("provisioning", "dashboards"):  # of Grafana, which is mounted and not started
            (there / "compose/grafana" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "Makefile", there)
        said = {**stack_images.ENVIRONMENT, "HOMELAB_CHECK_EVERY": "1s", "HOMELAB_LOKI_MEMORY_MB": "600"}
        (there / "compose/.env").write_text("".join(f"{name}={value}\n" for name, value in said.items()))

    def docker(self, *words: str, seconds: float = 60, given: IO[bytes] | None = None) -> str:
        """Run Debian's `docker` on the machine's engine and return what it printed; fail when it fails."""
        done = subprocess.run(
            ["/usr/bin/docker", *words],
            env={"PATH": docker.PROGRAMS, "DOCKER_HOST": f"unix://{self.machine.path('/run/docker.sock')}"},
            stdin=given or subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def make(self, target: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile there, as an operator does; return how it ended and what it said."""
        words = [f"{name}={value}" for name, value in given.items()]
        return self.machine.run("make", "-C", HERE, target, *words, seconds=110)

    def up(self, services: str = SERVICES, **given: str) -> str:
        """Bring up what can be had of it, and return what was said."""
        done = self.make("up", SERVICE=services, **given)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    def compose(self, *words: str) -> str:
        """Run `docker compose` beside the file."""
        return self.machine("env", "-C", f"{HERE}/compose", "docker", "compose", *words, seconds=110)

    def inspect(self, service: str) -> dict[str, Any]:
        """Return all that Docker tells of a service's container."""
        found: dict[str, Any] = json.loads(self.docker("inspect", f"homelab-{service}-1"))[0]
        return found

    def is_healthy(self, service: str) -> bool:
        """Whether its own check says so."""
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")

    def kill(self, service: str) -> None:
        """End its first process at once, as the kernel does for want of memory; Docker's policy does the rest."""
        before = self.inspect(service)["State"]["Pid"]
        self.machine("kill", "-KILL", str(before))
        until(lambda: self.inspect(service)["State"]["Pid"] not in {0, before}, f"{service} is started again")
        until(lambda: self.is_healthy(service), f"{service} is well again", seconds=60)

    def secret(self, name: str) -> str:
        """Return what is in one of the files."""
        return self.machine.path(f"{HERE}/compose/secrets/{name}").read_text()

    def sql(self, statement: str, *, role: str = "homelab") -> str:
        """Return what a statement gives to a role that logs in with its password, by the port of this host."""
        done = self.psql(statement, role=role)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def psql(self, statement: str, *, role: str, database: str = "homelab") -> subprocess.CompletedProcess[str]:
        """Run it, and return how that ended."""
        name = {"homelab": "agent_database_password", "grafana": "grafana_database_password"}[role]
        url = f"postgresql://{role}@127.0.0.1:5432/{database}"
        program = "/usr/lib/postgresql/15/bin/psql"
        return self.machine.run("env", f"PGPASSWORD={self.secret(name)}", program, "-XAtq", "-c", statement, url)

    def loki(self, path: str, **words: object) -> Any:
        """Ask Loki by the port of this host; raises AssertionError where it does not answer."""
        url = f"http://127.0.0.1:3100/loki/api/v1/{path}?{urlencode(words)}"
        return json.loads(self.machine(python(), "-c", _ASK, url))

    def lines(self, query: str) -> list[Line]:
        """Return what LogQL finds in the last hour, oldest first."""
        return lines_of(self.loki("query_range", query=query, since="1h", limit=5000, direction="forward"))

    def texts(self, query: str) -> set[str]:
        """Return all different texts of the last hour's lines that a query finds, however many."""
        found: set[str] = set()
        start = time.time_ns() - 3600 * 10**9
        while True:
            some = lines_of(self.loki("query_range", query=query, start=start, limit=5000, direction="forward"))
            found |= {one.text for one in some}
            if len(some) < 5000:
                return found
            start = some[-1].nanoseconds

    def count(self, query: str) -> int:
        """Return how many lines of the last hour a query finds."""
        found = self.loki("query", query=f"sum(count_over_time({query} [1h]))")["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def until_found(self, query: str, *, seconds: float = 20) -> Line:
        """Wait until a query finds a line, and return the newest."""
        return until(lambda: self.lines(query)[-1:], f"Loki has {query}", seconds=seconds)[0]

    def agent(self, *words: str, seconds: int = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the agent's on the machine, from the checkout."""
        return self.machine.run("env", "-C", str(ROOT), *_program(), *words, seconds=seconds)

    def write_agent(self, *, database: str = STACKS, more: str = "", host: str = HOST, user: str = "root") -> None:
        """Write the agent's configuration, its unit, and the command."""
        command = self.machine.path("/usr/local/bin/homelab-agent")
        command.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {" ".join(_program())} "$@"\n')
        command.chmod(0o755)
        path = self.machine.path(CONFIG)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'[agent]\nhost = "{host}"\nstate = "/var/lib/homelab-agent"\n[database]\n{database}\n'
            f'[metrics]\ninterval = 1\n[gate]\nfunnel = true\nsocket = "/nowhere"\n{more}\n'
        )
        self.machine.install(
            "homelab-agent.service",
            f"[Service]\nUser={user}\nStateDirectory=homelab-agent\nWorkingDirectory={ROOT}\n"
            "Environment=PYTHONDONTWRITEBYTECODE=1\n"
            f"ExecStart={' '.join(_program())} run\n",
        )


_ASK = "import sys, urllib.request as it; print(it.urlopen(sys.argv[1], timeout=20).read().decode())"


def python() -> str:
    """Return the program that runs the checkout."""
    return os.path.abspath(ROOT / ".venv/bin/python")  # noqa: PTH100 - a link, which is not to be followed


def _program() -> list[str]:
    return [python(), "-B", "-m", "homelab_agent", "--config", CONFIG]


@contextmanager
def running(services: str = SERVICES) -> Iterator[Stack]:
    """Give a machine with these services' images, on which `make up` can be run."""
    docker.obtain()
    with machine.running(disk_megabytes=4096, shared=[ROOT, cache.directory()]) as on:
        stack = Stack(on)
        stack.prepare(services)
        yield stack
