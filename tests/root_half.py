"""A root half with verbs that tests can see at work: `python -m tests.root_half [IDLE_SECONDS [CALLER...]]`.

It is handed its sockets as `homelab-agent privileged serve` is, and its verbs write to the directory in
HOMELAB_AGENT_TEST_HALF. `Unit` starts it as systemd does, and `asking` is an agent, as far as it has to do with it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from blockbuster import blockbuster_ctx

from homelab_agent.core import process
from homelab_agent.core.arguments import Flag, Name, Number, Sha
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.privilege import Answer, Call, Verb, VerbRefused, user
from homelab_agent.privileged import frames, half, server
from homelab_agent.privileged.client import Client
from tests.neighbours.server import Server
from tests.waiting import until

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "tests.root_half"]
VARIABLE = "HOMELAB_AGENT_TEST_HALF"
PATIENCE = "HOMELAB_AGENT_TEST_PATIENCE"
"""How long the half gives to what is to end."""
DIRECTORY = Path(os.environ.get(VARIABLE, "/nonexistent"))


class TooWet(AgentError):
    """The {what} is too wet."""

    repair = "dry the {what}"
    exit_code = Exit.BUSY


async def note(line: str) -> None:
    """Write down what is done, for the test to read."""

    def write() -> None:
        with (DIRECTORY / "notes").open("a") as notes:
            notes.write(f"{line}\n")

    await asyncio.to_thread(write)


def notes(directory: Path) -> list[str]:
    """Return what verbs have noted, in order."""
    with suppress(FileNotFoundError):
        return (directory / "notes").read_text().splitlines()
    return []


async def echo(call: Call) -> Answer:
    """Say it again."""
    for number in range(call.arguments.get("lines", 0)):
        call.say("stdout", f"line {number}")
    given = [os.pread(descriptor, 100, 0).decode() for descriptor in call.descriptors]
    return {"arguments": dict(call.arguments), "given": given, "pid": os.getpid()}


async def refuse(call: Call) -> Answer:
    raise VerbRefused(reason="not on a Sunday")


async def fail(call: Call) -> Answer:
    raise TooWet(what="wood", cause="rain")


async def wrong(call: Call) -> Answer:
    return {"ratio": 1 / len(call.descriptors)}


async def unspeakable(call: Call) -> Answer:
    return {"bytes": b"\xff"}


async def endless(call: Call) -> Answer:
    return {"text": "x" * frames.LONGEST}


async def crash(call: Call) -> Answer:
    os.kill(os.getpid(), 9)
    return {}


async def hang(call: Call) -> Answer:
    """Never end by itself; take a moment to clean up."""
    try:
        await note("hangs")
        call.say("stdout", "hangs")
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.2)
        await note("hangs no more")
    return {}


async def take(call: Call) -> Answer:
    """Hold something until it is let go; take a moment to give it back, and fail at that if told to."""
    how = call.arguments.get("back", "")
    try:
        await note("taken")
        await call.hold({"took": "it", "pid": os.getpid()})
    finally:
        call.say("stderr", "gives it back")
        await asyncio.sleep(0.2)
        if how == "when told":
            await asyncio.to_thread(until, (DIRECTORY / "told").exists, "it is told to give it back", seconds=60)
        await asyncio.Event().wait() if how == "never" else await note("given back")
    if how == "badly":
        raise TooWet(what="rope")
    return {"gave": "it back"}


async def lose(call: Call) -> Answer:
    """Hold something, and lose it."""
    holding = asyncio.create_task(call.hold({}))
    await asyncio.sleep(0.1)
    holding.cancel()
    raise TooWet(what="rope", cause="it tore")


async def flood(call: Call) -> Answer:
    """Say far more than anybody wants to read."""
    for number in range(20_000):
        call.say("stdout", f"{number} {'x' * 1000}")
        if number % 100 == 0:
            await asyncio.sleep(0)
    return {}


async def mark(call: Call) -> Answer:
    """Leave a trace that it was done."""
    await note("marked")
    return {}


async def whoami(call: Call) -> Answer:
    """Run a program as another user."""
    who = await asyncio.to_thread(user, call.arguments["name"])
    done = await process.run(["id", "-un"], deadline=10, user=who.switch, env=who.environment)
    return {"name": done.stdout.decode().strip()}


PLAIN = (refuse, fail, wrong, unspeakable, endless, crash, hang, lose, flood)
VERBS = (
    Verb(
        "echo",
        echo,
        {"word": Name({"one", "two"}), "sha": Sha(), "lines": Number(0, 5000), "loud": Flag()},
        frozenset({"sha", "lines", "loud"}),
    ),
    Verb("mark", mark, {"word": Name({"one", "two"}), "sha": Sha()}),
    Verb("take", take, {"back": Name({"badly", "when told", "never"})}, frozenset({"back"})),
    Verb("whoami", whoami, {"name": Name({"root", "nobody", "nobody-at-all"})}),
    *(Verb(verb.__name__, verb) for verb in PLAIN),
)


def collect() -> Mapping[str, Verb]:
    """Give the verbs, or fail as a faulty configuration does."""
    if (DIRECTORY / "faulty").exists():
        raise TooWet(what="configuration")
    return {verb.name: verb for verb in VERBS}


LISTEN = """
import os, socket, sys
path, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path + ".new")
os.chmod(path + ".new", 0o666)
listener.listen(128)
os.rename(path + ".new", path)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="homelab-agent-privileged.socket")
os.execv(command[0], command)
"""


class Unit(Server):
    """The half as systemd starts it, with a socket that everybody may connect to: who may call is the half's affair."""

    def __init__(
        self, directory: Path, *words: str, command: Sequence[str] = COMMAND, env: Mapping[str, str] = {}
    ) -> None:
        """`env` is added to the tests' own environment."""
        self.path = directory / "half.sock"
        env = {**os.environ, VARIABLE: str(directory), "PYTHONPATH": str(ROOT), **env}
        argv: list[str | Path] = [sys.executable, "-c", LISTEN, self.path, *command, *words]
        super().__init__("the root half", argv, ready=self.path.exists, log=directory / "half.log", env=env)

    def connect(self) -> socket.socket:
        """Return a bare connection to it."""
        return connect(self.path)


