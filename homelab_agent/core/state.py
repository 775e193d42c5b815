"""The one SQLite file, `state.db`: one writer, who commits for many at once, and a reader beside it."""

from __future__ import annotations

import asyncio
import queue
import resource
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from homelab_agent.core import statefile
from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.statefile import Examination, StateUnavailable, read_only
from homelab_agent.core.worker import Worker

__all__ = ["State", "StateUnavailable", "Work", "read_only"]

T = TypeVar("T")
Work: TypeAlias = Callable[[sqlite3.Connection], T]

GROUP_MAX = 512
"""How many writes share one commit at most."""


@dataclass(frozen=True, slots=True)
class _Order:
    """A write that waits for the writer, and where its outcome goes: to the loop that it was asked for on."""

    work: Work[Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Failed:
    """The outcome of a write that raised."""

    error: BaseException


class State:
    """The agent's durable memory.

    Writes that come while a commit is under way share the next one, and with it the one fsync that makes them
    durable. A disk that is full or does not let itself be written makes writes raise `StateUnavailable`; each
    later write tries anew, so that nothing need be done here once the cause is gone.

    `lost` says what was lost and where it was set aside, until the operator removes the note `state.lost`.
    `on_change` is called on the loop that asked, as soon as the disk does not take a write, and when it does again.
    `openings` grows whenever the database is opened anew: what was counted in it before may no longer hold.
    `bytes_written` (to the disk, carrying over the log included) is for the agent's own cost.
    """

    def __init__(self, directory: Path, schemas: Sequence[Path], clock: Clock) -> None:
        self.directory = directory
        self.lost = ""
        self.on_change: Callable[[Finding], None] = lambda _: None
        self.openings = 0
        self.bytes_written = 0
        self._clock = clock
        self._schemas = tuple(schemas)
        self._scripts: Sequence[str] = ()
        self._failure: StateUnavailable | None = None
        self._examine: Examination | None = Examination.QUICK
        self._closing = False
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._writer: sqlite3.Connection | None = None
        self._writer_ended: Future[None] = Future()
        self._reader: sqlite3.Connection | None = None
        self._reader_opening = 0
        self._reader_thread = Worker("state-reader")

    @classmethod
    async def open(cls, directory: Path, schemas: Sequence[Path], *, clock: Clock) -> State:
        """Open `state.db` in `directory`, or begin it; `schemas` are scripts of CREATE ... IF NOT EXISTS.

        A damaged file is set aside and `lost` says so. A directory that cannot be written to gives a State
        all the same: `write` raises until it can.
        """
        state = cls(directory, schemas, clock)
        state._scripts = await state._reader_thread.run(statefile.read_scripts, schemas)
        threading.Thread(target=state._write_all, name="state-writer", daemon=True).start()
        with suppress(StateUnavailable):
            await state.write(_nothing)
        return state

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is on disk.

        `work` runs in the writer's thread and, when a neighbour fills the disk, more than once: it must do
        nothing but speak to the connection, and neither commit nor roll back. What it raises undoes it alone
        and is raised here; a disk that does not take it raises `StateUnavailable`. Cancelled, it may still be
        done.
        """
        self._refuse_when_closing("written")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._orders.put(_Order(work, future))
        return await future

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a connection that can only read, return its result; raises `StateUnavailable`."""
        self._refuse_when_closing("read")
        return await self._reader_thread.run(self._read, work)

    def checks(self) -> Sequence[Check]:
        """Return the check "state"; the gate needs it, for a delivery is a promise."""
        return [Check("state", self._probe, blocks=frozenset({"gate"}))]

    async def close(self) -> None:
        """Finish what is waiting and close the file; later calls raise `StateUnavailable`."""
        if self._closing:
            return
        self._closing = True
        # The writer closes last: the last to close the file carries its log over and removes it.
        await self._reader_thread.run(self._close_reader)
        self._reader_thread.close()
        self._orders.put(None)
        await asyncio.shield(asyncio.wrap_future(self._writer_ended))

    async def _probe(self) -> Finding:
        """Say how it stands. Something is written only after a failure, to see whether it works again."""
        if self._failure is not None:
            with suppress(StateUnavailable):
                await self.write(self._prove)
        if self._failure is None:
            try:
                self.lost = await self._reader_thread.run(statefile.read_loss, self.directory)
            except OSError as error:
                return Finding.of(statefile.unavailable(self.directory, error, done="read"))
        return self._standing()

    def _standing(self) -> Finding:
        if (failure := self._failure) is not None:
            return Finding.of(failure)
        if self.lost:
            acknowledge = f"rm {self.directory / 'state.lost'}  (when you have read it)"
            return Finding.degraded(f"earlier state was lost: {self.lost}", acknowledge)
        return Finding.ok("what is written is durable")

    def _prove(self, connection: sqlite3.Connection) -> None:
        now = self._clock.read().wall.isoformat()
        connection.execute("INSERT OR REPLACE INTO state_proof (id, proved_at) VALUES (1, ?)", (now,))

    def _refuse_when_closing(self, done: str) -> None:
        if self._closing:
            cause = "the agent is stopping"
            raise StateUnavailable(directory=self.directory, done=done, repair="", cause=cause)

    def _tell(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Order],
        outcomes: Sequence[object],
        found: Finding | None,
    ) -> None:
        """Tell everyone who waits on this loop, in one go: to wake it for each costs more than the write."""
        for order, outcome in zip(group, outcomes, strict=True):
            if order.future.get_loop() is not loop or order.future.done():
                continue
            if isinstance(outcome, _Failed):
                order.future.set_exception(outcome.error)
            else:
                order.future.set_result(outcome)
        if found is not None:
            self.on_change(found)

    # What follows runs in the writer's thread.

    def _write_all(self) -> None:
        orders: list[_Order | None] = []
        while None not in orders:
            orders = self._wait_for_orders()
            group = [order for order in orders if order and not order.future.cancelled()]
            outcomes = self._commit(group) if group else []
            before, self._failure = self._failure, _disks_failure(outcomes) if group else self._failure
            found = self._standing() if self._failure is not before else None
            self.bytes_written = resource.getrusage(resource.RUSAGE_THREAD).ru_oublock * 512
            for loop in {order.future.get_loop() for order in group}:
                with suppress(RuntimeError):  # it is closed: nobody waits there any more
                    loop.call_soon_threadsafe(self._tell, loop, group, outcomes, found)
        self._disconnect()
        self._writer_ended.set_result(None)

    def _wait_for_orders(self) -> list[_Order | None]:
        orders = [self._orders.get()]
        while len(orders) < GROUP_MAX and not self._orders.empty():
            orders.append(self._orders.get())
        return orders

    def _commit(self, group: Sequence[_Order]) -> list[object]:
        """Return the outcome of each write, all of them on disk together."""
        try:
            outcomes = self._transact(group)
        except Exception as error:  # noqa: BLE001 - the thread goes on; who asked for the write is told
            if len(group) > 1 and (statefile.is_full(error) or not statefile.is_unavailable(error)):
                # One that does not fit must not take along its neighbours that do.
                return [outcome for order in group for outcome in self._commit([order])]
            return [_Failed(self._fail(error)) for _ in group]
        return outcomes

    def _transact(self, group: Sequence[_Order]) -> list[object]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [_attempt(connection, order.work) for order in group]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return outcomes

    def _fail(self, error: Exception) -> Exception:
        """Return what to raise for `error`, and see to it that the next write finds a sound connection."""
        if not statefile.is_unavailable(error):
            return error
        if not statefile.is_full(error):
            self._disconnect()
        if statefile.is_damage(error):
            self._examine = Examination.FULL
        return statefile.unavailable(self.directory, error, done="written")

    def _connected(self) -> sqlite3.Connection:
        if self._examine:
            self._disconnect()
        if self._writer is None:
            now = self._clock.read().wall
            self._writer = statefile.open_writer(self.directory, self._scripts, examine=self._examine, now=now)
            self._examine = None
            self.lost = statefile.read_loss(self.directory)
            self.openings += 1
        return self._writer

    def _disconnect(self) -> None:
        if self._writer is not None:
            with suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None

    # What follows runs in the reader's thread.

    def _read(self, work: Work[T]) -> T:
        if self._reader_opening != self.openings:
            self._close_reader()
        try:
            if self._reader is None:
                self._reader_opening = self.openings
                self._reader = statefile.open_reader(self.directory)
            return work(self._reader)
        except (sqlite3.Error, OSError) as error:
            if not statefile.is_unavailable(error):
                raise
            self._close_reader()
            if statefile.is_damage(error):
                self._examine = Examination.FULL
            raise statefile.unavailable(self.directory, error, done="read") from error

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _disks_failure(outcomes: Sequence[object]) -> StateUnavailable | None:
    """Return why the disk did not take all of them, None if it did."""
    errors = (outcome.error for outcome in outcomes if isinstance(outcome, _Failed))
    return next((error for error in errors if isinstance(error, StateUnavailable)), None)


def _attempt(connection: sqlite3.Connection, work: Work[object]) -> object:
    """Return the outcome of one write inside the transaction; raises only what ends the transaction."""
    connection.execute("SAVEPOINT work")
    try:
        outcome = work(connection)
    except BaseException as error:
        if isinstance(error, sqlite3.Error) and statefile.is_unavailable(error):
            raise
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        return _Failed(error)
    connection.execute("RELEASE work")
    return outcome


def _nothing(_: sqlite3.Connection) -> None:
    """Only see to it that the database is open."""
