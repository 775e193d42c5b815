"""Deliveries: how many are taken, refused and brought live, beside Debian's `webhook` on the same pushes.

`webhook` spawns a program for each delivery that it takes; the agent commits each to disk, then syncs once for many.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import process
from homelab_agent.config import keys
from tests import agent as agents
from tests.neighbours import git, ports
from tests.waiting import until
from tests.working_copy import WorkingCopy

SECRET = "It's a Secret to Everybody"
CONNECTIONS, SECONDS, ROUNDS = 16, 2, 5
REPOSITORIES, PUSHES = 10, 200
BURST, PACED_RATE, PACED_SECONDS = 5000, 50, 20
SCRIPT = Path(__file__).parents[1] / "deploy/gitops_sync.sh"
LUA = """
local bodies, signatures, number = {{}}, {{}}, 0
for line in io.lines("{file}") do
    local signature, body = line:match("^(%S+) (.*)$")
    bodies[#bodies + 1], signatures[#signatures + 1] = body, signature
end
request = function()
    number = number + 1
    local at = (number - 1) % #bodies + 1
    wrk.headers["X-GitHub-Delivery"] = "{prefix}-" .. number
    wrk.headers["X-Hub-Signature-256"] = signatures[at]
    return wrk.format("POST", "{path}", wrk.headers, bodies[at])
end
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-GitHub-Event"] = "push"
"""


@dataclass(frozen=True, slots=True)
class Receiver:
    """One of the two: where it listens and its process."""

    name: str
    port: int
    path: str
    pid: int


def run(*, minutes: float) -> None:
    """Measure both, in turn."""
    del minutes
    if missing := [name for name in ("webhook", "wrk") if shutil.which(name) is None]:
        print(f"not here: apt-get install {' '.join(missing)}")
        return
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homelab-agent-bench-")))
        directory.chmod(0o755)
        copies = [WorkingCopy(_made(directory / f"r{number}"), {"a": "0\n"}) for number in range(REPOSITORIES)]
        twins = [_twin(copy) for copy in copies]
        ours = stack.enter_context(_agent(directory, copies))
        peer = stack.enter_context(_webhook(directory, twins))
        receivers = [ours, Receiver("webhook", peer.port, "/hooks/true", peer.pid)]
        _rates(directory, receivers, "accepted", signed=True, least=2.0)
        _rates(directory, receivers, "refused for its signature", signed=False, least=0.8)
        _paced(ours)
        _burst(directory, ours)
        _converge(copies, ours, "agent")
        _converge(twins, peer, "webhook, the script for each push", full_names=True)


def body(number: int, *, repository: int = 0, after: str = "") -> bytes:
    """Return a push's payload of about 7 kB, like no other."""
    after = after or hashlib.sha1(f"{number} {time.time_ns()}".encode(), usedforsecurity=False).hexdigest()
    commit = {"id": after, "message": "change", "added": [f"file{n}" for n in range(300)]}
    told = {"full_name": f"octo/r{repository}", "id": 1000 + repository}
    payload = {"ref": "refs/heads/main", "before": "0" * 40, "after": after, "repository": told, "commits": [commit]}
    return json.dumps(payload | {"pusher": {"name": "octo"}, "head_commit": commit}).encode()


def signature(content: bytes) -> str:
    """Return what goes into X-Hub-Signature-256."""
    return "sha256=" + hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()


def _rates(directory: Path, receivers: Sequence[Receiver], what: str, *, signed: bool, least: float) -> None:
    rates: dict[str, list[float]] = {one.name: [] for one in receivers}
    for number in range(ROUNDS):
        for one in receivers:
            rates[one.name].append(_wrk(directory, one, number, signed=signed))
            time.sleep(1)
    for name, found in rates.items():
        process.figure(f"{name}: {what}, {CONNECTIONS} connections", statistics.median(found), "/s")
    ours, peer = (statistics.median(rates[one.name]) for one in receivers)
    process.figure(f"agent to webhook: {what}", ours / peer, "x", least=least)


def _wrk(directory: Path, receiver: Receiver, number: int, *, signed: bool) -> float:
    """Return how many answers a second `receiver` gave."""
    lines = directory / "bodies"
    with lines.open("wb") as file:
        for serial in range(4000):
            content = body(serial)
            right = signature(content)
            file.write((right if signed else "sha256=" + "0" * 64).encode() + b" " + content + b"\n")
    script = directory / "wrk.lua"
    script.write_text(LUA.format(file=lines, path=receiver.path, prefix=f"{number}-{uuid.uuid4()}"))
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script), f"http://127.0.0.1:{receiver.port}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    return float(found[1])


