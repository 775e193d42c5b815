"""A day's work of the agent with all that it can do configured, in less time: how large it is, and whether it grows.

It samples each second instead of each ten, and is given the pushes, scrapes, visits, readings, backups, troubles and
openings of a day meanwhile, evenly spread; 144 minutes are a day of samples, too.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import process
from benchmarks.webhooks import SECRET, body, signature
from homelab_agent.config import keys
from tests import agent as agents
from tests.agent import Agent
from tests.gate_home import WEBHOOK
from tests.neighbours import docker, openbao
from tests.neighbours import tailnet as neighbour
from tests.neighbours.http_stand_in import Asked, Reply
from tests.neighbours.network import Network
from tests.neighbours.ntfy import Ntfy
from tests.neighbours.tailnet import Tailnet
from tests.working_copy import WorkingCopy

DAY: Mapping[str, int] = {
    "scrape": 5760,
    "visit": 500,
    "push": 200,
    "visitor": 200,
    "trouble": 24,
    "opening": 12,
    "reading": 2,
    "backup": 1,
    "command": 50,
}
"""How often what is done in a day; it samples, looks at secrets and its door, and calls its heartbeat by itself."""
CHANGES_MEGABYTES = 100
LOOKS = 12
"""How often its memory is looked at."""


class Outside(Ntfy):
    """All that it asks and tells over HTTP: ntfy, a heartbeat, a feed that has something new each time, and a page."""

    def __init__(self, network: Network) -> None:
        super().__init__(network=network)
        self.is_well = True
        self._numbers = itertools.count()

    def answer(self, asked: Asked) -> Reply:
        """Answer as each of them does."""
        if asked.path == "/feed.json":
            return Reply(200, self._feed(), {"Content-Type": "application/feed+json"})
        if asked.path == "/page":
            return Reply(200 if self.is_well else 500)
        if asked.path.startswith("/ping"):
            return Reply(200, b"OK")
        return super().answer(asked)

    def _feed(self) -> bytes:
        now = datetime.now(UTC) - timedelta(hours=1)
        items = [
            {"id": str(number), "url": f"https://example.org/{number}", "title": f"Number {number}"}
            | {"date_published": now.isoformat(), "content_text": "word " * 500}
            for number in (next(self._numbers) for _ in range(100))
        ]
        return json.dumps({"version": "https://jsonfeed.org/version/1.1", "title": "Links", "items": items}).encode()


class Day:
    """The agent, and each kind of work."""

    def __init__(self, stack: ExitStack, directory: Path, tailnet: Tailnet) -> None:
        self.tailnet = tailnet
        self.directory = directory
        self.outside = Outside(tailnet.network)
        stack.enter_context(self.outside.lasting())
        self.agent: Agent = stack.enter_context(agents.running(directory / "agent"))
        self.agent.env["MALLOC_ARENA_MAX"] = "2"  # as its unit has it
        self.agent.enter(tailnet.network)
        (directory / "copy").mkdir()
        self.copy = WorkingCopy(directory / "copy", {"site/page": "0\n"})
        self.kept = directory / "kept"
        self.kept.mkdir()
        self._number = itertools.count(1)
        self.agent.write(self._configuration(stack))

    def _configuration(self, stack: ExitStack) -> str:
        bao = stack.enter_context(openbao.running())
        bao.put("homelab/hook", secret=SECRET)
        web = f"http://127.0.0.1:{self.outside.port}"
        host = self.tailnet.homelab
        repository = {
            "name": "r0", "full_name": "octo/r0", "id": 1000, "directory": str(self.copy.path), "allow_file": True,
            "secret": [{"name": "main", "secret": "openbao:secret/homelab/hook#secret"}],
            "action": [{"name": "say", "paths": ["site/**"], "kind": "command", "command": ["/bin/echo", "deployed"]}],
        }  # fmt: skip
        sections: Mapping[str, Mapping[str, object]] = {
            "secrets": {
                "url": f"unix:{bao.socket}",
                "role_id": bao.role_id,
                "secret_id": self._secret("secret-id", bao.secret_id),
                "poll": 5,
            },
            "gate": {"funnel": True, "socket": str(host.socket), "program": str(host.program)},
            "gitops": {"poll": 60, "repository": [repository]},
            "reading": {"source": [{"name": "links", "kind": "feed", "url": f"{web}/feed.json"}]},
            "backup": {
                "docker": str(stack.enter_context(docker.running()).socket),
                "directory": str(self.directory / "copies"),
                "records": str(self.directory / "records"),
                "set": [{"name": "kept", "paths": [str(self.kept)]}],
            },
            "notify": {
                "grace": 1,
                "target": [{"name": "phone", "url": self._secret("phone", self.outside.url())}],
                "heartbeat": {"url": self._secret("heartbeat", f"{web}/ping/agent"), "every": 6},
            },
        }
        probe = {"name": "page", "target": f"{web}/page", "every": 5}
        lines = [f"probe = {keys.toml([probe])}"]  # goes on with [metrics]
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{key} = {keys.toml(value)}" for key, value in values.items())]
        return "\n".join(lines)

    def _secret(self, name: str, value: str) -> str:
        path = self.directory / f"secret-{name}"
        path.touch(0o600)
        path.write_text(value)
        return f"file:{path}"

    def scrape(self) -> None:
        """Prometheus asks."""
        assert self.agent.get("/metrics")[0] == 200

    def visit(self) -> None:
        """Somebody looks at the page."""
        self.agent.get("/")
        self.agent.get("/api/health")

    def push(self) -> None:
        """Somebody pushes, and the forge says so."""
        after = self.copy.push({"site/page": f"{next(self._number)}\n"})
        content = body(0, after=after)
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": signature(content),
        }
        answer = self.tailnet.loopback.ask("POST", WEBHOOK, port=self.agent.port, headers=headers, body=content)
        assert answer.status == 202, answer

    def visitor(self) -> None:
        """Somebody from the internet tries the door."""
        try:
            self.tailnet.public.ask("POST", "/api/webhook/gitops", body=b"{}")
        except OSError:
            return

    def trouble(self) -> None:
        """A page does not answer as it should, until the next time."""
        self.outside.is_well = not self.outside.is_well

    def opening(self) -> None:
        """The door is shut by hand, and left to itself again."""
        self._said("gate", "close", "--reason", "the benchmark's")
        self._said("gate", "auto")

    def reading(self) -> None:
        """Both of a day's syncs; what the feed holds is new."""
        self._said("reading", "sync")

    def backup(self) -> None:
        """What is kept has changed, and is backed up."""
        with (self.kept / f"{next(self._number)}").open("wb") as file:
            for _ in range(CHANGES_MEGABYTES):
                file.write(os.urandom(1 << 20))
        self._said("backup", "run", "kept")

    def command(self) -> None:
        """Somebody asks what happened."""
        self._said("timeline")
        self._said("gate", "why")

    def _said(self, *words: str) -> None:
        done = self.agent.run(*words, seconds=300)
        if done.returncode != 0:
            print(f"homelab-agent {' '.join(words)}: {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}")


