"""The capability as a whole: it stops in order, leaves nothing behind, and starts again as if it were new."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.gitops.delivery import Receipt
from tests import hooks, payloads
from tests.clock import until
from tests.gitops_house import House, half, house, repository
from tests.hooks import sent

MIB = 1024 * 1024


Ours = Callable[[], list[str]]


@pytest.fixture
def ours() -> Ours:
    """Say which threads of the capability's own there are, but for what other tests left."""
    others = set(threading.enumerate())
    return lambda: sorted(
        one.name.partition("_")[0]
        for one in threading.enumerate()
        if one not in others and one.name.startswith("gitops")
    )


def section(directory: Path) -> dict[str, Any]:
    return repository("homelab", secret=[hooks.secret_in(directory)], id=payloads.NUMBER)


async def large(here: House) -> Receipt:
    """Push, and deliver that in a body that is hashed and read in threads."""
    after = here.tree.push({"a": str(len(here.tree.files))})
    commits = [{"id": payloads.sha(str(number)), "message": "x" * 1024} for number in range(3 * 1024)]
    request = sent("push", payloads.push(after=after, commits=commits), piece=2 * MIB)
    return await here.service.receiver.receive(request)


async def stop(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_it_leaves_no_thread_when_it_stops_and_has_them_again_when_it_is_started_again(
    ours: Ours, tmp_path: Path
) -> None:
    async with house(tmp_path, half(), section(tmp_path), working=False) as here:
        for _ in range(2):
            working = asyncio.ensure_future(here.service.run())
            receipt = await large(here)
            assert ours() == ["gitops-hash", "gitops-read"]
            assert (await here.closed(receipt.guid))[0] == "ok"
            await stop(working)
            assert ours() == []
        between = await large(here)
        assert between.status == "open"
        working = asyncio.ensure_future(here.service.run())
        assert (await here.closed(between.guid))[0] == "ok"
        await stop(working)
        assert ours() == []


async def test_what_is_being_accepted_when_it_stops_is_on_disk_before_that(ours: Ours, tmp_path: Path) -> None:
    async with house(tmp_path, half(), section(tmp_path), working=False) as here:
        working = asyncio.ensure_future(here.service.run())
        await here.closed((await large(here)).guid)
        await here.quiet()
        begun, free = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> None:
            begun.set()
            free.wait(10)

        held = asyncio.ensure_future(here.base.state.write(hold))
        await until(begun.is_set, "the writer is held up")
        state = here.base.state
        receiving = asyncio.ensure_future(large(here))
        await until(lambda: state._orders.qsize() == 1, "the delivery is to be written")
        receiving.cancel()  # as the web server's drain does with who takes too long
        await asyncio.wait([receiving])
        order: list[str] = []
        held.add_done_callback(lambda _: order.append("written"))
        working.add_done_callback(lambda _: order.append("stopped"))
        stopping = asyncio.ensure_future(stop(working))
        await here.clock.advance(1)
        free.set()
        await stopping
        assert order == ["written", "stopped"]
        assert [one["verdict"] for one in (await here.attempts()).values()] == ["", "ok"]
        assert ours() == []
