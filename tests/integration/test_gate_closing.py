"""A door is shut without an agent: what is left of it is ended, what is not ours stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from homelab_agent.gate.child import Command
from homelab_agent.gate.closing import Closed, close_now
from homelab_agent.gate.tailscale import DaemonUnreachable, NotPermitted
from tests.clock import until
from tests.neighbours.server import Server
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailscale import environment
from tests.neighbours.tailscaled import PORT
from tests.processes import freeze, is_alive
from tests.user import UID, acting_as

TARGET = "http://127.0.0.1:8085"
OURS, OTHERS = 8085, 9000


def command(tailnet: Tailnet) -> Command:
    return Command(str(tailnet.homelab.program), tailnet.homelab.socket, "funnel", PORT, TARGET)


@contextmanager
def orphan(tailnet: Tailnet) -> Iterator[Server]:
    """Hold the door open as an agent's child would that did not hear of its agent's death."""
    child = Server(
        "orphan",
        [tailnet.homelab.program, *command(tailnet).words],
        ready=lambda: any(one.port == PORT for one in tailnet.homelab.entries),
        log=tailnet.homelab.log.with_name("orphan.log"),
        env=environment(tailnet.homelab.state),
    )
    try:
        yield child.start()
    finally:
        child.close()


async def test_where_nothing_is_open_nothing_is_done_and_that_is_well(tailnet: Tailnet) -> None:
    assert (await close_now(command(tailnet))).words == ["nothing was open"]


async def test_where_no_daemon_runs_nothing_is_open(tailnet: Tailnet) -> None:
    tailnet.homelab.kill()
    first, second = (await close_now(command(tailnet))).words
    assert first == "nothing was open"
    assert second.startswith("No tailscaled listens at")


async def test_an_entry_that_would_stay_is_taken_back(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OURS)
    closed = await close_now(command(tailnet))
    assert closed.words == [f"took back an entry that stays: port {PORT} of {tailnet.name} to {TARGET}"]
    assert not tailnet.homelab.entries


async def test_a_child_that_has_outlived_its_agent_is_ended(tailnet: Tailnet) -> None:
    with orphan(tailnet) as child:
        closed = await close_now(command(tailnet))
        assert closed.ended == (child.pid,)
        assert closed.words[0] == f"ended process {child.pid}, which held the door open"
        assert not child.runs
        await until(lambda: not tailnet.homelab.entries, "nothing is published")


async def test_one_that_is_frozen_too(tailnet: Tailnet) -> None:
    with orphan(tailnet) as child:
        freeze(child.pid)
        assert (await close_now(command(tailnet))).ended == (child.pid,)
        await until(lambda: not tailnet.homelab.entries, "nothing is published")


async def test_a_session_of_whoever_points_at_the_agent_is_taken_back(tailnet: Tailnet) -> None:
    with tailnet.homelab.session(OURS) as child:
        closed = await close_now(command(tailnet))
        assert closed.words == [f"took back a session: port {PORT} of {tailnet.name} to {TARGET}"]
        assert not tailnet.homelab.entries
        await until(lambda: not child.runs, "its holder has ended")


async def test_what_is_not_ours_stays(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    homelab.publish(OTHERS)
    homelab.publish(OURS, port=10000)
    with homelab.session(OTHERS, port=443) as child:
        before = homelab.serve_config
        assert await close_now(command(tailnet)) == Closed()
        assert await close_now(replace(command(tailnet), port=443)) == Closed()
        assert homelab.serve_config == before
        assert child.runs


async def test_a_daemon_that_hangs_is_told_and_the_child_ended_all_the_same(tailnet: Tailnet) -> None:
    with orphan(tailnet) as child:
        tailnet.homelab.freeze()
        with pytest.raises(DaemonUnreachable, match="no answer") as caught:
            await close_now(command(tailnet))
        assert caught.value.repair == "systemctl restart tailscaled"
        assert not is_alive(child.pid)
        tailnet.homelab.thaw()
        await until(lambda: not tailnet.homelab.entries, "nothing is published")


async def test_who_may_not_is_told_so_and_the_operator_may(tailnet: Tailnet) -> None:
    with tailnet.homelab.session(OURS):
        with acting_as(UID), pytest.raises(NotPermitted) as caught:
            await close_now(command(tailnet))
        assert "gate operator nobody" in caught.value.repair
        tailnet.homelab.operate("nobody")
        with acting_as(UID):
            assert (await close_now(command(tailnet))).dropped
        assert not tailnet.homelab.entries


async def test_two_at_once_do_no_harm(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OURS)
    closed = await asyncio.gather(*(close_now(command(tailnet)) for _ in range(4)))
    assert sum(len(one.dropped) for one in closed) == 1
    assert not tailnet.homelab.entries
