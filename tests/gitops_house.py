"""GitOps on a real state.db, spool and jobs, with a root half that is only thought of; it can die like an agent."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import sqlite3
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

import homelab_agent
from homelab_agent.core.capability import Capability
from homelab_agent.core.clock import Clock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Finding, Health
from homelab_agent.core.jobs import Jobs, RunRecord
from homelab_agent.core.jobs.run import Trigger
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.gitops import service
from homelab_agent.gitops.delivery import Delivery, Receipt
from homelab_agent.gitops.selection import Accepted
from homelab_agent.gitops.settings import GitopsSettings
from tests.clock import MovableClock, until
from tests.database import NoDatabase
from tests.half_model import HalfModel, Tree

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))
T = TypeVar("T")
_numbers = itertools.count(1)


def action(name: str, *paths: str, **more: Any) -> dict[str, Any]:
    """Return an action's section."""
    return {"name": name, "paths": list(paths or ["**"]), "command": ["true"], **more}


def repository(name: str = "homelab", *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a repository's section."""
    known = {"name": name, "full_name": f"octo/{name}", "id": 1, "directory": f"/srv/{name}", "action": list(actions)}
    return {**known, **more}


def half(*names: str) -> HalfModel:
    """Return a root half with repositories of one commit, checked out."""
    trees = {name: Tree() for name in names or ("homelab",)}
    for tree in trees.values():
        tree.push({"README.md": "1"})
        tree.adopt()
    return HalfModel(trees)


@dataclass(slots=True)
class House:
    base: Foundation
    half: HalfModel
    service: service.Service
    capability: Capability
    clock: MovableClock = field(init=False)

    def __post_init__(self) -> None:
        assert isinstance(self.base.clock, MovableClock)
        self.clock = self.base.clock

    @property
    def tree(self) -> Tree:
        """The only repository, or the first."""
        return next(iter(self.half.trees.values()))

    async def push(self, changes: Mapping[str, str] | None = None, *, name: str = "homelab") -> str:
        """Push a commit and deliver its webhook; return the delivery's GUID."""
        tree = self.half.trees[name]
        return (await self.deliver(tree.push(changes or {"a": str(next(_numbers))}), name=name)).guid

    async def deliver(self, sha: str, *, guid: str = "", name: str = "homelab", body: bytes = b"") -> Receipt:
        """Deliver a webhook about a commit, as the receiver does: committed, then somebody is woken."""
        guid = guid or f"guid-{next(_numbers):08}"
        body = body or f"{guid} {sha}".encode()
        delivery = Delivery(
            guid=guid,
            event="push",
            ref="refs/heads/main",
            after=sha,
            headers={},
            body=zlib.compress(body),
            digest=hashlib.sha256(body).digest(),
            key_name="main",
            signers=frozenset({name}),
            source="198.51.100.7",
            received_at=self.clock.read().wall,
        )
        receipt = await self.service.inbox.accept(delivery, Accepted(name))
        if receipt.status == "open":
            self.service.worker.wake(name)
        return receipt

    async def ask(self, trigger: Trigger = "command", *, name: str = "homelab") -> RunRecord:
        """Run a sync and return how it ended."""
        return await self.run(f"gitops.sync.{name}", trigger)

    async def run(self, job: str, trigger: Trigger = "command") -> RunRecord:
        """Run a job, once nothing else is under way, and return how it ended."""
        await self.quiet()
        run_id = await self.base.jobs.start(job, trigger)
        return await self.ended(run_id)

    async def ended(self, run_id: str) -> RunRecord:
        """Wait until a run has ended."""
        async with asyncio.timeout(10):
            with self.base.jobs.changes.subscribe() as changes:
                while (record := await self.base.jobs.get(run_id)) is None or not record.ended:
                    await changes.get()
        return record

    async def closed(self, guid: str, number: int = 1) -> tuple[str, str]:
        """Wait until an attempt has its verdict; return it and its detail."""

        async def found() -> list[str]:
            one = (await self.attempts()).get((guid, number))
            return [one["verdict"], one["detail"]] if one is not None and one["verdict"] else []

        verdict, detail = await eventually(found, f"the verdict of attempt {number} of {guid}")
        return verdict, detail

    async def quiet(self) -> None:
        """Wait until nothing is open, and no run is under way or asked for."""
        await eventually(self.is_quiet, "quiet")

    async def is_quiet(self) -> bool:
        worker = self.service.worker
        if not worker._looked or worker._left or any(map(worker.is_busy, self.half.trees)):
            return False
        return not await self.service.inbox.waiting() and not await self.live_runs()

    async def live_runs(self) -> list[RunRecord]:
        return [run for run in await self.base.jobs.history(limit=200) if not run.ended]

    async def runs(self, name: str = "homelab") -> list[RunRecord]:
        """Return the syncs, the oldest first."""
        return (await self.base.jobs.history(job=f"gitops.sync.{name}", limit=500))[::-1]

    async def attempts(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return every attempt, by its delivery and number."""
        return {
            (delivery.guid, attempt.number): dataclasses.asdict(attempt)
            for delivery in await self.service.inbox.newest(10_000)
            for attempt in delivery.attempts
        }

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """Return a table of state.db."""

        def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

        return await self.base.state.read(work)

    async def moves(self, name: str = "homelab") -> list[tuple[str, str, str]]:
        """Return each move, the oldest first: from, to, state."""
        found = (await self.service.moves.newest(name, 500))[::-1]
        return [(move.from_sha, move.to_sha, move.state) for move in found]

    async def deployed(self, name: str = "homelab") -> str:
        move = await self.service.moves.deployed(name)
        return move.to_sha if move is not None else ""

    async def spooled(self, table: str) -> list[Row]:
        batch = await self.base.spool.take(100_000)
        return [row for row in batch.rows if row.table == table] if batch is not None else []

    async def finding(self, check: str = "gitops.homelab") -> Finding:
        """Return what a check finds once nothing is under way: a verdict is on disk before anyone is told of it."""
        await self.quiet()
        [one] = [one for one in self.capability.checks if one.name == check]
        assert one.probe is not None
        return await one.probe()


@contextlib.asynccontextmanager
async def house(
    directory: Path,
    half: HalfModel,
    *repositories: dict[str, Any],
    working: bool = True,
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[House]:
    """Give an agent's GitOps that works; when the context ends it stops in order, or dies if `die` was called."""
    clock = clock or MovableClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 27, max_age=7 * 86400.0)
    jobs = Jobs(state, spool, clock, host="attic", timezone=UTC)
    base = Foundation(
        "attic", directory, clock, state, spool, Health(clock), jobs, NoDatabase(), CollectorRegistry(), half
    )
    section = GitopsSettings(**{"poll": 0, "repository": list(repositories or [repository()]), **more})
    parts = service.Service(section, base)
    here = House(base, half, parts, parts.capability())
    base.jobs.add(here.capability.jobs)
    base.health.add(here.capability.checks)
    task = asyncio.ensure_future(here.service.run()) if working else None
    try:
        yield here
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        stopping = asyncio.ensure_future(jobs.stop(6))
        while not (await asyncio.wait({stopping}, timeout=0.1))[0]:  # what waits for long has its end all the same
            await here.clock.advance(1)
        await spool.close()
        await state.close()


async def eventually(condition: Callable[[], Awaitable[T]], what: str, *, seconds: float = 20.0) -> T:
    """Return the first true answer of `condition`; fail when there is none within `seconds` of real time."""
    async with asyncio.timeout(seconds):
        while not (answer := await condition()):  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.002)
    assert answer, what
    return answer


async def die() -> None:
    """End every task but this one at once, as a kill does."""
    while left := asyncio.all_tasks() - {asyncio.current_task()}:  # one that ends in order is killed in that, too
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.05)


__all__ = ["House", "action", "die", "eventually", "half", "house", "repository", "until"]
