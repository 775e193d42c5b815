"""The way to PostgreSQL: it comes up, is found lost, and comes up again, for as long as the agent runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, NeighbourUnreachable, describe
from homelab_agent.core.health import Finding, State
from homelab_agent.core.secret import Secrets, SecretStale
from homelab_agent.database import editions, migrations, pool
from homelab_agent.database.address import Address, AddressFaulty, Elsewhere
from homelab_agent.database.editions import Edition
from homelab_agent.database.embedded import Embedded
from homelab_agent.database.pool import CANNOT_ASK, Connection, Pool
from homelab_agent.database.rotation import Rotation
from homelab_agent.database.settings import EMBEDDED, DatabaseSettings

T = TypeVar("T")

RETRY_MAX_SECONDS = 30.0
CONNECT_MAX_SECONDS = 5.0
"""The longest pause between attempts to reach a server elsewhere: one costs little, and its return is not announced."""
STOP_SECONDS = 8.0
STOP_FORMER_SECONDS = 60.0

OWN_REPAIR = "the agent starts it again by itself; if it does not come, read postgres/log in the state directory"
OTHER_REPAIR = "see that [database] url is right and that the server there runs"

log = journal.logger("database")


class Database:
    """PostgreSQL, as every room asks it; `run` is what keeps it within reach.

    `connection` and `schema` say how it stands; `on_change` is called with the check's name and each new finding.
    `edition` is known once it was reached. `round_trip_seconds` is how long the last `ping` took, None while down.
    """

    def __init__(self, settings: DatabaseSettings, secrets: Secrets, *, directory: Path, clock: Clock) -> None:
        """`directory` is the agent's state directory; `secrets` finds what the address is made of."""
        self.edition: Edition | None = None
        self.round_trip_seconds: float | None = None
        self.connection = Finding.degraded("not reached yet")
        self.schema = Finding.degraded("not looked at yet")
        self.on_change: Callable[[str, Finding], None] = lambda _check, _finding: None
        self.settings = settings
        self.where: Address | None = None
        self._secrets = secrets
        self._directory = directory
        self._clock = clock
        self._hide = secrets.hide
        self._elsewhere, self._rotation = self._find(settings)
        self._files = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._embedded: Embedded | None = None
        self._former: Embedded | None = None
        self._pool: Pool | None = None
        self._up = asyncio.Event()
        self._lost = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether PostgreSQL is reached and its schema is as it should be, as far as is known."""
        return self._up.is_set()

    @property
    def is_embedded(self) -> bool:
        """Whether it is a server of the agent's own."""
        return self._elsewhere is None

    def uses(self, server: Embedded | None) -> bool:
        """Whether an embedded server is the one that is used."""
        return server is not None and server is self._embedded

    def adopt(self, settings: DatabaseSettings, embedded: Embedded | None) -> None:
        """Use another PostgreSQL from now on; `embedded` is that server, where it is to be our own and runs already.

        Who holds a connection loses it. The server that was ours runs until `stop_former`.
        """
        if self._rotation is not None:
            self._rotation.end()
        self.settings = settings
        self._elsewhere, self._rotation = self._find(settings)
        self._former, self._embedded = self._embedded, embedded
        self._up.clear()
        self._say("connection", Finding.degraded("another database is taken into use"))
        self._lost.set()

    async def stop_former(self) -> None:
        """Stop the embedded server that was used before."""
        former, self._former = self._former, None
        if former is not None:
            await former.stop(STOP_FORMER_SECONDS)

    def _find(self, settings: DatabaseSettings) -> tuple[Elsewhere | None, Rotation | None]:
        if settings.url == EMBEDDED:
            return None, None
        elsewhere = Elsewhere(settings, self._secrets)
        return elsewhere, Rotation(elsewhere, lambda: self._pool, repair=OTHER_REPAIR)

    async def wait_until_up(self) -> None:
        """Return when PostgreSQL is reached and its schema is as it should be."""
        await self._up.wait()

    async def ping(self) -> None:
        """Ask the shortest question there is, and keep how long the answer took."""
        async with self.acquire() as connection:
            began = self._clock.read().monotonic
            await connection.fetch("SELECT 1")
            self.round_trip_seconds = self._clock.read().monotonic - began

    def stale(self) -> SecretStale | None:
        """Return which of our secrets is too old, though PostgreSQL lets us in with it."""
        return self._rotation.stale() if self._rotation is not None and self.is_up else None

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """Return the rows of a query; raises `NeighbourUnreachable` while PostgreSQL cannot be asked."""
        async with self.acquire() as connection:
            rows: Sequence[Any] = await connection.fetch(query, *args)
            return rows

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Hold one connection in one transaction; raises `NeighbourUnreachable` where there is none."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Hold one connection; raises `NeighbourUnreachable` when there is none, or when it breaks."""
        source = self._pool
        if source is None:
            raise self._unreachable(self.connection.detail)
        try:
            connection = await self._connection(source)
        except asyncpg.ClientConfigurationError:
            raise AddressFaulty from None  # its text repeats the URL
        except CANNOT_ASK as error:
            raise self._lose(source, error) from error
        try:
            yield connection
        except Exception as error:
            broken = isinstance(error, asyncpg.AdminShutdownError | asyncpg.CrashShutdownError)
            if broken or _is_closed(connection):
                raise self._lose(source, _what_broke(error)) from error
            raise
        finally:
            await self._release(source, connection)

    async def _connection(self, source: Pool) -> Any:
        """Return one connection of the pool; where our password is refused, a new one may be there meanwhile."""
        try:
            return await source.acquire(timeout=pool.CONNECT_SECONDS)
        except asyncpg.InvalidAuthorizationSpecificationError:
            if self._rotation is None:
                raise
            await self._rotation.renew()
            return await source.acquire(timeout=pool.CONNECT_SECONDS)

    async def run(self) -> None:
        """Keep PostgreSQL within reach until cancelled; the embedded server is stopped then."""
        failures = 0
        try:
            if self._elsewhere is not None:
                await self._stop_left_behind()
            while True:
                if await self._came_up():
                    failures = 0
                    await self._until_lost()
                else:
                    failures += 1
                    own = self._elsewhere is None
                    await self._clock.sleep(backoff(failures, RETRY_MAX_SECONDS if own else CONNECT_MAX_SECONDS))
        finally:
            await self._go_down()

    async def _stop_left_behind(self) -> None:
        """Stop our own server, where a move to or from it was cut short by the agent's end."""
        try:
            await Embedded(self._directory).stop_left_behind()
        except (AgentError, OSError) as error:
            log.warning("database.left_behind", cause=describe(error))

    async def tidy(self) -> None:
        """Do the embedded server's daily house-keeping."""
        if self._embedded is not None:
            await self._embedded.tidy()

    async def _came_up(self) -> bool:
        try:
            await self._come_up()
        except migrations.SchemaFaulty as error:
            finding = Finding.of(error)
            if finding != self.schema:
                log.error("database.schema_faulty", cause=describe(error), repair=error.repair)  # noqa: TRY400
            self._say("schema", finding)
        except (AgentError, asyncpg.PostgresError, *CANNOT_ASK) as error:
            self._is_down(error)
        else:
            return True
        return False

    async def _come_up(self) -> None:
        self._drop_pool()
        self._lost.clear()
        self.where = where = await self._address()
        self._pool = await pool.open_pool(where)
        async with self.acquire() as connection:
            edition = await editions.prepare(connection)
            note = self._embedded.note if self._embedded is not None else ""
            reached = f"{edition}; {where.shown}"
            self._say("connection", Finding.degraded(f"{reached}; {note}") if note else Finding.ok(reached))
            await self._migrate(connection, edition)
        await self.ping()
        self.edition = edition
        log.info("database.reached", address=where.shown, edition=str(edition))
        self._up.set()

    async def _migrate(self, connection: Connection, edition: Edition) -> None:
        loaded = await self._in_thread(lambda: migrations.load(edition.name))
        for migration in await migrations.apply(connection, loaded, edition=edition.name):
            log.info("database.migrated", file=migration.file, edition=edition.name)
        self._say("schema", Finding.ok(f"{len(loaded)} migrations, {edition.name} edition"))

    async def _address(self) -> Address:
        if self._elsewhere is not None:
            where = await self._in_thread(self._elsewhere.address)
            self._hide(where.password)
            return where
        if self._embedded is None:
            self._embedded = Embedded(self._directory, checkpoint_every=self.settings.checkpoint_every)
        where = await self._embedded.start(self._say_what_takes_time)
        self._hide(where.password)
        return where

    def _say_what_takes_time(self, what: str) -> None:
        if self.connection.state is not State.FAILED:  # what failed stays visible while it is tried again
            self._say("connection", Finding.degraded(what))

    async def _until_lost(self) -> None:
        """Return when a connection broke, or at once when the embedded server ends."""
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(self._lost.wait(), name="database is lost")]
        if self._embedded is not None:
            waiting.append(asyncio.create_task(self._embedded.ended(), name="embedded server ended"))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if self.is_up:
            self._is_down(self._unreachable("the embedded server has ended"))

    async def _go_down(self) -> None:
        self._up.clear()
        self.round_trip_seconds = None
        if self._pool is not None:
            with suppress(*CANNOT_ASK):
                async with asyncio.timeout(2.0):
                    await self._pool.close()
        self._drop_pool()
        servers = [self._embedded, self._former]
        self._embedded = self._former = None
        for server in servers:
            if server is not None:
                await server.stop(STOP_SECONDS)
        self._say("connection", Finding.degraded("stopped"))

    def _lose(self, source: Pool, error: BaseException | str) -> NeighbourUnreachable:
        """Take note that this pool's server is gone, and return what to raise."""
        unreachable = self._unreachable(error)
        if source is self._pool and self.is_up:
            self._is_down(unreachable)
        return unreachable

    def _is_down(self, error: BaseException) -> None:
        self._up.clear()
        self.round_trip_seconds = None
        self._lost.set()
        finding = Finding.of(error if isinstance(error, AgentError) else self._unreachable(error))
        if finding != self.connection:
            log.warning("database.unreachable", cause=finding.detail, repair=finding.repair)
        self._say("connection", finding)

    def _say(self, check: str, finding: Finding) -> None:
        setattr(self, check, finding)
        self.on_change(f"database.{check}", finding)

    def _unreachable(self, cause: BaseException | str) -> NeighbourUnreachable:
        return pool.unreachable(cause, OWN_REPAIR if self._elsewhere is None else OTHER_REPAIR)

    async def _release(self, source: Pool, connection: Any) -> None:
        try:
            await source.release(connection, timeout=pool.CONNECT_SECONDS)
        except (
            asyncpg.PostgresError,
            *CANNOT_ASK,
        ) as error:  # it broke meanwhile; what was done with it stands
            self._lose(source, error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def _drop_pool(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


def _is_closed(connection: Connection) -> bool:
    """Whether a connection has ended; its pool takes one that does back at once, and then it is not to be asked."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _what_broke(error: BaseException) -> BaseException | str:
    """Return what ended a connection: that it has ended is all that asyncpg says to who goes on using it."""
    while isinstance(error, asyncpg.InterfaceError) and error.__context__ is not None:
        error = error.__context__
    return "the connection was lost" if isinstance(error, asyncpg.InterfaceError) else error


def backoff(failures: int, longest: float = RETRY_MAX_SECONDS) -> float:
    """Return how many seconds to wait after so many failures in a row.

    Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): agents that share a
    database do not all come back at one moment.
    """
    return random.uniform(0, min(longest, 0.5 * 2.0 ** min(failures, 10)))  # noqa: S311 - not a secret
