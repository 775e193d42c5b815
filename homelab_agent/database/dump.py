"""The move to a new major version: everything is dumped from the old server and loaded into the new one.

`pg_dump` is the new version's, as PostgreSQL advises; the server it asks is the old one, run by its own programs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.database.cluster import ENVIRONMENT
from homelab_agent.database.place import ROLE, Place
from homelab_agent.database.server import Server

START_SECONDS = 600.0
STOP_SECONDS = 60.0
MOVE_SECONDS = 6 * 3600.0


class MoveFailed(AgentError):
    """The data could not be moved to the new version of PostgreSQL: `{program}` failed."""

    repair = "see the cause; the old version goes on with the data, and the next start tries again"


async def move(place: Place, old: Server, new: Server, directory: Path, say: Callable[[str], None]) -> None:
    """Copy roles and databases from `old` to `new`, which has none yet; both are stopped on return.

    `directory` is empty and the server's own; it takes the dumps of one database at a time. Raises `MoveFailed`;
    then `new` is worth nothing and `old` is as it was.
    """
    tools = _Tools(place, old, new, directory)
    try:
        await old.start(START_SECONDS)
        await new.start(START_SECONDS)
        await tools.copy_roles()
        for name in await tools.databases():
            say(f"moving {name} from PostgreSQL {old.programs.major} to {new.programs.major}")
            await tools.copy_database(name)
    finally:
        await new.stop(STOP_SECONDS)
        await old.stop(STOP_SECONDS)


class _Tools:
    """The new version's client programs, as they are used here."""

    def __init__(self, place: Place, old: Server, new: Server, directory: Path) -> None:
        self._place, self._old, self._new, self._directory = place, old, new, directory

    async def copy_roles(self) -> None:
        """Copy roles and their passwords; that the one role is there already is the one error to be expected."""
        file = f"--file={self._directory / 'roles'}"
        await self._run("pg_dumpall", self._old, "--globals-only", file)
        await self._run("psql", self._new, "--no-psqlrc", "--quiet", file, "--dbname=postgres")

    async def databases(self) -> list[str]:
        """Return the old server's databases, without the one that every server has."""
        query = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres'"
        said = await self._run("psql", self._old, "--no-psqlrc", "-At", f"--command={query}", "--dbname=postgres")
        return said.decode().splitlines()

    async def copy_database(self, name: str) -> None:
        """Copy one database with its owner, rights and settings, and have its statistics made anew."""
        file = str(self._directory / "database")
        target = _connection(name)
        await self._run("pg_dump", self._old, "--format=custom", "--compress=1", f"--file={file}", f"--dbname={target}")
        await self._run("pg_restore", self._new, "--create", "--exit-on-error", "--dbname=postgres", file)
        await self._run(
            "psql",
            self._new,
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--command=ANALYZE",
            f"--dbname={target}",
        )

    async def _run(self, program: str, server: Server, *words: str) -> bytes:
        command = [self._new.programs.path(program), f"--host={server.socket}", f"--port={server.port}"]
        done = await process.run(
            [*command, f"--username={ROLE}", "--no-password", *words],
            env={**ENVIRONMENT, "PGPASSFILE": str(self._place.pgpass), "PGTZ": "UTC"},
            cwd=self._directory,
            deadline=MOVE_SECONDS,
            output_max=65536,
            user=self._place.account.switch,
        )
        if done.code != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise MoveFailed(program=program, cause=said[0] if said else f"exit code {done.code}")
        return done.stdout


def _connection(database: str) -> str:
    """Return a connection string for a database of any name; a bare name with `=` in it would be read as one."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
