"""What needs a lease is cut short when the lease is lost, and only then; who cancels it from elsewhere is obeyed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from homelab_agent.core.privilege import Answer, VerbFailed
from homelab_agent.privileged.conversation import Conversation, cut_short_by

TALK = Conversation("take", None)


class Lease:
    """The rest of a lease, which ends when the test says so."""

    def __init__(self) -> None:
        self.ends: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.rest = asyncio.create_task(self._wait())

    async def _wait(self) -> Answer:
        return await self.ends

    def lose(self) -> None:
        self.ends.set_exception(VerbFailed(message="It tore."))


async def for_ever() -> None:
    await asyncio.Event().wait()


async def wrongly() -> None:
    try:
        await for_ever()
    except asyncio.CancelledError:
        raise KeyError from None


async def test_what_is_in_it_is_cut_short_by_what_ended_the_lease() -> None:
    lease = Lease()
    asyncio.get_running_loop().call_soon(lease.lose)
    with pytest.raises(VerbFailed, match="It tore"), cut_short_by(lease.rest, TALK):
        await for_ever()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_lease_that_ends_well_but_too_early_is_lost_too() -> None:
    lease = Lease()
    asyncio.get_running_loop().call_soon(lease.ends.set_result, {})
    with pytest.raises(VerbFailed, match="take let go before it was asked to"), cut_short_by(lease.rest, TALK):
        await for_ever()


@pytest.mark.parametrize("turns", range(4))
async def test_what_ends_at_the_same_time_as_the_lease_is_either_cut_short_or_left_alone(turns: int) -> None:
    lease = Lease()
    begun = asyncio.Event()
    asyncio.get_running_loop().call_soon(lease.lose)
    asyncio.get_running_loop().call_soon(begun.set)
    with suppress(VerbFailed), cut_short_by(lease.rest, TALK):
        await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.wait({lease.rest})
    assert isinstance(lease.rest.exception(), VerbFailed)


async def test_one_who_does_not_let_itself_be_cut_short_is_told_at_its_end() -> None:
    lease = Lease()
    asyncio.get_running_loop().call_soon(lease.lose)
    with pytest.raises(VerbFailed, match="It tore"), cut_short_by(lease.rest, TALK), suppress(asyncio.CancelledError):
        await for_ever()
    await asyncio.sleep(0)


async def test_what_goes_wrong_in_it_because_of_that_goes_on() -> None:
    lease = Lease()
    asyncio.get_running_loop().call_soon(lease.lose)
    with pytest.raises(KeyError), cut_short_by(lease.rest, TALK):
        await wrongly()
    assert isinstance(lease.rest.exception(), VerbFailed)
    await asyncio.sleep(0)


@pytest.mark.parametrize("is_lost", [True, False])
async def test_who_cancels_it_from_elsewhere_is_obeyed(*, is_lost: bool) -> None:
    lease = Lease()

    async def body() -> None:
        with cut_short_by(lease.rest, TALK):
            await for_ever()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    if is_lost:
        lease.lose()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not is_lost:
        lease.ends.set_result({})
    await asyncio.wait({lease.rest})
    lease.rest.exception()


async def test_one_that_ends_before_the_lease_does_is_left_alone() -> None:
    lease = Lease()
    with cut_short_by(lease.rest, TALK):
        await asyncio.sleep(0)
    lease.ends.set_result({})
    assert await lease.rest == {}
