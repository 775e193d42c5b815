"""The worker: however many pushes, few syncs and one verdict each; what waits is never forgotten, whatever ends."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from homelab_agent.core.privilege import VerbFailed
from homelab_agent.core.state import StateUnavailable, Work
from tests.clock import until
from tests.gitops_house import House, action, die, eventually, half, house, repository
from tests.half_model import Brake

LAST = action("last")


async def test_200_pushes_at_once_are_two_further_syncs_at_most_and_200_verdicts(tmp_path: Path) -> None:
    async with house(tmp_path, half()) as here:
        await here.ask()
        guids = await asyncio.gather(*(here.push({f"file{number}": "1"}) for number in range(200)))
        await here.quiet()
        assert len(await here.runs()) - 1 <= 2
        assert here.half.most_at_once == {"homelab": 1}
        attempts = await here.attempts()
        assert set(attempts) == {(guid, 1) for guid in guids}
        verdicts = Counter(row["verdict"] for row in attempts.values())
        assert set(verdicts) <= {"ok", "up_to_date", "included"}
        assert verdicts["included"] >= 198
        assert here.tree.head == here.tree.tip
        assert len(await here.spooled("gitops_verdict")) == 200


async def test_a_superseded_push_is_included_in_the_commit_that_was_reached(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        brake = here.half.gate = Brake(("run_action", "before"))
        first = await here.push()
        await brake.held.wait()
        waiting = [await here.push() for _ in range(3)]  # while the first one's action runs
        brake.release()
        await here.quiet()
        assert (await here.closed(first))[0] == "ok"
        included = ("included", f"included in {here.tree.tip}")
        assert [await here.closed(guid) for guid in waiting[:2]] == [included, included]
        assert (await here.closed(waiting[2]))[0] == "ok"
        assert [record.trigger for record in await here.runs()] == ["command", "webhook", "webhook"]
        assert len(here.tree.ran) == 2


async def test_pushes_that_arrive_in_the_wrong_order_all_arrive(tmp_path: Path) -> None:
    async with house(tmp_path, half(), working=False) as here:
        shas = [here.tree.push({"a": str(number)}) for number in range(4)]
        guids = [(await here.deliver(shas[place])).guid for place in (2, 3, 0, 1)]
        working = asyncio.ensure_future(here.service.run())
        await here.quiet()
        assert here.tree.head == shas[3]
        assert [(await here.closed(guid))[0] for guid in guids] == ["included", "ok", "included", "included"]
        late = await here.deliver(shas[1])  # that of an older commit, after all others
        assert await here.closed(late.guid) == ("included", f"included in {shas[3]}")
        working.cancel()


async def test_one_push_is_deployed_as_it_was_pushed_though_the_branch_has_more(tmp_path: Path) -> None:
    async with house(tmp_path, half()) as here:
        await here.ask()
        sha = here.tree.push({"a": "1"})
        here.tree.push({"a": "2"})  # its webhook is on its way
        assert (await here.closed((await here.deliver(sha)).guid))[0] == "ok"
        assert here.tree.head == sha


async def test_what_failed_is_tried_again_when_the_forge_sends_it_again_under_a_new_guid(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        sha = here.tree.push({"a": "1"})
        here.tree.broken = frozenset({"last"})
        first = await here.deliver(sha, body=b"the same")
        assert (await here.closed(first.guid))[0] == "action_failed"
        here.tree.broken = frozenset()
        again = await here.deliver(sha, body=b"the same")
        assert (again.status, again.guid == first.guid) == ("open", False)
        assert (await here.closed(again.guid))[0] == "ok"
        assert here.tree.ran == [(sha, "last"), (sha, "last")]


async def test_a_commit_that_was_forced_away_ends_with_the_branch_s_verdict_and_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, half()) as here:
        await here.ask()
        base = here.tree.tip
        lost = here.tree.push({"a": "1"})
        here.tree.push({"b": "1"}, parent=base)
        verdict, detail = await here.closed((await here.deliver(lost)).guid)
        assert (verdict, detail) == (
            "ok",
            f"{base[:7]} to {here.tree.tip[:7]}; nothing had to follow; {lost[:7]} is not part of it",
        )


async def test_no_more_repositories_are_synced_at_once_than_the_configuration_says(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(6)]
    busy: list[int] = []
    async with house(tmp_path, half(*names), *map(repository, names), syncs_at_once=2) as here:
        brake = Brake(("git_sync", "before"))

        async def gate(*place: str) -> None:
            busy.append(sum(here.half.at_once.values()))
            await brake(*place)

        here.half.gate = gate
        guids = [await here.push(name=name) for name in names]

        async def are_live() -> bool:
            return len(await here.live_runs()) == len(names) and busy[-1:] == [2]

        await eventually(are_live, "all runs, two of them at work")
        brake.release()
        await here.quiet()
        assert max(busy) == 2
        for guid in guids:
            assert (await here.closed(guid))[0] == "ok"


async def test_what_waits_when_the_agent_is_killed_or_stopped_is_taken_up_by_the_next_start(tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, working=False) as here:
        killed = await here.push()
        await die()
    async with house(tmp_path, root_half) as here:
        assert (await here.closed(killed))[0] == "ok"
        brake = root_half.gate = Brake(("git_sync", "after"))
        stopped = await here.push()
        await brake.held.wait()
    root_half.gate = None
    async with house(tmp_path, root_half) as here:
        assert (await here.closed(stopped))[0] in {"ok", "up_to_date"}
        assert [record.trigger for record in await here.runs()] == ["catch-up", "webhook", "catch-up"]


async def test_what_is_of_no_repository_any_more_ends_at_the_next_start(tmp_path: Path) -> None:
    root_half = half("homelab", "gone")
    async with house(tmp_path, root_half, repository("homelab"), repository("gone"), working=False) as here:
        guid = await here.push(name="gone")
        await here.service.moves.begin("gone", "a", "b")
    async with house(tmp_path, root_half, repository("homelab")) as here:
        assert await here.closed(guid) == ("ignored", "the repository is no longer in the configuration")

        async def is_over() -> bool:
            return not await here.service.moves.unfinished()

        await eventually(is_over, "the move ends")


async def test_a_run_that_a_person_cancels_ends_what_it_does_with_verdicts(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        brake = here.half.gate = Brake(("run_action", "after"))
        guid = await here.push()
        await brake.held.wait()
        waiting = await here.push()
        [live] = await here.live_runs()
        assert await here.base.jobs.cancel(live.id)
        here.half.gate = None
        assert (await here.closed(guid)) == ("interrupted", "it was asked to stop, or took too long")
        assert (await here.ended(live.id)).state == "cancelled"
        assert (await here.closed(waiting))[0] == "ok"  # it came later, and was not asked to stop
        assert [state for _, _, state in await here.moves()] == ["ok", "interrupted", "ok"]
        assert [row["state"] for row in await here.rows("gitops_action")] == ["interrupted", "ok"]


async def test_a_run_that_takes_too_long_ends_like_one_that_was_cancelled(tmp_path: Path) -> None:
    async with house(tmp_path, half()) as here:
        brake = here.half.gate = Brake(("git_sync", "before"))
        guid = await here.push()
        await brake.held.wait()
        [job, _] = here.capability.jobs
        await here.clock.advance(job.deadline + 1)
        assert (await here.closed(guid))[0] == "interrupted"
        await here.quiet()
        assert (await here.runs())[0].state == "timed_out"


async def test_a_run_that_is_cancelled_while_it_waits_for_another_ends_its_deliveries_too(tmp_path: Path) -> None:
    names = ["homelab", "other"]
    async with house(tmp_path, half(*names), *(repository(name, LAST) for name in names)) as here:
        brake = here.half.gate = Brake(("run_action", "before"))
        first = await here.push()
        await brake.held.wait()
        second = await here.push(name="other")  # both may touch containers
        await until_waiting(here)
        [waiting] = [run for run in await here.live_runs() if run.waits_for]
        assert await here.base.jobs.cancel(waiting.id)
        assert (await here.closed(second))[0] == "interrupted"
        brake.release()
        assert (await here.closed(first))[0] == "ok"


async def until_waiting(here: House) -> None:
    async def is_waiting() -> bool:
        return any(run.waits_for for run in await here.live_runs())

    await eventually(is_waiting, "a run that waits")


async def test_a_rollback_and_a_sync_of_one_repository_never_overlap(tmp_path: Path) -> None:
    async with house(tmp_path, half()) as here:
        await here.ask()
        await here.closed(await here.push())
        await here.quiet()
        brake = here.half.gate = Brake(("git_rollback", "before"))
        rollback = await here.base.jobs.start("gitops.rollback.homelab")
        await brake.held.wait()
        guid = await here.push()
        await until_waiting(here)
        brake.release()
        assert (await here.ended(rollback)).state == "ok"
        assert (await here.closed(guid))[0] == "ok"
        assert here.half.most_at_once == {"homelab": 1}


async def test_a_fault_of_ours_ends_the_attempt_and_fails_the_run(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()

        def wrong(verb: str) -> None:
            if verb == "git_changed":
                raise KeyError("paths")

        here.half.failing = wrong
        guid = await here.push()
        assert await here.closed(guid) == ("not_available", "KeyError: 'paths'")
        await here.quiet()
        assert (await here.runs())[-1].state == "failed"
        here.half.failing = lambda _: None
        await here.deliver(here.tree.tip, guid=guid)
        assert (await here.closed(guid, 2))[0] == "ok"


async def test_who_wakes_a_repository_while_another_is_started_is_heard(tmp_path: Path) -> None:
    names = ["first", "second"]
    async with house(tmp_path, half(*names), *map(repository, names), working=False) as here:
        await here.push(name="first")
        here.service.worker.wake("second")  # for nothing: its delivery had come to its end
        write = here.base.state.write
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow(work: Work[Any]) -> Any:
            if not began.is_set():
                began.set()
                await go_on.wait()
            return await write(work)

        here.base.state.write = slow  # type: ignore[method-assign]
        working = asyncio.ensure_future(here.service.run())
        await began.wait()  # the run of the first is being recorded
        guid = await here.push(name="second")
        go_on.set()
        assert (await here.closed(guid))[0] == "ok"
        working.cancel()


@dataclass(slots=True)
class Hold:
    """A write that holds the writer up until it is let go."""

    begun: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def __call__(self, _: sqlite3.Connection) -> None:
        self.begun.set()
        self.free.wait(10)


async def test_what_was_being_written_when_a_run_was_cancelled_is_given_up_too(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        state, first, second = here.base.state, Hold(), Hold()
        writes: list[asyncio.Future[None]] = []

        async def fill(_: str, verb: str, when: str) -> None:
            if (verb, when) == ("git_sync", "after"):
                writes.append(asyncio.ensure_future(state.write(first)))
                await until(first.begun.is_set, "the writer is held up")
                writes.append(asyncio.ensure_future(state.write(second)))

        here.half.gate = fill
        guid = await here.push()
        await until(lambda: state._orders.qsize() == 2, "the move is to be written, too")
        first.free.set()
        await until(second.begun.is_set, "both are being written")
        [live] = await here.live_runs()
        await here.base.jobs.cancel(live.id)
        await until(state._orders.qsize, "what follows the cancelling")
        second.free.set()
        assert (await here.closed(guid))[0] == "interrupted"
        await here.quiet()
        assert [state for _, _, state in await here.moves()] == ["ok", "interrupted"]


async def test_what_state_db_does_not_take_is_done_by_another_run_and_that_not_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        state = here.base.state
        write, refused = state.write, StateUnavailable(directory=tmp_path, done="written", repair="", cause="disk full")

        async def full(work: Work[Any]) -> Any:
            raise refused

        async def fill(_: str, verb: str, when: str) -> None:
            if (verb, when) == ("run_action", "after") and len(here.tree.ran) == 1:
                state.write = full  # type: ignore[method-assign]

        here.half.gate = fill
        guid = await here.push()
        await until(lambda: state.write is full and not here.service.syncs["homelab"].busy, "nothing can be recorded")
        state.write = write  # type: ignore[method-assign]
        await here.clock.advance(31)  # the run's end can be recorded
        await until(lambda: here.service.worker.goes_on_later("homelab"), "the worker hears of it")
        assert (await here.attempts())[guid, 1]["verdict"] == ""
        await here.clock.advance(31)
        assert (await here.closed(guid))[0] == "interrupted"  # whether the action succeeded nobody knows
        assert len(here.tree.ran) == 1


async def test_the_agent_is_restarted_once_the_run_is_recorded_and_only_after_a_deployment(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST, restart_agent=True)) as here:
        await here.ask()
        ended: list[str] = []

        async def gate(_: str, verb: str, when: str) -> None:
            if verb == "restart_agent" and when == "before":
                ended.extend(record.state for record in await here.runs())

        here.half.gate = gate
        await here.closed(await here.push())
        await until(lambda: here.half.restarts, "the restart")
        assert ended == ["ok", "ok"]
        await here.ask()
        assert here.half.restarts == 1
        here.half.failing = lambda verb: VerbFailed(message="no such unit") if verb == "restart_agent" else None
        assert (await here.closed(await here.push()))[0] == "ok"  # and the verdict stands


@pytest.mark.parametrize("token", ["", "s3cret-token"])
async def test_a_token_is_handed_over_by_descriptor_and_only_to_what_needs_it(token: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(token or "unused")
    file.chmod(0o600)
    section = repository("homelab", LAST, token=f"file:{file}" if token else "")
    async with house(tmp_path, half(), section) as here:
        await here.ask()
        await here.closed(await here.push())
        given = dict(zip(here.half.calls, here.half.given, strict=True))
        remote = int(bool(token))
        assert given == {"git_plan": remote, "git_sync": remote, "git_changed": 0, "run_action": 0}


async def test_a_token_that_cannot_be_read_is_said_with_what_mends_it(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", token="file:/nonexistent/token")) as here:
        verdict, detail = await here.closed(await here.push())
        assert verdict == "not_available"
        assert detail.startswith("The secret file:/nonexistent/token is not there.")
        assert (await here.finding()).repair.startswith("write the value into /nonexistent/token")


async def test_what_became_of_it_is_in_the_metrics_the_summary_and_the_check(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        assert here.service.status.summary() == "1 repository, nothing deployed yet"
        await here.ask()
        await here.closed(await here.push())
        await here.quiet()
        short = here.tree.tip[:7]
        await here.clock.advance(240)
        assert here.service.status.summary() == f"1 repository, deployed {short} 4 min ago"
        finding = await here.finding()
        assert (finding.state, finding.detail) == ("ok", f"deployed {short} 4 min ago")
        said = generate_latest(here.base.registry).decode()
        assert 'homelab_agent_gitops_syncs_total{repository="homelab",verdict="ok"} 1.0' in said
        assert 'homelab_agent_gitops_sync_seconds_count{repository="homelab"} 2.0' in said
        [deployed] = re.findall(r'gitops_deployed_timestamp_seconds{repository="homelab"} (.*)', said)
        assert float(deployed) == here.clock.read().wall.timestamp() - 240
        here.tree.broken = frozenset({"last"})
        await here.closed(await here.push())
        await here.quiet()
        finding = await here.finding()
        assert finding.state == "degraded"
        assert finding.detail.startswith("action_failed: action last ended with 3")
        assert finding.detail.endswith(f"deployed {short} 4 min ago")
    async with house(tmp_path, here.half, repository("homelab", LAST)) as after:
        await until(
            lambda: after.service.status.summary() == f"1 repository, deployed {short} just now",
            "the status is learned",
        )
        assert (await after.finding()).state == "degraded"  # a restart forgets nothing


async def test_deployments_and_verdicts_reach_the_spool(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        await here.push()
        await here.quiet()
        assert [row.values["verdict"] for row in await here.spooled("gitops_verdict")] == ["ok"]
        assert [row.values["state"] for row in await here.spooled("gitops_move")] == ["ok", "ok"]
        assert [row.values["name"] for row in await here.spooled("gitops_action")] == ["last"]
