"""The real program as a child of a test: with a configuration of the test's own, killed for real."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from homelab_agent.core.client import Client
from tests.neighbours.ports import free_port
from tests.processes import is_alive

T = TypeVar("T")
START_SECONDS = 40.0
DATABASE_SECONDS = 60.0


def until(condition: Callable[[], T], what: str, *, seconds: float = 20.0) -> T:
    """Return the first true answer of `condition`; fail when there is none within `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


class Agent:
    """One agent in its own directory; `write` its configuration, `start` it, end it as you like."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.config = directory / "config.toml"
        self.log = directory / "agent.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.env: dict[str, str] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self, more: str = "", *, database: str = "embedded", interval: int = 1) -> None:
        """Write the configuration: this test's port and directory, and `more` sections."""
        self.config.write_text(
            f'[agent]\nhost = "testhost"\nstate = "{self.state}"\n\n[web]\nlisten = "127.0.0.1:{self.port}"\n\n'
            f'[database]\nurl = "{database}"\nship_every = 1.0\n\n[metrics]\ninterval = {interval}\n\n{more}\n'
        )

    def command(self, *words: str) -> list[str]:
        """Return the command line of `homelab-agent` with this configuration."""
        return [sys.executable, "-m", "homelab_agent", "--config", str(self.config), *words]

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=seconds, env=self._env(), check=False
        )

    def spawn(self) -> None:
        """Start the agent and do not wait for it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run"), stdout=log, stderr=log, env=self._env(), start_new_session=True
            )

    def start(self) -> Agent:
        """Start the agent and wait until it is ready."""
        self.spawn()
        until(self.ready, "the agent is ready", seconds=START_SECONDS)
        return self

    def start_with_database(self) -> Agent:
        """Start the agent and wait until it has its database, with the schema it needs."""
        self.start()
        until(self.connected, "the agent has its database", seconds=DATABASE_SECONDS)
        return self

    def ready(self) -> bool:
        """Return whether the page answers; fail when the process has ended."""
        assert self.process is not None
        assert self.process.poll() is None, f"the agent ended with {self.process.returncode}:\n{self.tail()}"
        try:
            return self.get("/api/health/live")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[int, bytes]:
        """Ask the agent over TCP; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
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

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def stop(self) -> int:
        """End it in order; return the exit code."""
        return self.kill(signal.SIGTERM)

    def tail(self, characters: int = 4000) -> str:
        """Return the end of what the agent printed."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def close(self) -> None:
        """End the agent and everything it started, whatever state they are in."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(25)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for pidfile in self.state.glob("postgres/**/postmaster.pid"):
            self._end_postgres(int(pidfile.read_text().split()[0]))

    def _env(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HOMELAB_AGENT")}
        return {**kept, "PYTHONUNBUFFERED": "1", **self.env}

    @staticmethod
    def _end_postgres(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGQUIT)
        except ProcessLookupError:
            return
        until(lambda: not is_alive(pid), f"postgres {pid} has ended")


@contextmanager
def running(directory: Path) -> Iterator[Agent]:
    """Give an agent that is ended when the test is over, and print its log when the test failed."""
    agent = Agent(directory)
    try:
        yield agent
    except BaseException:
        print(f"--- {agent.log}\n{agent.tail()}")
        raise
    finally:
        agent.close()
