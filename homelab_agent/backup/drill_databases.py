"""Whether a database lives that was started on a copy, or on nothing and given its dumps: asked by its own programs."""

from __future__ import annotations

import json

from homelab_agent.backup import databases, drilled, dumps
from homelab_agent.backup.docker_errors import CommandFailed
from homelab_agent.backup.drill_dumps import Dumps
from homelab_agent.backup.drill_kinds import Patience, repair
from homelab_agent.backup.drill_trial import Trial
from homelab_agent.backup.drilled import Shown
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps import mariadb, postgres
from homelab_agent.backup.dumps.inside import Inside
from homelab_agent.backup.settings import Dump
from homelab_agent.core.errors import AgentError, describe

_LAST_BYTES = 2048
_NAMES = {"postgres": "PostgreSQL", "mariadb": "MariaDB", "mongodb": "MongoDB"}
_DATABASES = """
SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database WHERE datallowconn AND NOT datistemplate;
"""
_HAS_AMCHECK = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck';"
_ROWS = r"""
SELECT format('SELECT count(*) FROM ONLY %I.%I', nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)' \gexec
"""
_TABLES_OF_MARIADB = """
SELECT CONCAT('SELECT COUNT(*) FROM `', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '`;')
FROM information_schema.tables WHERE table_type = 'BASE TABLE'
    AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys');
"""
_DATABASES_OF_MARIADB = """
SELECT COUNT(*) FROM information_schema.schemata
WHERE schema_name NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys');
"""


class NotWhole(AgentError):
    """{program} finds what is not as it should be."""

    repair = "see whether it does in the living database; then back up again, and drill that"


async def database(trial: Trial, kind: databases.Kind, patience: Patience, given: Dumps) -> Shown:
    """Wait until it takes queries, give it its dumps, and have it look at all that it has."""
    user = given.user or databases.known(kind, trial.container).user
    told = {"container": trial.name, "kind": kind, "what": "", "user": user}
    try:
        await dumps.ready(trial.docker, trial.container.id, told, seconds=patience.ready)
    except AgentError as error:
        silent = f"takes no query: {trial.boot.hidden(describe(error))}; it has written: {await trial.last_words()}"
        said = await trial.end() or silent
        return Shown(trial.name, "bad", f"{_NAMES[kind]} {said}{trial.lacks}", repair(trial.name))
    try:
        loaded = await given.load(trial)
        match kind:
            case "postgres":
                said = await _postgres(trial, user, patience)
            case "mariadb":
                said = await _mariadb(trial, user, patience)
            case "mongodb":
                said = await _mongodb(trial, user, patience)
    except AgentError as error:
        said = trial.boot.hidden(describe(error))
        return Shown(trial.name, "bad", f"{_NAMES[kind]} started; {said}{trial.lacks}", error.repair)
    done = ", ".join(filter(None, [f"{_NAMES[kind]} started", loaded, said]))
    return Shown(trial.name, "good", f"{done}{trial.lacks}")


async def _postgres(trial: Trial, user: str, patience: Patience) -> str:
    server = await postgres.reached(trial.docker, trial.container.id, trial.name, user)
    asking = postgres.Server(server.inside.given(seconds=patience.check), server.user, server.maintenance)
    names = json.loads(await asking.ask(_DATABASES))
    rows = 0
    for name in names:
        rows += sum(map(int, (await asking.ask(_ROWS, database=name)).split()))
    words = ("--no-password", "--username", asking.user)
    if await _has(asking.inside, "pg_amcheck") and await asking.ask(_HAS_AMCHECK) != "0":
        every = ("--all", "--install-missing", "--heapallindexed", "--maintenance-db")
        await _checked(asking.inside, "pg_amcheck", *words, *every, postgres.conninfo(asking.maintenance))
        seen = "amcheck clean"
    else:
        for name in names:
            await _checked(asking.inside, "pg_dump", *words, "--file=/dev/null", "-d", postgres.conninfo(name))
        seen = "all of it read by pg_dump (its image has no pg_amcheck)"
    return f"{drilled.count(len(names), 'database')}, {drilled.count(rows, 'row')}, {seen}"


async def _mariadb(trial: Trial, user: str, patience: Patience) -> str:
    server = await mariadb.reached(trial.docker, trial.container.id, trial.name, user)
    asking = mariadb.Server(server.inside.given(seconds=patience.check), server.user)
    program = "mariadb-check" if await _has(asking.inside, "mariadb-check") else "mysqlcheck"
    said = await _checked(asking.inside, program, f"--user={asking.user}", "--all-databases", "--check", "--silent")
    if faults := [line for line in said.splitlines() if line.lower().startswith(("error", "corrupt"))]:
        raise NotWhole(program=program, cause="; ".join(faults[:3]))
    counting = await asking.ask(_TABLES_OF_MARIADB)
    rows = sum(map(int, (await asking.ask(counting)).split())) if counting else 0
    count = int(await asking.ask(_DATABASES_OF_MARIADB))
    return f"{drilled.count(count, 'database')}, {drilled.count(rows, 'row')}, {program} finds no fault"


async def _mongodb(trial: Trial, user: str, patience: Patience) -> str:
    """Have everything dumped, and thrown away: each document is read for that."""
    planned = PlannedDump(
        trial.container, Dump(container=trial.name, kind="mongodb", user=user, timeout=patience.check)
    )
    size = 0
    for one in await dumps.of(planned, trial.docker):
        async with one.opened() as pieces:
            async for piece in pieces:
                size += len(piece)
    return f"{size:,} bytes of documents read by mongodump"


async def _has(inside: Inside, program: str) -> bool:
    try:
        await inside.text(program, "--version")
    except CommandFailed:
        return False
    return True


async def _checked(inside: Inside, program: str, *words: str) -> str:
    """Run a program that reads all there is; return its last words, raise `NotWhole` with them where it fails."""
    said = bytearray()
    try:
        async with inside.run(program, *words) as pieces:
            async for piece in pieces:
                said += piece
                del said[:-_LAST_BYTES]
    except CommandFailed as error:
        lines = [*said.decode(errors="replace").strip().splitlines(), describe(error)]
        raise NotWhole(program=program, cause="; ".join(map(str.strip, lines[:4]))) from error
    return said.decode(errors="replace")
