"""A root half with verbs that tests can see at work: `python -m tests.root_half --listener N --lifeline N`.

Its arguments are those of `homelab-agent privileged serve`; the directory that verbs write to is in DIRECTORY.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from blockbuster import blockbuster_ctx

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.privilege import Answer, Call, Name, Number, Sha, Verb, user
from homelab_agent.privileged import server

DIRECTORY = Path(os.environ.get("HOMELAB_AGENT_TEST_HALF", "/nonexistent"))


class TooWet(AgentError):
    """The {what} is too wet."""

    repair = "dry the {what}"
    exit_code = Exit.BUSY


async def echo(call: Call) -> Answer:
    for number in range(call.arguments.get("lines", 0)):
        call.say("stdout", f"line {number}")
    given = [os.pread(descriptor, 100, 0).decode() for descriptor in call.descriptors]
    return {"arguments": dict(call.arguments), "given": given, "pid": os.getpid()}


async def fail(call: Call) -> Answer:
    raise TooWet(what="wood", cause="rain")


async def crash(call: Call) -> Answer:
    os.kill(os.getpid(), 9)
    return {}


async def wrong(call: Call) -> Answer:
    return {"ratio": 1 / len(call.descriptors)}


async def hang(call: Call) -> Answer:
    marker = DIRECTORY / "hangs"
    await asyncio.to_thread(marker.touch)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(marker.unlink)
    return {}


async def take(call: Call) -> Answer:
    marker = DIRECTORY / "taken"
    await asyncio.to_thread(marker.touch)
    try:
        await call.hold({"took": "it"})
    finally:
        await asyncio.to_thread(marker.unlink)
    return {"gave": "it back"}


async def whoami(call: Call) -> Answer:
    who = await asyncio.to_thread(user, "nobody")
    done = await process.run(["id", "-un"], deadline=10, user=who.switch, env=who.environment)
    return {"name": done.stdout.decode().strip()}


VERBS = (
    Verb(
        "echo",
        echo,
        {"word": Name({"one", "two"}), "sha": Sha(), "lines": Number(0, 5000)},
        frozenset({"sha", "lines"}),
    ),
    *(Verb(verb.__name__, verb) for verb in (fail, crash, wrong, hang, take, whoami)),
)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--user", type=int, action="append", default=[])
    given = parser.parse_args()
    users = frozenset({os.geteuid(), *given.user})
    half = server.Server(VERBS, server.adopt(given.listener), users=users, idle=given.idle)
    with blockbuster_ctx("homelab_agent"):
        asyncio.run(half.run(given.lifeline))


if __name__ == "__main__":
    main()
