"""The inbox: nothing is lost, nothing runs twice, and what is kept is bounded; against a real state.db."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.core.clock import EPOCH, Clock, SystemClock
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State, StateUnavailable
from homelab_agent.gitops import table
from homelab_agent.gitops.delivery import DONE, GOOD, Attempt, Delivery, Receipt, Verdict, Word
from homelab_agent.gitops.inbox import GuidTaken, Inbox, InboxFull, NoSuchDelivery, StillOpen
from homelab_agent.gitops.selection import Decision, Ignored, Pong, Sync
from tests import payloads
from tests.clock import MovableClock
from tests.fixtures.disk import Closable
from tests.website import SCHEMAS

SYNC = Sync("homelab")
MAX_BYTES = 1024 * 1024


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@dataclass(frozen=True, slots=True)
class Life:
    """What lives between a start of the agent and its end."""

    state: State
    spool: Spool
    inbox: Inbox


@asynccontextmanager
async def living(directory: Path, clock: Clock, *, max_bytes: int = MAX_BYTES) -> AsyncIterator[Life]:
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    yield Life(state, spool, Inbox(state, spool, clock, host="attic", max_bytes=max_bytes))
    await spool.close()
    await state.close()


@pytest.fixture
async def life(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Life]:
    async with living(tmp_path, clock) as begun:
        yield begun


@pytest.fixture
def inbox(life: Life) -> Inbox:
    return life.inbox


@pytest.fixture
def spool(life: Life) -> Spool:
    return life.spool


@pytest.fixture
def state(life: Life) -> State:
    return life.state


@pytest.fixture
def delivery(clock: MovableClock) -> Callable[..., Delivery]:
    numbers = itertools.count(1)

    def make(guid: str = "", *, body: bytes = b"", size: int = 0) -> Delivery:
        number = next(numbers)
        body = body or b"body %d " % number + random.Random(number).randbytes(size)
        return Delivery(
            guid=guid or f"guid-{number:08}",
            event="push",
            ref="refs/heads/main",
            after=payloads.sha(str(number)),
            headers={"X-GitHub-Hook-ID": "1"},
            body=zlib.compress(body, 1),
            digest=hashlib.sha256(body).digest(),
            key_name="main",
            signers=frozenset({"homelab"}),
            source="192.0.2.1",
            received_at=clock.read().wall,
        )

    return make


async def shipped(spool: Spool) -> list[Row]:
    """Return the rows that are on their way to PostgreSQL."""
    batch = await spool.take(100_000)
    if batch is None:
        return []
    await spool.failed(batch)
    return list(batch.rows)


async def verdicts(spool: Spool) -> list[tuple[object, object, object]]:
    rows = [row for row in await shipped(spool) if row.table == "gitops_verdict"]
    return [(row.values["guid"], row.values["attempt"], row.values["verdict"]) for row in rows]


async def finish(inbox: Inbox, word: str, repository: str = "homelab") -> list[Attempt]:
    attempts = await inbox.open_attempts(repository)
    verdict = Verdict(cast("Word", word), f"it was {word}")
    await inbox.close([(attempt, verdict) for attempt in attempts])
    return attempts


Make = Callable[..., Delivery]


async def test_an_accepted_delivery_is_open_until_it_has_its_verdict(
    inbox: Inbox, spool: Spool, delivery: Make
) -> None:
    one = delivery()
    assert await inbox.accept(one, SYNC) == Receipt(one.guid, "homelab", 1, "open", "", is_new=True)
    assert await inbox.waiting() == ["homelab"]
    (attempt,) = await inbox.open_attempts("homelab")
    assert (attempt.guid, attempt.number, attempt.ref, attempt.after) == (one.guid, 1, one.ref, one.after)
    assert await shipped(spool) == []
    reached = payloads.sha("reached")
    verdict = Verdict("ok", "moved", sha_asked=one.after, sha_reached=reached, run_id="0193-run")
    await inbox.close([(attempt, verdict)])
    assert await inbox.waiting() == []
    assert await inbox.open_attempts("homelab") == []
    (row,) = await shipped(spool)
    assert row.key == ("host", "guid", "attempt")
    assert (row.values["host"], row.values["guid"], row.values["attempt"]) == ("attic", one.guid, 1)
    assert (row.values["verdict"], row.values["sha_reached"], row.values["run_id"]) == ("ok", reached, "0193-run")
    record = await inbox.get(one.guid)
    assert [(each.verdict, each.detail) for each in record.attempts] == [("ok", "moved")]


async def test_what_is_accepted_survives_the_process(tmp_path: Path, delivery: Make, clock: MovableClock) -> None:
    one = delivery()
    async with living(tmp_path, clock) as life:
        await life.inbox.accept(one, SYNC)
    async with living(tmp_path, clock) as life:
        assert [attempt.guid for attempt in await life.inbox.open_attempts("homelab")] == [one.guid]
        headers, body = await life.inbox.content(one.guid)
        assert headers == one.headers
        assert body == zlib.decompress(one.body)


@pytest.mark.parametrize(
    ("decision", "word", "detail"),
    [
        (Ignored("homelab", "refs/heads/x was pushed"), "ignored", "refs/heads/x was pushed"),
        (Ignored("", "it names no repository"), "ignored", "it names no repository"),
        (Pong("homelab", ()), "pong", "the hook is set up as it should be"),
        (Pong("homelab", ("a", "b")), "pong", "a; b"),
    ],
)
async def test_what_nothing_follows_from_has_its_verdict_at_once(
    inbox: Inbox, spool: Spool, delivery: Make, decision: Decision, word: str, detail: str
) -> None:
    receipt = await inbox.accept(delivery(), decision)
    assert (receipt.status, receipt.detail, receipt.is_new) == (word, detail, True)
    assert await inbox.waiting() == []
    assert await verdicts(spool) == [(receipt.guid, 1, word)]


async def test_a_redelivery_of_what_is_open_or_ended_well_runs_nothing(
    inbox: Inbox, spool: Spool, delivery: Make
) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    again = await inbox.accept(one, SYNC)
    assert (again.status, again.attempt, again.is_new) == ("open", 1, False)
    await finish(inbox, "ok")
    again = await inbox.accept(one, SYNC)
    assert (again.status, again.detail, again.attempt, again.is_new) == ("ok", "it was ok", 1, False)
    assert await inbox.waiting() == []
    assert await verdicts(spool) == [(one.guid, 1, "ok")]


async def test_a_redelivery_of_what_failed_opens_the_next_attempt(inbox: Inbox, spool: Spool, delivery: Make) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    for number, word in enumerate(("dirty", "interrupted", "up_to_date"), 1):
        assert [attempt.number for attempt in await finish(inbox, word)] == [number]
        await inbox.accept(one, SYNC)
    assert await inbox.open_attempts("homelab") == []
    assert await verdicts(spool) == [(one.guid, 1, "dirty"), (one.guid, 2, "interrupted"), (one.guid, 3, "up_to_date")]


@pytest.mark.parametrize("word", ["ok", "up_to_date", "included", "dirty", "fetch_failed", "bad_sha", "not_available"])
async def test_only_a_good_end_is_one(inbox: Inbox, delivery: Make, word: Word) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    await finish(inbox, word)
    assert (await inbox.accept(one, SYNC)).is_new == (word not in GOOD)


async def test_a_redelivery_of_what_was_ignored_is_judged_anew(inbox: Inbox, spool: Spool, delivery: Make) -> None:
    one = delivery()
    await inbox.accept(one, Ignored("", "not configured"))
    still = await inbox.accept(one, Ignored("", "not configured yet"))
    assert (still.status, still.detail, still.is_new) == ("ignored", "not configured", False)
    now = await inbox.accept(one, SYNC)
    assert (now.status, now.attempt, now.repository) == ("open", 2, "homelab")
    assert [attempt.number for attempt in await inbox.open_attempts("homelab")] == [2]
    assert await verdicts(spool) == [(one.guid, 1, "ignored")]


async def test_a_failed_delivery_that_would_be_ignored_today_says_so(
    inbox: Inbox, spool: Spool, delivery: Make
) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    await finish(inbox, "dirty")
    again = await inbox.accept(one, Ignored("", "not configured any more"))
    assert (again.status, again.attempt) == ("ignored", 2)
    assert await verdicts(spool) == [(one.guid, 1, "dirty"), (one.guid, 2, "ignored")]


async def test_a_known_body_under_a_new_guid_is_a_duplicate(inbox: Inbox, spool: Spool, delivery: Make) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    for number in range(2):
        twin = await inbox.accept(replace(one, guid=f"replayed-{number}"), SYNC)
        assert twin.status == "duplicate"
        assert one.guid in twin.detail
    assert len(await inbox.open_attempts("homelab")) == 1
    for number, word in enumerate(("ok", "up_to_date", "included"), 2):
        await finish(inbox, word)
        assert (await inbox.accept(replace(one, guid=f"replayed-{number}"), SYNC)).status == "duplicate"
        await inbox.reopen(one.guid, SYNC)


@pytest.mark.parametrize("word", ["dirty", "action_failed", "interrupted", "rolled_back"])
async def test_a_body_that_ended_badly_is_tried_again_under_whatever_guid(
    inbox: Inbox, delivery: Make, word: str
) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    meanwhile = replace(one, guid="came-meanwhile")
    assert (await inbox.accept(meanwhile, SYNC)).status == "duplicate"
    assert [attempt.again for attempt in await finish(inbox, word)] == [False]
    for number in range(2):
        redelivered = await inbox.accept(replace(one, guid=f"redelivered-{number}"), SYNC)
        assert (redelivered.status, redelivered.attempt) == ("open", 1)
        assert (await inbox.accept(meanwhile, SYNC)).is_new is False, "somebody is at it"
        assert [attempt.again for attempt in await finish(inbox, word)] == [True]
    assert (await inbox.accept(meanwhile, Ignored("", "not configured any more"))).status == "duplicate"
    assert (await inbox.accept(meanwhile, SYNC)).attempt == 2
    await finish(inbox, "ok")
    assert (await inbox.accept(replace(one, guid="redelivered-2"), SYNC)).status == "duplicate"
    assert (await inbox.accept(meanwhile, SYNC)).is_new is False


async def test_two_hooks_of_one_repository_at_the_forge_send_one_body_for_two_of_ours(
    inbox: Inbox, delivery: Make
) -> None:
    one = delivery()
    assert (await inbox.accept(one, Sync("homelab"))).status == "open"
    assert (await inbox.accept(replace(one, guid="of-the-other-hook"), Sync("mirror"))).status == "open"
    assert [attempt.again for attempt in await inbox.open_attempts("mirror")] == [False]


async def test_a_ping_may_come_again_and_what_was_ignored_is_no_first_of_two(inbox: Inbox, delivery: Make) -> None:
    ping = delivery()
    for number in range(2):
        assert (await inbox.accept(replace(ping, guid=f"ping-{number:04}"), Pong("homelab", ()))).status == "pong"
    push = delivery()
    assert (await inbox.accept(push, Ignored("", "not configured"))).status == "ignored"
    assert (await inbox.accept(replace(push, guid="from-the-next-hook"), SYNC)).status == "open"


async def test_a_known_guid_with_another_body_is_refused(inbox: Inbox, delivery: Make) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    await finish(inbox, "dirty")
    with pytest.raises(GuidTaken):
        await inbox.accept(delivery(one.guid), SYNC)
    assert await inbox.open_attempts("homelab") == []


async def test_two_hundred_at_once_are_each_there_once(inbox: Inbox, delivery: Make) -> None:
    pushes = [delivery() for _ in range(200)]
    receipts = await asyncio.gather(*(inbox.accept(push, SYNC) for push in [*pushes, *pushes]))
    assert sum(receipt.is_new for receipt in receipts) == 200
    assert [attempt.guid for attempt in await inbox.open_attempts("homelab")] == [push.guid for push in pushes]


async def test_every_attempt_gets_one_verdict_however_often_it_is_given(
    inbox: Inbox, spool: Spool, delivery: Make
) -> None:
    for _ in range(3):
        await inbox.accept(delivery(), SYNC)
    attempts = await inbox.open_attempts("homelab")
    words: tuple[Word, ...] = ("ok", "dirty", "ok")
    await asyncio.gather(*(inbox.close([(attempt, Verdict(word)) for attempt in attempts]) for word in words))
    assert await verdicts(spool) == [(attempt.guid, 1, "ok") for attempt in attempts]


async def test_a_verdict_for_what_is_not_there_is_none(inbox: Inbox, spool: Spool, delivery: Make) -> None:
    await inbox.accept(delivery(), SYNC)
    (attempt,) = await inbox.open_attempts("homelab")
    strangers = [replace(attempt, guid="unknown-guid"), replace(attempt, number=9)]
    await inbox.close([(stranger, Verdict("ok")) for stranger in strangers])
    await inbox.close([])
    assert await shipped(spool) == []
    assert len(await inbox.open_attempts("homelab")) == 1


async def test_a_verdicts_words_are_fit_for_both_databases(inbox: Inbox, spool: Spool, delivery: Make) -> None:
    await inbox.accept(delivery(), SYNC)
    (attempt,) = await inbox.open_attempts("homelab")
    await inbox.close([(attempt, Verdict("action_failed", "a\0b\udcff" + "x" * 10_000))])
    (row,) = await shipped(spool)
    detail = row.values["detail"]
    assert isinstance(detail, str)
    assert detail.startswith("ab?xxx")
    assert len(detail) <= 4000


async def test_a_replay_opens_the_next_attempt_whatever_the_last_one_was(
    inbox: Inbox, spool: Spool, delivery: Make
) -> None:
    one = delivery()
    await inbox.accept(one, SYNC)
    with pytest.raises(StillOpen) as caught:
        await inbox.reopen(one.guid, SYNC)
    assert one.guid in caught.value.repair
    await finish(inbox, "ok")
    assert (await inbox.reopen(one.guid, SYNC)).attempt == 2
    await finish(inbox, "up_to_date")
    assert (await inbox.reopen(one.guid, Ignored("", "gone"))).status == "ignored"
    assert await verdicts(spool) == [(one.guid, 1, "ok"), (one.guid, 2, "up_to_date"), (one.guid, 3, "ignored")]
    with pytest.raises(NoSuchDelivery):
        await inbox.reopen("never-seen", SYNC)


async def test_each_repository_has_its_own_and_the_order_is_that_of_arrival(inbox: Inbox, delivery: Make) -> None:
    made = [delivery() for _ in range(6)]
    for number, one in enumerate(made):
        await inbox.accept(one, Sync("even" if number % 2 == 0 else "odd"))
    assert await inbox.waiting() == ["even", "odd"]
    assert [attempt.guid for attempt in await inbox.open_attempts("odd")] == [one.guid for one in made[1::2]]
    await finish(inbox, "dirty", "odd")
    for one in reversed(made[1::2]):
        await inbox.accept(one, Sync("odd"))
    assert [attempt.guid for attempt in await inbox.open_attempts("odd")] == [one.guid for one in made[1::2]]
    assert [one.guid for one in await inbox.newest(3)] == [one.guid for one in reversed(made[3:])]
    assert [one.guid for one in await inbox.newest(9, "even")] == [one.guid for one in reversed(made[::2])]


# What is kept.


async def held(state: State) -> int:
    return await state.read(table.held)


async def test_it_is_bounded_in_bytes_and_the_oldest_go_first(inbox: Inbox, state: State, delivery: Make) -> None:
    made = []
    for _ in range(100):
        made.append(delivery(size=30_000))
        await inbox.accept(made[-1], SYNC)
        await finish(inbox, "ok")
        assert await held(state) <= MAX_BYTES
    kept = [one.guid for one in reversed(await inbox.newest(1000))]
    assert kept == [one.guid for one in made[-len(kept) :]]
    assert len(kept) * 30_000 > MAX_BYTES * 0.8
    with pytest.raises(NoSuchDelivery):
        await inbox.get(made[0].guid)
    lines = "SELECT sum(size), count(*), (SELECT count(*) FROM gitops_attempt) FROM gitops_delivery"
    size, deliveries, attempts = await state.read(lambda connection: connection.execute(lines).fetchone())
    assert (size, deliveries) == (await held(state), attempts)


async def test_what_is_open_stays_and_a_full_inbox_takes_nothing_more(
    inbox: Inbox, state: State, delivery: Make
) -> None:
    taken = [delivery(size=30_000) for _ in range(29)]
    for one in taken:
        await inbox.accept(one, SYNC)
    refused = delivery(size=30_000)
    while await held(state) + 32 * 1024 <= MAX_BYTES:
        taken.append(delivery(size=30_000))
        await inbox.accept(taken[-1], SYNC)
    with pytest.raises(InboxFull) as caught:
        await inbox.accept(refused, SYNC)
    assert (caught.value.status, caught.value.retry_after) == (503, 60)
    assert [attempt.guid for attempt in await inbox.open_attempts("homelab")] == [one.guid for one in taken]
    assert await held(state) <= MAX_BYTES
    assert (await inbox.accept(taken[0], SYNC)).status == "open", "what is known needs no room"
    await inbox.close([((await inbox.open_attempts("homelab"))[3], Verdict("ok"))])
    await inbox.accept(refused, SYNC)
    with pytest.raises(NoSuchDelivery):
        await inbox.get(taken[3].guid)
    assert len(await inbox.open_attempts("homelab")) == len(taken)


async def test_what_is_past_keeping_goes_unless_it_is_open_or_one_of_the_last(
    inbox: Inbox, delivery: Make, clock: MovableClock
) -> None:
    waits = delivery()
    await inbox.accept(waits, Sync("other"))
    old = [delivery() for _ in range(150)]
    for one in old:
        await inbox.accept(one, SYNC)
    await finish(inbox, "ok")
    await clock.advance((table.KEPT + timedelta(hours=2)).total_seconds())
    await inbox.accept(delivery(), SYNC)
    kept = {one.guid for one in await inbox.newest(1000)}
    assert waits.guid in kept
    assert old[49].guid not in kept
    assert old[50].guid in kept
    assert len(kept) == table.KEPT_ALWAYS + 2


async def test_a_disk_that_takes_nothing_is_said_and_nothing_was_accepted(closable: Closable, delivery: Make) -> None:
    closable.read_only()
    one = delivery()
    async with living(closable.point, SystemClock()) as life:
        for decision in (SYNC, Ignored("", "no")):
            with pytest.raises(StateUnavailable):
                await life.inbox.accept(one, decision)
        closable.read_write()
        assert (await life.inbox.accept(one, SYNC)).is_new


# Any order of events.

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 5), st.sampled_from(["sync", "ignored", "pong"])),
        st.tuples(st.just("twin"), st.integers(0, 5), st.just("sync")),
        st.tuples(st.just("close"), st.just(0), st.sampled_from(["ok", "dirty", "included", "interrupted"])),
        st.tuples(st.just("replay"), st.integers(0, 5), st.just("sync")),
    ),
    max_size=25,
)
DECISIONS: dict[str, Decision] = {"sync": SYNC, "ignored": Ignored("homelab", "no"), "pong": Pong("homelab", ())}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_in_any_order_each_attempt_ends_once_and_at_most_one_of_a_delivery_is_open(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, str]]
) -> None:
    asyncio.run(live(tmp_path_factory.mktemp("inbox"), operations))


async def live(directory: Path, operations: list[tuple[str, int, str]]) -> None:
    async with living(directory, MovableClock()) as life:
        ran_well: set[str] = set()
        for operation, number, word in operations:
            await step(life.inbox, operation, number, word, ran_well)
        await check(life.inbox, life.spool)


async def step(inbox: Inbox, operation: str, number: int, word: str, ran_well: set[str]) -> None:
    one = Delivery(
        f"guid-{number:04}",
        "push",
        "",
        "",
        {},
        zlib.compress(b"%d" % number),
        b"%032d" % number,
        "main",
        frozenset(),
        "",
        EPOCH,
    )
    match operation:
        case "deliver":
            receipt = await inbox.accept(one, DECISIONS[word])
            assert not (receipt.is_new and one.guid in ran_well), "it ran well and ran again"
        case "twin":
            known = await inbox.newest(1000)
            ends = [record.attempts[-1].verdict for record in known if record.guid[5:9] == one.guid[5:9]]
            twin = await inbox.accept(replace(one, guid=f"twin-{number:04}-{len(known)}"), SYNC)
            assert (twin.status == "duplicate") == any(end in {"", *DONE} for end in ends), ends
        case "replay":
            with suppress(NoSuchDelivery, StillOpen):
                await inbox.reopen(one.guid, SYNC)
                ran_well.discard(one.guid)
        case _:
            for attempt in await finish(inbox, word):
                (ran_well.add if word in GOOD else ran_well.discard)(attempt.guid)


async def check(inbox: Inbox, spool: Spool) -> None:
    """See that every attempt that ended has one row, and that only the last of a delivery may be open."""
    rows = await verdicts(spool)
    assert len(rows) == len({row[:2] for row in rows})
    ended = set()
    for record in await inbox.newest(1000):
        assert [attempt.number for attempt in record.attempts] == list(range(1, len(record.attempts) + 1))
        assert all(attempt.verdict for attempt in record.attempts[:-1])
        ended |= {(record.guid, each.number, each.verdict) for each in record.attempts if each.verdict}
    assert set(rows) == ended