def run(*, minutes: float) -> None:
    """Work for `minutes`; print how large it was after a twelfth of that, in the end, and at most."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homelab-agent-bench-")))
        directory.chmod(0o755)
        day = Day(stack, directory, stack.enter_context(neighbour.running()))
        day.agent.start_with_database()
        seconds = 60 * minutes
        due = sorted((seconds * (number + 0.5) / count, kind) for kind, count in DAY.items() for number in range(count))
        looks = [seconds * (number + 1) / LOOKS for number in range(LOOKS)]
        began, found = time.monotonic(), list[float]()
        for at, kind in sorted([*due, *((look, "") for look in looks)]):
            time.sleep(max(0.0, began + at - time.monotonic()))
            if kind:
                getattr(day, kind)()
                continue
            found.append(process.rss_megabytes(day.agent.pid))
            print(f"  after {at / 60:.1f} min: {found[-1]:.1f} MB", flush=True)
        _print(day, found, minutes)


def _print(day: Day, found: Sequence[float], minutes: float) -> None:
    told = len(day.outside.messages)
    openings = len(day.agent.json("/api/gate/history")["openings"])
    samples = day.agent.sql("SELECT count(*) AS rows FROM load")[0]["rows"]
    note = f"{samples} samples, {told} messages, {openings} openings"
    process.figure(
        f"everything configured, a day's work in {minutes:g} min: RSS", found[-1], "MB", bound=100, note=note
    )
    process.figure("the same: most", process.peak_megabytes(day.agent.pid), "MB")
    process.figure("the same: grown since a twelfth of it", found[-1] - found[0], "MB", bound=5)
