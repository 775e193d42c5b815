"""Pushes, redeliveries, faults and deaths in any order: each attempt ends once, nothing that was done is done again.

The root half is only thought of, state.db is real; what is killed is everything in memory, between any two writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from homelab_agent.core.errors import AgentError
from homelab_agent.core.jobs import CONTAINERS, AlreadyRunning, Job, Outcome, Run
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbCutShort, VerbFailed
from homelab_agent.core.state import StateUnavailable, Work
from homelab_agent.gitops.delivery import DONE
from homelab_agent.gitops.sync import AGAIN as AGAIN_OPTION
from tests.gitops_house import House, action, die, half, house, repository
from tests.half_model import HalfModel, Tree

ONCE = action("once", "compose/**")
AGAIN = action("again", "**", repeat=True)
VERBS = ("git_sync", "git_plan", "git_changed", "git_rollback", "run_action", "run_probe")
ERRORS = (
    PrivilegedUnavailable(cause="gone"),
    VerbCutShort(message="The root half ended while it did that."),
    VerbFailed(message="It broke.", repair="mend it"),
)
FILES = ("compose/a", "notes", "docs/b")
SETTLED_SECONDS = 60.0
TURN_SECONDS = 2.0
STUCK_SECONDS = 20.0
PLACES = [(verb, when) for verb in VERBS if verb != "run_probe" for when in ("before", "after")]


class World:
    """One repository, its agent, which may die, and what must be true of both."""

    def __init__(self, rollback: str, *, is_born: bool) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="homelab-agent-machine-"))
        probe = {"kind": "unit", "target": "caddy", "within": 5.0}
        self.section = repository("homelab", ONCE, AGAIN, rollback=rollback, probe=[probe])
        self.half: HalfModel = half()
        self.half.failing = self.failing
        self.half.gate = self.gate
        if not is_born:
            self.tree.head = ""
        self.stuck: tuple[str, str] | None = None
        self.takes_to_end = 0.0
        self.is_stuck = False
        self.backups = 0
        self.looking: list[asyncio.Future[None]] = []
        self.pushed: list[str] = [self.tree.tip]
        self.guids: list[str] = []
        self.failures: dict[str, list[AgentError]] = {}
        self.refused_writes = 0
        self.writes_left: int | None = None
        self.dead_in_write = asyncio.Event()
        self.begun: set[tuple[str, int]] = set()
        self.broken_rules: list[str] = []
        self.moves_ended: dict[str, str] = {}
        self.stack = contextlib.AsyncExitStack()
        self.here: House

    @property
    def tree(self) -> Tree:
        return self.half.trees["homelab"]

    # The agent's life.

    async def start(self) -> None:
        self.writes_left = None
        self.dead_in_write = asyncio.Event()
        self.here = await self.stack.enter_async_context(house(self.directory, self.half, self.section))
        state = self.here.base.state
        write = state.write

        async def fallible(work: Work[Any]) -> Any:
            if self.refused_writes:
                self.refused_writes -= 1
                raise StateUnavailable(directory=state.directory, done="written", repair="", cause="disk full")
            if self.writes_left is not None:
                self.writes_left -= 1
                if self.writes_left < 0:  # it dies just before, and after the write that was the last
                    self.dead_in_write.set()
                    await asyncio.Event().wait()
            return await write(work)

        state.write = fallible  # type: ignore[method-assign]
        uses = frozenset({CONTAINERS})
        self.here.base.jobs.add([Job("backup", self.back_up, deadline=86400.0, uses=uses)])

    async def kill(self, writes: int) -> None:
        """Kill it after so many more writes, or when it has nothing more to do."""
        self.writes_left = writes
        dead = asyncio.ensure_future(self.dead_in_write.wait())
        while not dead.done():
            quiet = asyncio.ensure_future(self.is_quiet())  # to ask may be the last thing that it does
            await asyncio.wait({dead, quiet}, return_when=asyncio.FIRST_COMPLETED)
            if quiet.done() and quiet.result():
                break
            await self.turn()
        await die()
        self.writes_left = None
        await self.stack.aclose()
        self.stack = contextlib.AsyncExitStack()
        await self.start()

    async def stop(self) -> None:
        """Stop it in order, whatever it does, and start it again."""
        await self.stack.aclose()
        await die()  # what was not waited for ends with the process
        self.stack = contextlib.AsyncExitStack()
        await self.start()

    async def turn(self) -> None:
        await asyncio.sleep(0.001)
        await self.here.clock.advance(TURN_SECONDS)

    async def is_quiet(self) -> bool:
        try:
            looks = any(not look.done() for look in self.looking)
            later = self.here.service.worker.goes_on_later("homelab")
            return not looks and not later and await self.here.is_quiet()
        except StateUnavailable:
            return False

    async def settle(self) -> None:
        end = time.monotonic() + SETTLED_SECONDS  # its clock is moved, but disk and threads take time of ours
        while time.monotonic() < end and not await self.is_quiet():
            await self.turn()
        assert await self.is_quiet(), await self.here.attempts()
        await self.judge()

    # What happens to it.

    async def push(self, file: str, *, delivered: bool, parent: int | None) -> None:
        before = self.pushed[-1 - parent % len(self.pushed)] if parent is not None else None
        sha = self.tree.push({file: str(len(self.pushed))}, parent=before)
        self.pushed.append(sha)
        if delivered:
            await self.deliver(sha)

    async def deliver(self, sha: str, guid: str = "", body: bytes = b"") -> None:
        with contextlib.suppress(StateUnavailable):
            self.guids.append((await self.here.deliver(sha, guid=guid, body=body)).guid)

    async def redeliver(self, number: int) -> None:
        if not self.guids:
            return
        guid = self.guids[number % len(self.guids)]
        _, body = await self.here.service.inbox.content(guid)
        await self.deliver((await self.here.service.inbox.get(guid)).after_sha, guid, body)

    async def deliver_twice(self, number: int) -> None:
        """Deliver the body of a known delivery under another GUID: nothing follows unless that ended badly."""
        if not self.guids:
            return
        guid = self.guids[number % len(self.guids)]
        known = await self.here.service.inbox.get(guid)
        _, body = await self.here.service.inbox.content(guid)
        with contextlib.suppress(StateUnavailable):
            receipt = await self.here.deliver(known.after_sha, body=body)
            if receipt.status != "duplicate":
                known = await self.here.service.inbox.get(guid)  # it may have ended only just before
                assert known.attempts[-1].verdict not in {"", *DONE}
                self.guids.append(receipt.guid)

    async def ask(self, job: str, *options: str) -> None:
        with contextlib.suppress(AlreadyRunning, StateUnavailable):
            await self.here.base.jobs.start(job, options=frozenset(options))

    async def look(self) -> None:
        self.looking = [look for look in self.looking if not look.done()]
        self.looking.append(asyncio.ensure_future(self.here.service.poll.look("homelab")))
        await asyncio.sleep(0.001)

    async def cancel(self, *, only_waiting: bool = False) -> None:
        for run in self.here.base.jobs.live():
            if run.waits_for or not only_waiting:
                await self.here.base.jobs.cancel(run.id)

    async def back_up(self, _: Run) -> Outcome:
        """Use the containers for a while: no action runs meanwhile."""
        self.backups += 1
        try:
            await self.here.clock.sleep(STUCK_SECONDS)
        finally:
            self.backups -= 1
        return Outcome(ok=True, detail="")

    def stick(self, place: tuple[str, str], takes_to_end: float) -> None:
        """Have the half stuck in a place, once; cancelled there, it takes so long to end."""
        self.stuck, self.is_stuck, self.takes_to_end = place, False, takes_to_end

    async def until_stuck(self) -> None:
        """Wait until the half is stuck, or does not get there."""
        for _ in range(40):
            if self.is_stuck or await self.is_quiet():
                break
            await asyncio.sleep(0.001)

    def failing(self, verb: str) -> AgentError | None:
        errors = self.failures.get(verb)
        return errors.pop() if errors else None

    async def gate(self, _: str, verb: str, when: str) -> None:
        if verb == "run_action" and when == "before":
            await self.judge_action()
        if (verb, when) == self.stuck:
            self.stuck, self.is_stuck = None, True
            try:
                await self.here.clock.sleep(STUCK_SECONDS)
            except asyncio.CancelledError:
                await self.here.clock.sleep(self.takes_to_end)
                raise
        await asyncio.sleep(0)

    # What must be true.

    async def judge_action(self) -> None:
        """An action begins: that is on disk, and it may begin again if it did before for the same move.

        What is raised here would be an error of the root half's, and no failure of the test: it is written down.
        """
        if self.backups:
            self.broken_rules.append("an action runs while others use the containers")
        started = [row for row in await self.here.rows("gitops_action") if row["state"] == "started"]
        if len(started) != 1:
            self.broken_rules.append(f"an action begins while on disk these have begun: {started}")
            return
        key = (started[0]["move_id"], started[0]["position"])
        if key in self.begun and started[0]["name"] != "again":
            self.broken_rules.append(f"{started[0]['name']} runs twice for one move")
        self.begun.add(key)

    async def judge(self) -> None:
        """Nothing is under way: what became of everything, and of each thing once."""
        assert not self.broken_rules
        assert max(self.half.most_at_once.values(), default=0) <= 1
        attempts = await self.here.attempts()
        assert all(row["verdict"] and row["closed_at"] for row in attempts.values())
        told = [(row.values["guid"], row.values["attempt"], row.values["verdict"]) for row in await self.spooled()]
        assert sorted(told) == sorted((guid, number, row["verdict"]) for (guid, number), row in attempts.items())
        moves = await self.here.rows("gitops_move")
        for move in moves:
            assert move["state"] != "running", "what the root half went away from goes on by itself"
            assert self.moves_ended.setdefault(move["id"], move["state"]) == move["state"]
        deployed = {move["to_sha"] for move in moves if move["state"] == "ok"} - {""}
        assert deployed <= set(self.tree.reached)
        assert await self.here.deployed() in {"", *deployed}
        for row in attempts.values():
            if row["verdict"] in {"ok", "up_to_date", "included"}:
                assert row["sha_reached"] in deployed
            if row["verdict"] == "included":
                assert self.tree.contains(row["sha_reached"], row["sha_asked"])

    async def spooled(self) -> list[Any]:
        return await self.here.spooled("gitops_verdict")

    async def finish(self) -> None:
        """Mend everything, and see that it all gets well."""
        self.failures.clear()
        self.refused_writes, self.stuck = 0, None
        self.tree.dirty, self.tree.broken, self.tree.holds = False, frozenset(), True
        self.tree.lacks_submodules = False
        self.tree.broken_at.clear()
        await self.settle()
        if not self.tree.contains(self.tree.tip, self.tree.head):
            self.tree.go(self.tree.tip)  # what was pushed by force, a person puts right
        await self.here.service.deployments["homelab"].forgive()
        record = await self.here.ask()
        assert record.state == "ok", record
        assert self.tree.head == self.tree.tip == await self.here.deployed()
        await self.judge()
        assert await self.here.service.moves.unfinished() == []
        await self.judge_actions()

    async def judge_actions(self) -> None:
        """Of the files that it follows, each action has last seen what is there now: none was left out on the way."""
        found = (await self.here.rows("gitops_move"))[0]["to_sha"]
        now = self.tree.files[self.tree.head]
        for name, top in (("once", "compose/"), ("again", "")):
            seen = self.tree.files.get(next((sha for sha, ran in self.tree.done[::-1] if ran == name), found), {})
            assert {path: text for path, text in seen.items() if path.startswith(top)} == {
                path: text for path, text in now.items() if path.startswith(top)
            }, (name, await self.here.moves(), self.tree.done)

    async def close(self) -> None:
        await die()
        await self.stack.aclose()
        await asyncio.to_thread(shutil.rmtree, self.directory)


class Machine(RuleBasedStateMachine):
    """Rules are what happens; each leaves the agent where it is, which may be in the middle of something."""

    runner: asyncio.Runner
    world: World
    rollbacks: ClassVar = st.sampled_from(["manual", "automatic"])
    durations: ClassVar = st.sampled_from([0.0, 12.0, 100.0])

    @initialize(rollback=rollbacks, is_born=st.sampled_from([True, True, False]))
    def begin(self, rollback: str, is_born: bool) -> None:  # noqa: FBT001
        self.runner = asyncio.Runner()
        self.runner.run(self._begin(rollback, is_born=is_born))

    async def _begin(self, rollback: str, *, is_born: bool) -> None:
        self.world = World(rollback, is_born=is_born)
        await self.world.start()

    @rule(
        file=st.sampled_from(FILES),
        delivered=st.booleans(),
        parent=st.one_of(st.none(), st.none(), st.integers(0, 5)),
    )
    def push(self, file: str, delivered: bool, parent: int | None) -> None:  # noqa: FBT001
        self.runner.run(self.world.push(file, delivered=delivered, parent=parent))

    @rule(number=st.integers(0, 50))
    def deliver_late(self, number: int) -> None:
        pushed = self.world.pushed
        self.runner.run(self.world.deliver(pushed[number % len(pushed)]))

    @rule(number=st.integers(0, 50))
    def redeliver(self, number: int) -> None:
        self.runner.run(self.world.redeliver(number))

    @rule(number=st.integers(0, 50))
    def deliver_twice(self, number: int) -> None:
        self.runner.run(self.world.deliver_twice(number))

    @rule(verb=st.sampled_from(VERBS), error=st.sampled_from(ERRORS), times=st.integers(1, 3))
    def fail(self, verb: str, error: AgentError, times: int) -> None:
        self.world.failures[verb] = [error] * times

    @rule(broken=st.sets(st.sampled_from(["once", "again"])), here_only=st.booleans())
    def break_actions(self, broken: set[str], here_only: bool) -> None:  # noqa: FBT001
        tree = self.world.tree
        if here_only:
            tree.broken_at[tree.tip] = frozenset(broken)
        else:
            tree.broken = frozenset(broken)

    @rule(dirty=st.booleans(), holds=st.booleans(), lacks=st.booleans())
    def touch(self, dirty: bool, holds: bool, lacks: bool) -> None:  # noqa: FBT001
        self.world.tree.dirty, self.world.tree.holds = dirty, holds
        self.world.tree.lacks_submodules = lacks

    @rule(times=st.integers(1, 4))
    def fill_the_disk(self, times: int) -> None:
        self.world.refused_writes = times

    @rule(job=st.sampled_from(["gitops.sync.homelab", "gitops.rollback.homelab", "backup"]))
    def ask(self, job: str) -> None:
        self.runner.run(self.world.ask(job))

    @rule()
    def ask_again(self) -> None:
        self.runner.run(self.world.ask("gitops.sync.homelab", AGAIN_OPTION))

    @rule()
    def look(self) -> None:
        self.runner.run(self.world.look())

    @rule(only_waiting=st.booleans())
    def cancel(self, only_waiting: bool) -> None:  # noqa: FBT001
        self.runner.run(self.world.cancel(only_waiting=only_waiting))

    @rule(place=st.sampled_from(PLACES), takes_to_end=durations)
    def stick(self, place: tuple[str, str], takes_to_end: float) -> None:
        self.world.stick(place, takes_to_end)

    @rule(place=st.sampled_from(PLACES), takes_to_end=durations, file=st.sampled_from(FILES))
    def cancel_where_it_is_stuck(self, place: tuple[str, str], takes_to_end: float, file: str) -> None:
        self.runner.run(self._cancel_stuck(place, takes_to_end, file))

    async def _cancel_stuck(self, place: tuple[str, str], takes_to_end: float, file: str) -> None:
        self.world.stick(place, takes_to_end)
        await self.world.push(file, delivered=True, parent=None)
        await self.world.until_stuck()
        await self.world.cancel()

    @rule(file=st.sampled_from(FILES))
    def cancel_what_waits_for_a_rollback(self, file: str) -> None:
        self.runner.run(self._cancel_behind_a_rollback(file))

    async def _cancel_behind_a_rollback(self, file: str) -> None:
        await self.world.settle()
        self.world.stick(("git_rollback", "after"), 0.0)
        await self.world.ask("gitops.rollback.homelab")
        await self.world.until_stuck()
        await self.world.push(file, delivered=True, parent=None)
        await self._turns(1)
        await self.world.cancel(only_waiting=True)

    @rule(file=st.sampled_from(FILES))
    def kill_between_git_and_what_follows(self, file: str) -> None:
        self.runner.run(self._kill_after_git(file))

    async def _kill_after_git(self, file: str) -> None:
        self.world.stick(("git_sync", "after"), 0.0)
        await self.world.push(file, delivered=True, parent=None)
        await self.world.until_stuck()
        await self.world.kill(0)

    @rule(turns=st.integers(1, 10))
    def go_on(self, turns: int) -> None:
        self.runner.run(self._turns(turns))

    async def _turns(self, turns: int) -> None:
        for _ in range(turns):
            await self.world.turn()

    @rule(writes=st.integers(0, 12))
    def kill(self, writes: int) -> None:
        self.runner.run(self.world.kill(writes))

    @rule(file=st.sampled_from(FILES), writes=st.integers(0, 12))
    def push_and_kill(self, file: str, writes: int) -> None:
        self.runner.run(self._push_and_kill(file, writes))

    async def _push_and_kill(self, file: str, writes: int) -> None:
        await self.world.push(file, delivered=True, parent=None)
        await self.world.kill(writes)

    @rule()
    def stop(self) -> None:
        self.runner.run(self.world.stop())

    @rule()
    def settle(self) -> None:
        self.world.refused_writes = 0
        self.runner.run(self.world.settle())

    @invariant()
    def one_thing_at_a_time(self) -> None:
        if hasattr(self, "world"):
            assert max(self.world.half.most_at_once.values(), default=0) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.runner.run(self.world.finish())
        finally:
            self.runner.run(self.world.close())
            self.runner.close()


COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=[Phase.reuse, Phase.generate],  # state.db has threads: what failed may not fail again while it is shrunk
)

TestMachine = Machine.TestCase
TestMachine.settings = settings(COMMON, max_examples=50, stateful_step_count=30)


FOR_LONG = {"settings": settings(COMMON, max_examples=1000, stateful_step_count=60)}
TestMachineForLong = pytest.mark.soak(type("TestMachineForLong", (Machine.TestCase,), FOR_LONG))
