"""A door lives as long as its child, and no longer; why there is none, the child says, and we understand."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from homelab_agent.core.process import ProgramMissing
from homelab_agent.gate.child import Command, Session
from tests.clock import until
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import FUNNEL, HTTPS, PORTS
from tests.neighbours.tailscaled import PORT
from tests.neighbours.visitors import Refused
from tests.processes import freeze, is_alive
from tests.user import ordinary

TARGET = "http://127.0.0.1:8085"
OTHERS = 9000


def command(tailnet: Tailnet) -> Command:
    return Command(str(tailnet.homelab.program), tailnet.homelab.socket, "funnel", PORT, TARGET)


@asynccontextmanager
async def session(command: Command) -> AsyncIterator[tuple[Session, list[str]]]:
    """Give a session that is closed in the end, and a list that says when it ended by itself."""
    ends: list[str] = []
    one = Session(command, lambda: ends.append("ended"))
    try:
        yield one, ends
    finally:
        await one.close()
        assert not one.running


def said(door: Session) -> str:
    return door.cause.what if door.cause is not None else ""


async def test_a_door_is_open_until_it_is_closed(tailnet: Tailnet) -> None:
    async with session(command(tailnet)) as (door, ends):
        for _ in range(3):
            await door.open()
            await until(tailnet.public.reaches, "the public is let in")
            (entry,) = tailnet.homelab.entries
            assert (entry.port, entry.target, entry.is_public, bool(entry.session)) == (PORT, TARGET, True, True)
            pid = door.pid
            await door.open()
            assert door.pid == pid
            assert door.cause is None
            await door.close()
            assert not is_alive(pid)
            assert (door.running, door.pid, door.cause) == (False, 0, None)
            await until(lambda: not tailnet.homelab.entries, "nothing is published")
            with pytest.raises(Refused):
                tailnet.public.connect()
        assert ends == []


async def test_a_door_into_the_tailnet_is_none_to_the_internet(tailnet: Tailnet) -> None:
    async with session(replace(command(tailnet), verb="serve")) as (door, _):
        await door.open()
        await until(tailnet.laptop.reaches, "the tailnet is let in")
        with pytest.raises(Refused):
            tailnet.public.connect()


async def test_a_child_that_was_killed_is_noticed_and_another_one_opens_the_door_again(tailnet: Tailnet) -> None:
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(tailnet.public.reaches, "the public is let in")
        os.kill(door.pid, signal.SIGKILL)
        await until(lambda: ends == ["ended"], "it is noticed")
        assert not door.running
        assert said(door) == "tailscale ended (signal 9) without a word"
        await until(lambda: not tailnet.homelab.entries, "nothing is published")
        await door.open()
        assert said(door) == ""
        await until(tailnet.public.reaches, "the public is let in")


async def test_a_child_that_does_not_end_is_killed(tailnet: Tailnet) -> None:
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(tailnet.public.reaches, "the public is let in")
        freeze(pid := door.pid)
        await door.close()
        assert not is_alive(pid)
        await until(lambda: not tailnet.homelab.entries, "nothing is published")
        assert ends == []


async def test_a_door_is_closed_while_the_daemon_hangs(tailnet: Tailnet) -> None:
    async with session(command(tailnet)) as (door, _):
        await door.open()
        await until(lambda: tailnet.homelab.entries, "it is published")
        tailnet.homelab.freeze()
        pid = door.pid
        await door.close()
        assert not is_alive(pid)
        tailnet.homelab.thaw()
        await until(lambda: not tailnet.homelab.entries, "nothing is published")


HOLDER = """
import asyncio, sys
from pathlib import Path
from homelab_agent.gate.child import Command, Session
async def hold():
    door = Session(Command(sys.argv[1], Path(sys.argv[2]), "funnel", 8443, "http://127.0.0.1:8085"))
    await door.open()
    print(door.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(hold())
"""


async def test_who_holds_it_open_takes_it_along_when_he_is_killed(tailnet: Tailnet) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tailnet.homelab.program), str(tailnet.homelab.socket)]
    holder = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert holder.stdout is not None
        pid = int(await holder.stdout.readline())
        await until(tailnet.public.reaches, "the public is let in")
    finally:
        holder.kill()
        await holder.wait()
    await until(lambda: not is_alive(pid), "the child is dead")
    await until(lambda: not tailnet.homelab.entries, "nothing is published")


def occupied(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OTHERS)


def without(*capabilities: str) -> Callable[[Tailnet], None]:
    return lambda tailnet: tailnet.control.withdraw(*capabilities)


FAULTS: dict[str, tuple[Callable[[Tailnet], object], str, str]] = {
    "taken": (occupied, f"something else is published on port {PORT}", "tailscale funnel status --json"),
    "no https": (without(HTTPS), "the tailnet gives this node no certificate", "/admin/dns"),
    "no funnel": (without(FUNNEL), "the tailnet's policy does not let this node use Funnel", "/admin/acls"),
    "no ports": (
        without(PORTS),
        "the tailnet's policy has to allow Funnel on port 443, whichever is used (it allows: none)",
        "/admin/acls",
    ),
    "not 443": (
        lambda tailnet: tailnet.control.allow_ports(8443),
        "the tailnet's policy has to allow Funnel on port 443, whichever is used (it allows: 8443)",
        "/admin/acls",
    ),
    "shields": (
        lambda tailnet: tailnet.homelab.shield(),
        "this node takes no connections (shields-up)",
        "sudo tailscale set --shields-up=false",
    ),
    "stopped": (lambda tailnet: tailnet.homelab.down(), "Tailscale is stopped", "sudo tailscale up"),
    "out": (lambda tailnet: tailnet.homelab.log_out(), "this node is logged out of its tailnet", "sudo tailscale up"),
    "expired": (
        lambda tailnet: tailnet.control.expire(),
        "this node is logged out of its tailnet",
        "sudo tailscale up",
    ),
    "dead": (lambda tailnet: tailnet.homelab.kill(), "tailscaled does not answer", "systemctl start tailscaled"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_why_there_is_no_door_is_said_with_what_mends_it(tailnet: Tailnet, fault: str) -> None:
    spoil, what, repair = FAULTS[fault]
    before = tailnet.homelab.capabilities
    spoil(tailnet)
    if fault.startswith("no"):
        await until(lambda: tailnet.homelab.capabilities != before, "the node is told")
    if fault == "expired":
        await until(lambda: tailnet.homelab.backend == "NeedsLogin", "the node is told")
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(lambda: ends, "it gives up", seconds=20)
        assert said(door) == what
        assert door.cause is not None
        assert repair in door.cause.repair


async def test_who_may_not_publish_is_told_where_to_look(tailnet: Tailnet, open_directory: Path) -> None:
    link = open_directory / "tailscale"
    link.write_text("#!/bin/sh\nexec " + " ".join(ordinary([str(tailnet.homelab.program)])) + ' "$@"\n')
    link.chmod(0o755)
    async with session(replace(command(tailnet), program=str(link))) as (door, ends):
        await door.open()
        await until(lambda: ends, "it gives up")
        assert said(door) == "the agent's user is not Tailscale's operator on this host"
        tailnet.homelab.operate("nobody")
        await door.open()
        await until(tailnet.public.reaches, "the operator may")


async def test_what_the_owner_has_to_allow_first_is_said_though_the_child_ends_well(tailnet: Tailnet) -> None:
    tailnet.control.withdraw(FUNNEL)
    await until(lambda: FUNNEL not in tailnet.homelab.capabilities, "the node is told")
    tailnet.control.answer_feature({"text": "Not yet.", "url": "https://example.org/f/funnel?node=n1"})
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(lambda: ends, "it gives up")
        assert door.cause is not None
        assert door.cause.repair == "Allow it: https://example.org/f/funnel?node=n1"
        tailnet.control.answer_feature({"text": "Ask somebody."})
        await door.open()
        await until(lambda: len(ends) == 2, "it gives up")
        assert said(door) == "tailscale ended (exit code 0) and said: Ask somebody."


async def test_a_child_that_waits_for_the_owner_says_so_until_it_may_go_on(tailnet: Tailnet) -> None:
    tailnet.control.withdraw(FUNNEL)
    await until(lambda: FUNNEL not in tailnet.homelab.capabilities, "the node is told")
    tailnet.control.answer_feature({"text": "Wait.", "url": "https://example.org/f/funnel", "shouldWait": True})
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(lambda: door.cause, "it says that it waits")
        assert door.running
        assert not tailnet.homelab.entries
        await until(lambda: tailnet.control.mark() and tailnet.public.reaches(), "it publishes")
        await until(lambda: door.cause is None, "it waits no more")
        assert ends == []


@pytest.mark.parametrize(
    ("way", "what"), [("kill", "tailscaled ended"), ("stop", "tailscale ended (exit code 0) without a word")]
)
async def test_a_daemon_that_ends_takes_the_door_with_it(tailnet: Tailnet, way: str, what: str) -> None:
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(tailnet.public.reaches, "the public is let in")
        getattr(tailnet.homelab, way)()
        await until(lambda: ends, "the child ends")
        assert said(door) == what
        tailnet.homelab.start()
        tailnet.homelab.until_running()
        assert not tailnet.homelab.entries
        await door.open()
        await until(tailnet.public.reaches, "the public is let in")


async def test_who_takes_everything_back_ends_the_child(tailnet: Tailnet) -> None:
    async with session(command(tailnet)) as (door, ends):
        await door.open()
        await until(lambda: tailnet.homelab.entries, "it is published")
        tailnet.homelab("funnel", "reset")
        await until(lambda: ends, "the child ends")
        assert not door.running
        assert door.cause is not None


async def test_what_others_publish_is_as_it_was_however_often_the_door_opens(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    homelab.publish(OTHERS, port=10000)
    with homelab.session(OTHERS, port=443) as other:
        before = homelab.serve_config
        async with session(command(tailnet)) as (door, _):
            for number in range(20):
                await door.open()
                if number % 2:  # else it is closed amid its start
                    await until(lambda: len(homelab.entries) == 3, "it is published")
                await door.close()
                await until(lambda: homelab.serve_config == before, "all is as it was")
        assert other.runs


async def test_a_command_that_is_not_there_is_said(tailnet: Tailnet) -> None:
    async with session(replace(command(tailnet), program="/no/such/tailscale")) as (door, ends):
        with pytest.raises(ProgramMissing, match="/no/such/tailscale"):
            await door.open()
        assert not door.running
        assert ends == []
