"""The lease of a source: waited for where it is a session of our own, left to another agent, freed by a lost host."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from homelab_agent.reading import lease
from tests import clock
from tests.neighbours import op_msg, postgres_kinds
from tests.neighbours import postgres as neighbour
from tests.neighbours.network import Network
from tests.neighbours.op_msg import StandIn
from tests.neighbours.postgres import Postgres
from tests.neighbours.wire import Wire, url_through
from tests.reading import DRIVER_LEAVES_A_SOCKET, articles, beside, library, unencrypted
from tests.relay import Relay, Streams
from tests.waiting import until

pytestmark = DRIVER_LEAVES_A_SOCKET

HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
SERVER, CLIENT = "192.0.2.1", "192.0.2.7"
LOST_SECONDS = 15 + 3 * 5 + 30
"""Half a minute by the session's settings; the rest is for a busy host."""


@pytest.fixture
async def source() -> AsyncIterator[StandIn]:
    async with op_msg.running() as server:
        server.insert([*articles(300)])
        yield server


@dataclass(slots=True)
class Counted:
    """A source that counts how often it was opened: once for each try of a run."""

    inner: Any
    opened: int = 0

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def marks_rejected(self) -> bool:
        return bool(self.inner.marks_rejected)

    def open(self) -> Any:
        self.opened += 1
        return self.inner.open()


@asynccontextmanager
async def leased(postgres: Postgres, host: str) -> AsyncIterator[None]:
    """Hold the lease in a session of a host."""
    connection = await asyncpg.connect(postgres.url)
    try:
        async with lease.held(connection, "atlas", host=host):
            yield
    finally:
        await connection.close()


async def test_a_run_waits_for_the_session_that_it_lost_itself(
    postgres: Postgres, source: StandIn, wire: Wire, tmp_path: Path
) -> None:
    line = await beside(wire, postgres.socket)
    held = source.hold("update", number=2)
    async with library(unencrypted(url_through(line, postgres)), source, tmp_path, batch=50) as home:
        home.source = tries = Counted(home.source)
        course = asyncio.create_task(home.sync())
        await asyncio.wait_for(held.reached.wait(), 20)
        lost = int(await beside(postgres.psql, HOLDER))
        os.kill(lost, signal.SIGSTOP)  # it cannot notice that its client has gone
        try:
            await beside(line.cut)
            await beside(line.mend)
            held.let_go.set()
            await clock.until(lambda: tries.opened >= 3, "it has met its own lease", seconds=60)
            assert await beside(postgres.psql, HOLDER) == str(lost)
            assert not course.done()
        finally:
            os.kill(lost, signal.SIGCONT)
        ended = await course
        assert (ended.status, str(ended.tally)) == ("ok", "inserted 300, duplicate 0, marked 300, rejected 0")