def _paced(ours: Receiver) -> None:
    """Print the 99th percentile of an acceptance while pushes come at an even pace."""
    took = []
    connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=30)
    began = time.perf_counter()
    for number in range(PACED_RATE * PACED_SECONDS):
        time.sleep(max(0.0, began + number / PACED_RATE - time.perf_counter()))
        sent = time.perf_counter()
        assert _send(connection, ours.path, body(number)) == 202
        took.append(1000 * (time.perf_counter() - sent))
    connection.close()
    process.figure(f"agent: p99 of the 202 at {PACED_RATE}/s", statistics.quantiles(took, n=100)[98], "ms", bound=50)


def _burst(directory: Path, ours: Receiver) -> None:
    """Print how much memory many deliveries at once leave behind."""
    del directory
    before = process.rss_megabytes(ours.pid)

    def part(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=60)
        for number in range(BURST // CONNECTIONS):
            assert _send(connection, ours.path, body(number)) == 202
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as senders:
        list(senders.map(part, range(CONNECTIONS)))
    grown = process.rss_megabytes(ours.pid) - before
    process.figure(f"agent: memory grown by {BURST} deliveries", grown, "MB", bound=15)


def _converge(copies: Sequence[WorkingCopy], receiver: Receiver, name: str, *, full_names: bool = False) -> None:
    """Push many times to every repository, and print how long it takes until each working copy is at its tip."""
    pushes = []
    for number in range(PUSHES):
        at = number % REPOSITORIES
        after = copies[at].push({"a": f"{number}\n"})
        path = f"/hooks/r{at}" if full_names else receiver.path
        pushes.append((path, body(number, repository=at, after=after)))
    began = time.perf_counter()

    def part(share: Sequence[tuple[str, bytes]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
        for path, content in share:
            _send(connection, path, content)
        connection.close()

    senders = [threading.Thread(target=part, args=(pushes[first::CONNECTIONS],)) for first in range(CONNECTIONS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    until(lambda: all(copy.git("rev-parse", "HEAD") == copy.tip() for copy in copies), "all converged", seconds=180)
    process.figure(f"{name}: {PUSHES} pushes to {REPOSITORIES} repositories live", time.perf_counter() - began, "s")


def _send(connection: http.client.HTTPConnection, path: str, content: bytes) -> int:
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": signature(content),
    }
    connection.request("POST", path, content, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _twin(copy: WorkingCopy) -> WorkingCopy:
    """Return a remote and a working copy like these."""
    return WorkingCopy(_made(copy.path.parent.with_name(f"{copy.path.parent.name}-twin")), {"a": "0\n"})


@contextmanager
def _agent(directory: Path, copies: Sequence[WorkingCopy]) -> Iterator[Receiver]:
    secret = directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    entries = [
        {
            "name": f"r{number}",
            "full_name": f"octo/r{number}",
            "id": 1000 + number,
            "directory": str(copy.path),
            "allow_file": True,
            "secret": [{"name": "main", "secret": f"file:{secret}"}],
        }
        for number, copy in enumerate(copies)
    ]
    with agents.running(directory / "agent") as ours:
        ours.write(f"[gitops]\npoll = 0\nrepository = {keys.toml(entries)}\n", interval=10)
        ours.start_with_database()
        yield Receiver("agent", ours.port, "/api/webhook/gitops", ours.pid)


@contextmanager
def _webhook(directory: Path, copies: Sequence[WorkingCopy]) -> Iterator[Receiver]:
    """Run Debian's `webhook`: `true` spawns /bin/true, each `rN` the script for its working copy."""
    signed = {
        "match": {
            "type": "payload-hmac-sha256",
            "secret": SECRET,
            "parameter": {"source": "header", "name": "X-Hub-Signature-256"},
        }
    }
    on_main = {
        "match": {"type": "value", "value": "refs/heads/main", "parameter": {"source": "payload", "name": "ref"}}
    }
    hooks: list[dict[str, object]] = [{"id": "true", "execute-command": "/bin/true"}]
    for number, copy in enumerate(copies):
        words = ["--allow-file", str(copy.path), "main"]
        given = [{"source": "string", "name": word} for word in words]
        hooks.append({"id": f"r{number}", "execute-command": str(SCRIPT), "pass-arguments-to-command": given})
    for hook in hooks:
        hook["trigger-rule"] = {"and": [signed, on_main]}
        hook["trigger-rule-mismatch-http-response-code"] = 401
    file = directory / "hooks.json"
    file.write_text(json.dumps(hooks))
    port = ports.free_port()
    argv = ["webhook", "-hooks", str(file), "-ip", "127.0.0.1", "-port", str(port)]
    with process.peer(argv, env=git.environment(directory)) as pid:
        until(lambda: ports.listens(port), "webhook listens")
        yield Receiver("webhook", port, "/hooks/true", pid)
