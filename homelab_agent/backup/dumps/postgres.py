"""PostgreSQL: its roles and each of its databases are dumped by its own programs, each database at a moment of its own.

The programs are the container's, so they fit the server. What a dump of one database does not have (its owner, its
settings, who may connect) is told beside it, and given to the database that it is loaded into. Tablespaces are places
of another host: all is loaded into the usual one. What `template1` has been given is not dumped.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from homelab_agent.backup import reserved
from homelab_agent.backup.control import Control
from homelab_agent.backup.docker_errors import last_words
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps import postgres_statements as statements
from homelab_agent.backup.dumps.dumped import Dumped, Told, member
from homelab_agent.backup.dumps.errors import NotEmpty, NotReached
from homelab_agent.backup.dumps.inside import Inside, Way, with_password
from homelab_agent.core import waiting
from homelab_agent.core.errors import AgentError

GLOBALS = "globals"
LOAD_SECONDS = 24 * 3600.0
_PASSWORDS = ("POSTGRES_PASSWORD", "POSTGRESQL_POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD")
_WAYS = (
    Way(),
    Way(env={"PGHOST": "/tmp"}),  # noqa: S108 - the directory of its socket in Bitnami's image
    Way(env={"PGHOST": "127.0.0.1"}),
    Way(user="postgres"),
)
_MAINTENANCE = ("postgres", "template1")
"""A database that can be asked about others: one of them may have been dropped."""
_QUIETLY = r"\set VERBOSITY terse"
"""An error does not repeat the line that it is in, which may have a secret."""
_LAST_LINE = b"-- PostgreSQL database cluster dump complete"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that lets us in as its master."""

    inside: Inside
    user: str
    maintenance: str

    async def ask(self, statement: str, *, database: str = "", **variables: str) -> str:
        """Return what psql prints for statements; `variables` are quoted by psql (:'name', :"name")."""
        given = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        words = ["psql", "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", self.user, *given]
        return await self.inside.text(*words, "-d", conninfo(database or self.maintenance), given=statement)

    def beside(self, database: str) -> Server:
        """Return it as asked from another database than this one."""
        other = next(one for one in _MAINTENANCE if one != database)
        return replace(self, maintenance=other) if self.maintenance == database else self


async def reached(control: Control, container_id: str, name: str, user: str) -> Server:
    """Return a container's server, by the first way that lets us in; raises `NotReached` where none does."""
    first: AgentError | None = None
    for database in _MAINTENANCE:
        for way in _WAYS:
            inside = Inside(control, container_id, way.user, way.env, with_password("PGPASSWORD", _PASSWORDS))
            server = Server(inside, user or "postgres", database)
            try:
                if await server.ask("SELECT 1") == "1":
                    return server
            except AgentError as error:
                first = first or error
    raise NotReached(
        kind="PostgreSQL", container=name, user=user or "postgres", cause=last_words(first) if first else ""
    )


async def of(planned: PlannedDump, control: Control) -> Sequence[Dumped]:
    """Return the dumps of a server: of its roles, and of each database that takes connections."""
    container, dump = planned.container, planned.dump
    server = await reached(control, container.id, container.name, dump.user)
    known = json.loads(await server.ask(statements.DATABASES, ours=reserved.DATABASES))
    about = {"container": container.name, "kind": "postgres", "user": server.user, "version": known["version"]}
    inside = server.inside.given(seconds=dump.timeout)
    words = ("-w", "-U", server.user, "-d", conninfo(server.maintenance))
    found = [
        Dumped(
            member(container.name, f"{GLOBALS}.sql"),
            {**about, "what": GLOBALS},
            partial(inside.run, "pg_dumpall", "--globals-only", *words),
            last=_LAST_LINE,
        )
    ]
    for one in known["databases"]:
        name = one["name"]
        told = {**about, "what": name, **{key: one[key] for key in statements.FACTS}}
        told["extensions"] = json.loads(await server.ask(statements.EXTENSIONS, database=name))
        dumping = ("pg_dump", "-Fc", "-Z0", "-w", "-U", server.user, "-d", conninfo(name))
        found.append(
            Dumped(member(container.name, f"{name}.pgdump"), told, partial(inside.run, *dumping), int(one["bytes"]))
        )
    return found


async def load(
    control: Control, container_id: str, told: Told, pieces: AsyncIterator[bytes], *, database: str = ""
) -> None:
    """Read a dump back; a database is made for it, and is dropped again where that fails. Raises `NotEmpty`."""
    server = await reached(control, container_id, str(told["container"]), str(told.get("user", "")))
    if told["what"] == GLOBALS:
        await _load_globals(server, pieces)
        return
    name = database or str(told["what"])
    server = server.beside(name)
    await _make(server, told, name)
    try:
        await _fill(server, told, name, pieces)
    except BaseException:
        with suppress(AgentError):  # what went wrong first is what is told
            await waiting.to_the_end(_drop(server, name))
        raise


async def started(control: Control, container_id: str, told: Told) -> tuple[str, bool]:
    """Return when the server has started, and whether others reach it; raises where it takes no query.

    The script of the official image fills a new server while it listens to nobody, and then starts it again.
    """
    server = await reached(control, container_id, str(told["container"]), str(told.get("user", "")))
    at, listens = (await server.ask(statements.STARTED)).split("|")
    return at, listens == "t"


def conninfo(database: str) -> str:
    """Return what connects to a database of any name, also one that looks like connection settings."""
    return "dbname='{}'".format(database.replace("\\", "\\\\").replace("'", "\\'"))


async def _load_globals(server: Server, pieces: AsyncIterator[bytes]) -> None:
    script = b"".join([piece async for piece in pieces]).decode(errors="surrogateescape")
    there = set(json.loads(await server.ask(statements.ROLES)))
    missing = statements.of_missing_roles(script, there)
    await server.ask("\n".join([_QUIETLY, "BEGIN;", *missing, "COMMIT;"]))


async def _make(server: Server, told: Told, name: str) -> None:
    """Make an empty database as the dumped one was made; one that is there and has no tables makes room for it."""
    if await server.ask(statements.IS_THERE, name=name):
        if await server.ask(statements.TABLES, database=name) != "0":
            raise NotEmpty(database=name, container=told["container"])
        await _drop(server, name)
    known: dict[str, Any] = {key: told.get(key) or "" for key in statements.FACTS if key != "properties"}
    await server.ask(statements.create(known), database_name=name, **{key: str(value) for key, value in known.items()})


async def _fill(server: Server, told: Told, name: str, pieces: AsyncIterator[bytes]) -> None:
    timescale = str((told.get("extensions") or {}).get("timescaledb", ""))
    if timescale:
        await server.ask(statements.BEFORE_TIMESCALE, database=name, version=timescale)
    words = ("pg_restore", "--exit-on-error", "--no-tablespaces", "-w", "-U", server.user, "-d", conninfo(name))
    await server.inside.given(seconds=LOAD_SECONDS).text(*words, given=pieces)
    if timescale:
        await server.ask(statements.AFTER_TIMESCALE, database=name)
    properties = [f"{line};" for line in told.get("properties") or ()]
    script = "\n".join([_QUIETLY, "BEGIN;", *properties, "COMMIT;"])
    await server.ask(script, database=name, database_name=name)


async def _drop(server: Server, name: str) -> None:
    await server.ask('DROP DATABASE IF EXISTS :"database_name"', database_name=name)
