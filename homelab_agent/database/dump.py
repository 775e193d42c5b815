"""The move to a new major version: everything is dumped from the old server and loaded into the new one.

Each version's own programs speak to its server. (PostgreSQL advises to dump with the newer `pg_dump`, but a newer
version may be the older release: 18.6 does not know what 15.20 has begun to keep in its catalogue.)
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
OUTPUT_MAX = 16 * 1024 * 1024
"""A list of contents has a line for each partition and each of its indexes."""


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
    """The two versions' client programs, as they are used here."""

    def __init__(self, place: Place, old: Server, new: Server, directory: Path) -> None:
        self._place, self._old, self._new, self._directory = place, old, new, directory

    async def copy_roles(self) -> None:
        """Copy roles and their passwords; that the one role is there already is the one error to be expected."""
        file = f"--file={self._directory / 'roles'}"
        await self._run("pg_dumpall", self._old, "--globals-only", file)
        await self._run("psql", self._new, "--no-psqlrc", "--quiet", file, "--dbname=postgres")

    async def databases(self) -> list[str]:
        """Return the old server's databases, without the one that every server has."""
        return await self._ask(
            self._old,
            "postgres",
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres'",
        )

    async def copy_database(self, name: str) -> None:
        """Copy one database with its owner, rights and settings, and have its statistics made anew.

        An extension that the new server does not have is left behind; where something depends on it, this fails.
        """
        file = str(self._directory / "database")
        target = f"--dbname={_connection(name)}"
        await self._run("pg_dump", self._old, "--format=custom", "--compress=1", f"--file={file}", target)
        content = (await self._run("pg_restore", None, "--list", file)).decode()
        left = await self._left_behind(name)
        kept = [line for line in content.splitlines() if not any(f" {entry} " in f"{line} " for entry in left)]
        words = ["--create", "--exit-on-error", "--use-list=/dev/stdin", "--dbname=postgres", file]
        await self._run("pg_restore", self._new, *words, stdin="\n".join(kept).encode())
        await self._ask(self._new, name, "ANALYZE")

    async def _left_behind(self, database: str) -> list[str]:
        """Return the entries of a dump's list of contents that belong to extensions which the new server lacks."""
        used = await self._ask(self._old, database, "SELECT extname FROM pg_extension")
        offered = await self._ask(self._new, "postgres", "SELECT name FROM pg_available_extensions")
        lacking = [name for name in used if name not in offered]
        tables = await self._ask(
            self._old,
            database,
            "SELECT extname || ' ' || nspname || ' ' || relname FROM pg_extension, pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = ANY (extconfig)",
        )
        owned = (line.split(" ", 1) for line in tables)
        return [
            *(f"EXTENSION - {name}" for name in lacking),
            *(f"COMMENT - EXTENSION {name}" for name in lacking),
            *(f"TABLE DATA {table}" for name, table in owned if name in lacking),
        ]

    async def _ask(self, server: Server, database: str, statement: str) -> list[str]:
        words = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        target = f"--dbname={_connection(database)}"
        said = await self._run("psql", server, *words, f"--command={statement}", target)
        return said.decode().splitlines()

    async def _run(self, program: str, server: Server | None, *words: str, stdin: bytes = b"") -> bytes:
        """Run a program against one of the servers, or against none; return what it says."""
        command = [(server or self._new).programs.path(program)]
        if server is not None:
            command += [f"--host={server.socket}", f"--port={server.port}", f"--username={ROLE}", "--no-password"]
        done = await process.run(
            [*command, *words],
            env={**ENVIRONMENT, "PGPASSFILE": str(self._place.pgpass), "PGTZ": "UTC"},
            cwd=self._directory,
            stdin=stdin,
            deadline=MOVE_SECONDS,
            output_max=OUTPUT_MAX,
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
