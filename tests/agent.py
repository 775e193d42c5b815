"""The real program as a child of a test: with a configuration of the test's own, killed for real."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from homelab_agent.core import process_table
from homelab_agent.core.client import Client
from tests.neighbours.network import Network
from tests.neighbours.ports import free_port
from tests.neighbours.server import Server
from tests.waiting import until

START_SECONDS = 40.0
DATABASE_SECONDS = 60.0
STOP_SECONDS = 25.0


class Agent(Server):
    """One agent in its own directory: `write` its configuration, `start` it, break and end it as any server.

    What is put into `env` is in its environment and in that of commands; `argv` may be wrapped before the start.
    """

    env: dict[str, str]

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.state = directory / "state"
        self.config = directory / "config.toml"
        self.port = free_port()
        self._network: Network | None = None
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HOMELAB_AGENT")}
        super().__init__(
            "homelab-agent",
            self.command("run"),
            ready=self.ready,
            log=directory / "agent.log",
            env={**kept, "PYTHONUNBUFFERED": "1"},
        )
        self.write()

    def write(self, more: str = "", *, database: str = "embedded", interval: int = 1) -> None:
        """Write the configuration: this test's port and directory, and `more` sections."""
        self.config.write_text(
            f'[agent]\nhost = "testhost"\nstate = "{self.state}"\n\n[web]\nlisten = "127.0.0.1:{self.port}"\n\n'
            f'[database]\nurl = "{database}"\nship_every = 1.0\n\n[metrics]\ninterval = {interval}\n\n{more}\n'
        )

    def enter(self, network: Network) -> None:
        """Be in this network from the next start on; commands stay outside, as they reach the agent over its socket."""
        self.argv = network.inside(*self.argv)
        self._network = network

    def command(self, *words: str) -> list[str]:
        """Return the command line of `homelab-agent` with this configuration."""
        return [sys.executable, "-m", "homelab_agent", "--config", str(self.config), *words]

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=seconds, env=self.env, check=False
        )

    def start(self, *, seconds: float = START_SECONDS) -> Self:
        """Start the agent and wait until the page answers."""
        return super().start(seconds=seconds)

    def start_with_database(self) -> Self:
        """Start the agent and wait until it has its database, with the schema it needs."""
        self.start()
        until(self.connected, "the agent has its database", seconds=DATABASE_SECONDS)
        return self

    def ready(self) -> bool:
        """Return whether the page answers."""
        try:
            return self.get("/api/health/live")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def until(self, check: str, state: str, *, seconds: float = DATABASE_SECONDS) -> Mapping[str, Any]:
        """Wait until a check stands so, e.g. `until("database.connection", "failed")`; return its finding."""

        def found() -> Mapping[str, Any] | None:
            finding = self.finding(check)
            return finding if finding["state"] == state else None

        return until(found, f"{check} is {state}", seconds=seconds) or {}

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[int, bytes]:
        """Ask the agent over TCP; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            if self._network is not None:
                connection.sock = self._network.connect("127.0.0.1", self.port)
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """Ask the agent over its socket."""
        return Client(self.state / "agent.sock").get(path)

    def finding(self, check: str) -> Mapping[str, Any]:
        """Return one check's present finding."""
        status, body = self.get("/api/health")
        assert status in {200, 503}
        return next(found for found in json.loads(body)["findings"] if found["check"] == check)

    def connected(self) -> bool:
        """Return whether the agent has its database, with the schema it needs."""
        return all(self.finding(f"database.{check}")["state"] == "ok" for check in ("connection", "schema"))

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Ask the agent's database, as a person would with `homelab-agent db psql`."""
        rows = f"SELECT coalesce(json_agg(answer), '[]') FROM ({query}) AS answer"
        done = self.run("db", "psql", "-qAtX", "-c", rows)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def close(self, *, seconds: float = STOP_SECONDS) -> None:
        """End the agent and everything it started, whatever state they are in."""
        super().close(seconds=seconds)
        until(lambda: not self._root_half(), "the root half has given back what it held, and ended")
        until(lambda: not self._end_postgres(), "nothing of PostgreSQL is left")

    def _root_half(self) -> list[int]:
        """Return the root half of a killed agent: it ends by itself, at the latest once it has come up."""
        words = [os.fsencode(self.config), b"privileged", b"serve"]

        def is_it(entry: Path) -> bool:
            given = (entry / "cmdline").read_bytes().split(b"\0")
            return all(word in given for word in words)

        found = process_table.living(is_it)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return found

    def _end_postgres(self) -> list[int]:
        """Return the processes that a killed agent left behind; its initdb's, too, that no lock file names yet."""
        place = os.fsencode(self.state / "postgres")

        def is_there(entry: Path) -> bool:
            variables = (entry / "environ").read_bytes()
            return os.fsencode((entry / "cwd").readlink()).startswith(place) or b"PGDATA=" + place in variables

        left = process_table.living(is_there)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
                os.kill(pid, signal.SIGCONT)
        return left


@contextmanager
def running(directory: Path) -> Iterator[Agent]:
    """Give an agent that is ended when the test is over, and print its log when the test failed."""
    with Agent(directory).lasting() as agent:
        yield agent
