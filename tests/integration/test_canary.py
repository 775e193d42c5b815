"""Secrets planted in every section, and what the agent leaves behind searched for them: there is none to be found."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homelab_agent.config import keys
from tests.agent import Agent
from tests.asked_database import without_password
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub
from tests.neighbours.openbao import OpenBao
from tests.neighbours.postgres import Postgres
from tests.neighbours.webhook import Hook
from tests.processes import family
from tests.waiting import until

HOOK, NEW_HOOK = "canary-of-the-webhook-1", "canary-of-the-webhook-2"
TOLD_BY_AN_ACTION = "canary-that-an-action-prints"
STATUS_TOKEN = "canary-of-the-status-token"
PATHS = (
    "/", "/api/health", "/api/jobs", "/api/runs", "/api/secrets", "/api/gitops", "/api/gitops/deliveries",
    "/api/gitops/site/moves", "/api/gitops/site/plan", "/api/tokens", "/metrics",
)  # fmt: skip


class Nest:
    """An agent with a secret in each place that takes one."""

    def __init__(self, agent: Agent, remote: GitRemote, openbao: OpenBao, postgres: Postgres, directory: Path) -> None:
        self.agent, self.remote, self.openbao, self.postgres = agent, remote, openbao, postgres
        self.directory = directory
        remote.commit({"README": "read me\n"})
        remote.clone(directory / "working-copy", "http")
        openbao.put("homelab/hook", secret=HOOK)
        openbao.put("homelab/postgres", password=postgres.password)
        openbao.put("homelab/remote", token=remote.token)
        agent.env["CANARY_PRINTED"] = TOLD_BY_AN_ACTION
        self.canaries = {
            "secret_id": openbao.secret_id,
            "hook": HOOK,
            "the next hook": NEW_HOOK,
            "password": postgres.password,
            "token": remote.token,
            "status token": STATUS_TOKEN,
            "printed": TOLD_BY_AN_ACTION,
        }
        self._write()

    def file(self, name: str, value: str) -> str:
        """Return the reference to a file with this value."""
        path = self.directory / name
        path.touch(0o600)
        path.write_text(value)
        return f"file:{path}"

    def _write(self) -> None:
        secrets = {
            "url": self.openbao.url,
            "role_id": self.openbao.role_id,
            "secret_id": self.file("secret-id", self.openbao.secret_id),
            "poll": 1,
        }
        entry: dict[str, Any] = {
            "name": "site",
            "full_name": self.remote.full_name,
            "id": self.remote.repository_id,
            "directory": str(self.directory / "working-copy"),
            "token": "openbao:secret/homelab/remote#token",
            "secret": [
                {"name": "main", "secret": "openbao:secret/homelab/hook#secret"},
                {"name": "printed", "secret": "env:CANARY_PRINTED"},
            ],
            "action": [
                {
                    "name": "tells",
                    "paths": ["**"],
                    "command": ["sh", "-c", f"cat {self.directory}/printed; echo it goes on; exit 3"],
                }
            ],
        }
        self.file("printed", TOLD_BY_AN_ACTION)
        self.agent.write(
            "[secrets]\n"
            + "".join(f"{key} = {keys.toml(value)}\n" for key, value in secrets.items())
            + f'[gitops]\npoll = 0\nstatus_token = "{STATUS_TOKEN}"\napi_url = "http://127.0.0.1:9"\n'
            + f"repository = [{keys.toml(entry)}]\n",
            database=without_password(self.postgres.url) + '"\npassword = "openbao:secret/homelab/postgres#password',
        )

    def found_in(self, where: str, content: bytes) -> list[str]:
        """Return which canaries are in `content`, in any of the spellings that are read without effort."""
        return [
            f"{name} in {where}"
            for name, value in self.canaries.items()
            for spelling in (value.encode(), quote(value, safe="").encode(), base64.b64encode(value.encode()))
            if spelling in content
        ]


@pytest.fixture
def nest(agent: Agent, git_remote: GitRemote, openbao: OpenBao, postgres: Postgres, open_directory: Path) -> Nest:
    return Nest(agent, git_remote, openbao, postgres, open_directory)


class Children:
    """Looks at the arguments and variables of whatever the agent starts, as often as it can."""

    def __init__(self, nest: Nest) -> None:
        self.seen: set[str] = set()
        self.found: set[str] = set()
        self._nest = nest
        self._ended = threading.Event()

    def _look(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                ours = Path(f"/proc/{self._nest.agent.pid}/cmdline").read_bytes()
                for pid in family(self._nest.agent.pid)[1:]:
                    with suppress(OSError):
                        place = Path(f"/proc/{pid}")
                        words = (place / "cmdline").read_bytes()
                        if words == ours:  # a fork of the agent's, in the instant before it becomes another program
                            continue
                        self.seen.add(words.split(b"\0")[0].decode(errors="replace"))
                        self.found |= set(self._nest.found_in(str(words), words + (place / "environ").read_bytes()))

    @contextmanager
    def watched(self) -> Iterator[None]:
        watching = threading.Thread(target=self._look)
        watching.start()
        try:
            yield
        finally:
            self._ended.set()
            watching.join()


def live(nest: Nest, github: GitHub) -> None:
    """Let the agent do, well and badly, what it does with secrets."""

    def hook(secret: str) -> Hook:
        return github.hook(nest.remote, f"http://127.0.0.1:{nest.agent.port}/api/webhook/gitops", secret)

    until(lambda: hook(HOOK).ping().status == 200, "the secret is known")
    nest.remote.commit({"README": "two\n"})
    assert hook(HOOK).push().status == 202
    assert hook("not the secret of anybody").push().status == 401
    nest.openbao.put("homelab/hook", secret=NEW_HOOK)
    until(lambda: hook(NEW_HOOK).push().status == 202, "the new secret is taken over")
    wrong = "canary-of-a-wrong-password"
    nest.canaries["wrong password"] = wrong
    nest.openbao.put("homelab/postgres", password=wrong)
    until(lambda: "secret.refused" in nest.agent.log.read_text(), "the wrong password is refused")
    until(lambda: _closed(nest), "every delivery has its verdict", seconds=60)
    nest.postgres.disconnect()
    nest.openbao.seal()
    nest.agent.until("secrets.openbao", "degraded")


def _closed(nest: Nest) -> bool:
    found = nest.agent.json("/api/gitops/deliveries?limit=100")["deliveries"]
    return bool(found) and all(attempt["verdict"] for one in found for attempt in one["attempts"])


def answers(agent: Agent) -> Iterator[tuple[str, bytes]]:
    """Yield what the agent answers on its socket to every question that there is, and to those that follow of it."""
    runs = [f"/api/runs/{run['id']}" for run in agent.json("/api/runs")["runs"]]
    deliveries = agent.json("/api/gitops/deliveries")["deliveries"]
    guids = [f"/api/gitops/deliveries/{one['guid']}{more}" for one in deliveries for more in ("", "/payload")]
    for path in (*PATHS, *runs, *(f"{run}/events" for run in runs), *guids):
        yield path, ask(agent, path)


def ask(agent: Agent, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    import socket

    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(agent.state / "agent.sock"))
    connection.request("GET", path, headers=dict(headers or {}))
    answer = connection.getresponse()
    try:
        body = answer.read()
    finally:
        connection.close()
    assert answer.status != 404, path
    return body


def tables(agent: Agent) -> bytes:
    """Return every row of every table, as text."""
    names = agent.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'homelab'")
    rows = [agent.sql(f"SELECT t::text FROM homelab.{one['tablename']} t") for one in names]
    assert any(rows)
    return json.dumps(rows).encode()


@pytest.mark.timeout(300)
def test_no_secret_is_in_anything_that_the_agent_leaves_behind(nest: Nest, github: GitHub) -> None:
    children = Children(nest)
    nest.agent.start_with_database()
    with children.watched():
        live(nest, github)
    assert any("git" in name for name in children.seen), children.seen
    found = sorted(children.found)
    for path, body in answers(nest.agent):
        found += nest.found_in(path, body)
    nest.openbao.unseal()
    nest.openbao.put("homelab/postgres", password=nest.postgres.password)
    nest.agent.until("secrets.openbao", "ok")
    for words in (
        ["status"], ["doctor"], ["doctor", "--json"], ["secrets", "list"], ["config", "show"], ["config", "check"],
        ["jobs"], ["gitops", "status"], ["gitops", "plan", "site"], ["deliveries", "list"], ["db", "info"],
        ["--debug", "gitops", "sync", "nowhere"],
    ):  # fmt: skip
        done = nest.agent.run(*words)
        found += nest.found_in(" ".join(words), (done.stdout + done.stderr).encode())
    found += nest.found_in("PostgreSQL", tables(nest.agent))
    nest.agent.close()
    assert "it goes on" in nest.agent.log.read_text() or b"it goes on" in tables_of_state(nest.agent.state)
    for file in [nest.agent.log, *(path for path in nest.agent.state.rglob("*") if path.is_file())]:
        found += nest.found_in(str(file), file.read_bytes())
    assert not found


def tables_of_state(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in state.glob("state.db*"))