async def test_a_session_of_the_agent_before_this_one_is_no_other_agent(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    async with library(postgres.url, source, tmp_path) as home, AsyncExitStack() as before:
        await before.enter_async_context(leased(postgres, "testhost"))
        impatient = await replace(home, patience=0.0).sync()
        assert impatient.status == "failed"
        assert impatient.detail.startswith("Either this host is at work on the reading source atlas, or")
        home.source = tries = Counted(home.source)
        course = asyncio.create_task(home.sync())
        await clock.until(lambda: tries.opened >= 2, "it has tried once", seconds=20)
        await before.aclose()
        assert (await course).tally.inserted == 300


async def test_who_finds_another_at_work_ends_well_at_once(postgres: Postgres, source: StandIn, tmp_path: Path) -> None:
    async with library(postgres.url, source, tmp_path) as home, leased(postgres, "otherhost"):
        ended = await home.sync()
        assert (ended.status, ended.detail) == ("ok", "Another agent is at work on the reading source atlas.")
        assert await home.count("sync_history") == 0
        names = [row["application_name"] for row in await home.rows("SELECT application_name FROM pg_stat_activity")]
        assert "homelab-agent reading testhost" not in names


async def test_a_run_that_loses_the_lease_to_another_agent_is_partial(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    held = source.hold("update", number=2)
    async with library(postgres.url, source, tmp_path, batch=50) as home:
        course = asyncio.create_task(home.sync())
        await asyncio.wait_for(held.reached.wait(), 20)
        await beside(postgres.disconnect)
        async with leased(postgres, "otherhost"):
            held.let_go.set()
            ended = await course
        assert (ended.status, ended.detail) == ("partial", "Another agent is at work on the reading source atlas.")
        [row] = await home.rows("SELECT status, inserted, error FROM sync_history")
        assert row == {"status": "partial", "inserted": ended.tally.inserted, "error": ended.detail}
        assert ended.tally.inserted == await home.count("reading_analytics") > 50


async def test_both_ends_of_a_connection_ask_whether_the_other_lives(
    tcp_postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    port = urlsplit(tcp_postgres.url).port
    async with library(unencrypted(tcp_postgres.url), source, tmp_path) as home, home.database.acquire():
        until(lambda: _timers(port) == {"02"}, "the kernel has a timer of keepalive for both ends")


@pytest.mark.timeout(240)
async def test_a_host_that_is_lost_lets_the_lease_go(far: Far, source: StandIn, tmp_path: Path) -> None:
    held = source.hold("update", number=2)
    async with Relay(far.reach).running() as relay, library(far.url(relay), source, tmp_path, batch=50) as home:
        course = asyncio.create_task(home.sync())
        try:
            await asyncio.wait_for(held.reached.wait(), 20)
            assert await beside(far.postgres.psql, HOLDER)
            far.lose_client()
            await beside(lambda: until(lambda: not far.postgres.psql(HOLDER), "it is free", seconds=LOST_SECONDS))
        finally:
            course.cancel()
            held.let_go.set()
            await asyncio.gather(course, return_exceptions=True)


@pytest.fixture
def tcp_postgres() -> Iterator[Postgres]:
    """A PostgreSQL on a port of the loopback interface."""
    with neighbour.running(postgres_kinds.WHEEL, tcp=True) as server:
        yield server


@dataclass(slots=True)
class Far:
    """A PostgreSQL in a network, and a client's host in it that can be lost without a word."""

    network: Network
    postgres: Postgres

    def url(self, relay: Relay) -> str:
        """Return what a client goes by that a relay takes to the client's host."""
        return unencrypted(self.postgres.url_at(relay.address))

    async def reach(self) -> Streams:
        """Connect to the server from the client's host; raises OSError when that is lost."""
        port = urlsplit(self.postgres.url).port or 0
        wire = await beside(lambda: self.network.connect(SERVER, port, source=CLIENT))
        wire.settimeout(0)
        return await asyncio.open_connection(sock=wire)

    def lose_client(self) -> None:
        """Take the client's host away: what is sent there is answered by nobody."""
        self._ip("neighbour", "replace", CLIENT, "lladdr", "02:00:00:00:00:07", "dev", "away0", "nud", "permanent")
        self._ip("address", "delete", f"{CLIENT}/24", "dev", "away0")

    def _ip(self, *words: str) -> None:
        subprocess.run(self.network.inside("ip", *words), check=True)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    """The client's host is there at first."""
    with Network(tmp_path).lasting() as network, neighbour.running(postgres_kinds.WHEEL, tcp=True) as server:
        network.start()
        server.stop()
        with (server.directory / "data" / "pg_hba.conf").open("a") as allowed:
            allowed.write(f"host all all {CLIENT}/32 scram-sha-256\n")
        server.argv = network.inside(*server.argv, "-c", f"listen_addresses={SERVER}")
        server.start()
        found = Far(network, server)
        found._ip("address", "add", f"{CLIENT}/24", "dev", "away0")
        yield found


def _timers(port: int | None) -> set[str]:
    """Return which timers the connections to a port have, at both their ends (proc_net_tcp, "tr")."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row for row in rows if row[3] == "01" and f":{port:04X}" in {row[1][-5:], row[2][-5:]}]
    return {row[5].partition(":")[0] for row in ours}