def connect(path: Path) -> socket.socket:
    """Return a bare connection to who listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))  # without a timeout: with one it would not wait while the queue is full
    connection.settimeout(30)
    return connection


def ask(connection: socket.socket, verb: str, **arguments: Any) -> None:
    """Send a request, with the go-ahead at once."""
    connection.sendall(frames.encode({"verb": verb, "arguments": arguments}) + frames.GO)


def hear(connection: socket.socket) -> list[dict[str, Any]]:
    """Return all that comes until the half closes."""
    data = b""
    with suppress(ConnectionResetError):  # it closed without reading on
        while part := connection.recv(65536):
            data += part
    messages = []
    while data:
        length = int.from_bytes(data[:4], "big")
        messages.append(frames.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    return messages


def client(directory: Path, *words: str, command: Sequence[str | Path] = COMMAND, unit: str = "no unit") -> Client:
    """Return an agent's way to the half."""
    return Client(directory, [*command, *words], service=directory / unit)


@asynccontextmanager
async def asking(directory: Path, *words: str, command: Sequence[str | Path] = COMMAND) -> AsyncIterator[Client]:
    """Give an agent's way to the half, which is its child; at the end the agent stops in order."""
    made = client(directory, *words, command=command)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def main() -> None:
    """Serve; the agent adds the words of its own command."""
    idle, *callers = [float(word) for word in sys.argv[1:] if word not in {"privileged", "serve"}] or [60.0]
    server.ENDING_SECONDS = float(os.environ.get(PATIENCE, server.ENDING_SECONDS))
    with blockbuster_ctx("homelab_agent"):
        half.serve(collect, callers=frozenset({os.geteuid(), *map(int, callers)}), idle_seconds=idle)


if __name__ == "__main__":
    main()
