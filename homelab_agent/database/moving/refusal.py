"""What keeps history from being moved to a database: found before anything is written there."""

from __future__ import annotations

import asyncio
import secrets

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.database import editions, migrations
from homelab_agent.database.editions import Edition
from homelab_agent.database.migrations import Migration
from homelab_agent.database.moving.side import Side
from homelab_agent.database.pool import Connection

OLDEST_MAJOR = 14

_FOREIGN = """
SELECT format('%s is owned by %s', relname, pg_get_userbyid(relowner)) FROM pg_class
 WHERE relnamespace = to_regnamespace('homelab') AND relkind IN ('r', 'p', 'v', 'm')
   AND NOT pg_has_role(relowner, 'USAGE') ORDER BY relname LIMIT 1
"""
_MISSING_RIGHT = """
SELECT CASE
    WHEN NOT has_database_privilege(current_database(), 'CREATE') THEN 'CREATE on the database'
    WHEN NOT has_database_privilege(current_database(), 'TEMPORARY') THEN 'TEMPORARY on the database'
    WHEN to_regnamespace('homelab') IS NOT NULL AND NOT has_schema_privilege('homelab', 'CREATE, USAGE')
        THEN 'CREATE on the schema homelab'
END
"""


class SameDatabase(AgentError):
    """{address} is the database that the agent uses already."""

    repair = "homelab-agent db info"
    exit_code = Exit.USAGE


class TargetNewer(AgentError):
    """The schema in {address} is of a newer release: it has {migration}, which this one does not know."""

    repair = "upgrade this agent to that release, then: homelab-agent db move --to ADDRESS"


class SourceNewer(AgentError):
    """The agent's own database has been used by a newer release: it has {migration}, which this one does not know."""

    repair = "upgrade this agent to that release, then: homelab-agent db move --to ADDRESS"


class TargetForbidden(AgentError):
    """{role} may not do in {address} what a database of the agent needs: {missing}."""

    repair = "ALTER DATABASE ... OWNER TO {role} (there), then: homelab-agent db move --to ADDRESS"


class TargetUnfit(AgentError):
    """{address} cannot hold the agent's history: {reason}."""

    repair = "name another database: homelab-agent db move --to ADDRESS"


async def examine(source: Side, target: Side) -> tuple[Edition, list[Migration]]:
    """Return what the target will be and which migrations it lacks; raises what keeps it from being moved to.

    Nothing is changed: what would be, is tried in a transaction that is undone.
    """
    address = target.where.shown
    if await _is_same(source.connection, target.connection):
        raise SameDatabase(address=address)
    if reason := await _unfit(target.connection):
        raise TargetUnfit(address=address, reason=reason)
    role = await target.connection.fetchval("SELECT current_user")
    missing = await target.connection.fetchval(_MISSING_RIGHT) or await target.connection.fetchval(_FOREIGN)
    if missing:
        raise TargetForbidden(address=address, role=role, missing=missing)
    ours = await _loaded(source.edition)
    if unknown := await _unknown(source.connection, ours):
        raise SourceNewer(migration=unknown)
    undo = target.connection.transaction()
    await undo.start()
    try:
        edition = await editions.prepare(target.connection)
        known = await _loaded(edition)
        if unknown := await _unknown(target.connection, known):
            raise TargetNewer(address=address, migration=unknown)
        return edition, migrations.pending(known, await migrations.read_applied(target.connection))
    finally:
        await undo.rollback()


async def _is_same(source: Connection, target: Connection) -> bool:
    """Return whether both are one database: there, what one session holds the other cannot get."""
    key = secrets.randbits(62)
    await source.execute("SELECT pg_advisory_lock($1)", key)
    try:
        got = await target.fetchval("SELECT pg_try_advisory_lock($1)", key)
        if got:
            await target.execute("SELECT pg_advisory_unlock($1)", key)
        return not got
    finally:
        await source.execute("SELECT pg_advisory_unlock($1)", key)


async def _unfit(target: Connection) -> str:
    if await target.fetchval("SELECT pg_is_in_recovery()"):
        return "it is a standby, which takes no writes"
    if (encoding := await target.fetchval("SHOW server_encoding")) != "UTF8":
        return f"its encoding is {encoding}, not UTF8"
    major = int(await target.fetchval("SHOW server_version_num")) // 10000
    return f"PostgreSQL {major} is older than {OLDEST_MAJOR}" if major < OLDEST_MAJOR else ""


async def _unknown(connection: Connection, known: list[Migration]) -> str:
    """Return a migration that a database has had and this release does not know, "" where there is none."""
    unknown = set(await migrations.read_applied(connection)) - {each.key for each in known}
    return "{} {:04}".format(*min(unknown)) if unknown else ""


async def _loaded(edition: Edition) -> list[Migration]:
    return await asyncio.to_thread(migrations.load, edition.name)
