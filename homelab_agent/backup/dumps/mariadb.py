"""MariaDB and MySQL: each database is dumped by their own program in the container, and who may log in beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from homelab_agent.backup.control import Control
from homelab_agent.backup.docker_errors import last_words
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps import mariadb_parts
from homelab_agent.backup.dumps import mariadb_statements as statements
from homelab_agent.backup.dumps.dumped import Dumped, Told, member
from homelab_agent.backup.dumps.errors import NotEmpty, NotReached
from homelab_agent.backup.dumps.inside import Inside, Way, each, with_password
from homelab_agent.core import waiting
from homelab_agent.core.errors import AgentError

USERS = "users"
MASTER = "root"
LOAD_SECONDS = 24 * 3600.0
_OF_MASTER = ("MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD")
_OF_USER = ("MARIADB_PASSWORD", "MYSQL_PASSWORD")
_WAYS = (Way(), Way(user="root"), Way(user="mysql"))
"""Its socket asks who one is in the container (unix_socket), where there is no password."""
_CLIENT, _DUMPING = ("mariadb", "mysql"), ("mariadb-dump", "mysqldump")
_LAST_LINE = b"-- Dump completed"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that lets us in as its master."""

    inside: Inside
    user: str

    async def ask(self, statement: str, *, database: str = "") -> str:
        """Return what the client prints for statements, without names of columns, nothing in it escaped."""
        words = [
            *self.client("--batch", "--raw", "--skip-column-names"),
            *([f"--database={database}"] * bool(database)),
        ]
        return await self.inside.text(*words, given=statement)

    def client(self, *words: str) -> Sequence[str]:
        """Return the words that run the client, by whatever name it has there."""
        return [
            *_by_name(_CLIENT),
            f"--user={self.user}",
            "--default-character-set=utf8mb4",
            "--skip-reconnect",
            *words,
        ]


async def reached(control: Control, container_id: str, name: str, user: str) -> Server:
    """Return a container's server, by the first way that lets us in; raises `NotReached` where none does."""
    first: AgentError | None = None
    master = user or MASTER
    for way in _WAYS:
        passwords = with_password("MYSQL_PWD", _OF_MASTER if master == MASTER else _OF_USER)
        server = Server(Inside(control, container_id, way.user, before=passwords), master)
        try:
            if await server.ask("SELECT 1") == "1":
                return server
        except AgentError as error:
            first = first or error
    raise NotReached(kind="MariaDB", container=name, user=master, cause=last_words(first) if first else "")


async def of(planned: PlannedDump, control: Control) -> Sequence[Dumped]:
    """Return the dumps of a server: of each database but its own ones, and of its users."""
    container, dump = planned.container, planned.dump
    server = await reached(control, container.id, container.name, dump.user)
    version = await server.ask(statements.VERSION)
    about = {"container": container.name, "kind": "mariadb", "user": server.user, "version": version}
    inside = server.inside.given(seconds=dump.timeout)
    found = []
    for line in (await server.ask(statements.DATABASES)).splitlines():
        one = json.loads(line)
        # A table that knows no transactions is only of one moment where nobody writes meanwhile.
        still = "--lock-tables" if one["untransactional"] else "--single-transaction"
        words = [*_by_name(_DUMPING), f"--user={server.user}", still, *statements.OPTIONS, "--", one["name"]]
        told = {**about, "what": one["name"], "charset": one["charset"], "collation": one["collation"]}
        told["locked"] = bool(one["untransactional"])
        source = partial(inside.run, *words)
        name = member(container.name, f"{one['name']}.sql")
        found.append(Dumped(name, told, source, int(one["bytes"]), last=_LAST_LINE))
    users = partial(_users, Server(inside, server.user), version)
    told = {**about, "what": USERS}
    return [*found, Dumped(member(container.name, f"{USERS}.sql"), told, users)]


async def load(
    control: Control,
    container_id: str,
    told: Told,
    pieces: AsyncIterator[bytes],
    *,
    database: str = "",
    programs: bytearray | None = None,
) -> None:
    """Read a dump back; a database is made for it, and is dropped again where that fails. Raises `NotEmpty`.

    `programs` is given what acts on tables, instead of the server (`mariadb_parts.py`).
    """
    server = await reached(control, container_id, str(told["container"]), str(told.get("user", "")))
    if told["what"] == USERS:
        await _load_users(server, b"".join([piece async for piece in pieces]).decode())
        return
    name = database or str(told["what"])
    if int(await server.ask(statements.tables(name))):
        raise NotEmpty(database=name, container=told["container"])
    await server.ask(statements.create(name, str(told["charset"]), str(told["collation"])))
    try:
        loading = server.inside.given(seconds=LOAD_SECONDS)
        given = pieces if programs is None else mariadb_parts.tables(pieces, programs)
        await loading.text(*server.client("--batch", f"--database={name}"), given=given)
    except BaseException:
        with suppress(AgentError):  # what went wrong first is what is told
            await waiting.to_the_end(server.ask(statements.drop(name)))
        raise


async def started(control: Control, container_id: str, told: Told) -> tuple[str, bool]:
    """Return when the server has started, and whether others reach it; raises where it takes no query."""
    server = await reached(control, container_id, str(told["container"]), str(told.get("user", "")))
    question = statements.started(await server.ask(statements.VERSION))
    at, _, hidden = (await server.ask(question)).partition("\t")
    return at, hidden == "0"


async def programs_of(server: Server, database: str) -> str:
    """Return the script that makes the views, triggers, routines and events of a database."""
    words = [*_by_name(_DUMPING), f"--user={server.user}", "--no-data", "--skip-lock-tables", *statements.OPTIONS]
    found = bytearray()
    async with server.inside.run(*words, "--", database) as pieces:
        async for _ in mariadb_parts.tables(pieces, found):
            pass
    return found.decode(errors="surrogateescape")


async def missing_users(server: Server, script: str) -> tuple[str, str]:
    """Return what drops, and what makes, those of a dump's users and roles who are not there."""
    known = statements.users(await server.ask(statements.VERSION))
    there = set((await server.ask(known)).splitlines())
    names, make = statements.missing_users(script, there), statements.of_missing_users(script, there)
    return statements.drop_users(names), "\n".join(make)


async def _load_users(server: Server, script: str) -> None:
    """Make those who are missing, with all their rights, or none of them."""
    drop, make = await missing_users(server, script)
    try:
        await server.ask(make)
    except BaseException:
        with suppress(AgentError):  # what went wrong first is what is told
            await waiting.to_the_end(server.ask(drop))
        raise


@asynccontextmanager
async def _users(server: Server, version: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give statements that make all users and roles as they are, with the hashes of their passwords."""
    names = (await server.ask(statements.users(version))).splitlines()
    printed = await server.ask(statements.show_users(names))
    yield each(line.encode() for line in statements.script_of_users(printed))


def _by_name(names: Sequence[str]) -> Sequence[str]:
    """Return the words that run the first program of these names that is there."""
    choose = f'for name in {" ".join(names)}; do command -v $name >/dev/null && exec $name "$@"; done; exit 127'
    return ("sh", "-c", choose, "sh")
