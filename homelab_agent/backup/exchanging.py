"""Databases of one MariaDB change places: their tables in one atomic statement, what acts on these around it.

MariaDB renames no database, and moves no table that has a trigger, nor a view, routine or event. But one RENAME TABLE
moves any number of tables from one database to another, and whoever dies meanwhile leaves all of them moved or none
(https://mariadb.com/kb/en/atomic-ddl/, since 10.6.1). So each side has a home of its own beside the one that lives, an
empty table (`KEPT`) moves with the others to the home of the side that is kept, and tells by its place which that is.
What acts on tables is dropped before, and made anew after from a script that each side has on disk:

| tables | script of the side that lives | what acts |
| --- | --- | --- |
| stand | none | stands; nothing of it was dropped |
| stand | there | may be dropped in part: `settle` makes it anew, then takes the script away |

`KEPT` has the rights on single routines meanwhile, which the server takes away with these.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homelab_agent.backup import movable, reserved
from homelab_agent.backup.docker_errors import last_words
from homelab_agent.backup.dumps import mariadb
from homelab_agent.backup.dumps import mariadb_statements as statements
from homelab_agent.backup.dumps.mariadb_statements import name, text
from homelab_agent.backup.restore_errors import NotNoted
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo_note import Renaming
from homelab_agent.core import statefile
from homelab_agent.core.errors import AgentError

KEPT = "homelab_agent_kept"
_RIGHTS = "SELECT * FROM mysql.procs_priv"
TRIES = 5
LOCK_SECONDS = 10
"""What a session that uses a table may hold up the exchange."""
_AGAIN_SECONDS = 0.5
_TABLES = frozenset({"BASE TABLE", "SEQUENCE", "SYSTEM VERSIONED"})
_TURN = f"""
DELIMITER //
BEGIN NOT ATOMIC
    IF NOT get_lock('homelab-agent', {LOCK_SECONDS}) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'another session of homelab-agent is at work';
    END IF;
END//
DELIMITER ;
SET SESSION lock_wait_timeout = {LOCK_SECONDS};
"""
"""Begins a session of ours; it ends before the next one begins, also where its restore was killed."""


class PlacesDisturbed(AgentError):
    """The databases {live} and {beside} are not as a restore has left them; they are left as they are."""

    repair = "look at them (SHOW TABLES IN ...), and move what you want by RENAME TABLE ... TO {live}. ..."


class NotExchanged(AgentError):
    """The database {live} cannot be replaced."""

    repair = "see who holds it: SHOW FULL PROCESSLIST"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A database, and what a restore has brought beside it; its scripts are in `directory`, under this `name`."""

    server: mariadb.Server
    live: str
    beside: str
    directory: Path
    name: str

    def home(self, side: Side) -> str:
        """Return the database where that side's tables are while they are kept."""
        return self.beside if side == "new" else f"{self.beside}{reserved.ASIDE}"

    @property
    def users(self) -> Path:
        """Where the statements are that drop, and that make, users who are not there, or not yet whole."""
        return self.directory / f"{self.name}.users"

    def script(self, side: Side) -> Path:
        """Return where the script is that makes what acts on that side's tables; empty where there is no database."""
        return self.directory / f"{self.name}.{side}"


def of(server: mariadb.Server, renaming: Renaming, directory: Path, container: str) -> Exchange:
    """Return what exchanges one database of a container's server."""
    return Exchange(server, renaming.live, renaming.beside, directory, f"{reserved.tag(renaming.beside)}.{container}")


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there: the tables of each database, and what acts on those that live, by its kind and name."""

    tables: Mapping[str, Sequence[str]]
    programs: Sequence[tuple[str, str]] = field(default=())

    def lives(self, one: Exchange) -> Side:
        """Return which side lives; raises `PlacesDisturbed` where that is not told."""
        kept: list[Side] = [side for side in ("old", "new") if KEPT in self.tables.get(one.home(side), ())]
        if len(kept) != 1:
            raise PlacesDisturbed(live=one.live, beside=one.beside)
        return "old" if kept[0] == "new" else "new"


async def prepare(one: Exchange, charset: str, collation: str, programs: bytearray) -> None:
    """Have what was loaded beside ready to change places; nothing else is there for it yet."""
    script = _whole(one, charset, collation, programs.decode(errors="surrogateescape"))
    await asyncio.to_thread(_write, one.script("new"), script)
    await run(one.server, f"CREATE TABLE {_kept(one, 'new')} ENGINE=InnoDB {_RIGHTS} WHERE false;")


async def prepare_users(one: Exchange, script: str) -> None:
    """Have those of a dump's users who are missing made when the tables live that their rights speak of."""
    missing = await mariadb.missing_users(one.server, script)
    await asyncio.to_thread(_write, one.users, missing)


async def check(one: Exchange, side: Side) -> None:
    """Raise `PlacesDisturbed`, `NotMovable` where that side could not be brought about; nothing is moved."""
    if (await _look(one)).lives(one) == side:
        raise PlacesDisturbed(live=one.live, beside=one.beside)
    if found := await movable.obstacles(one.server, one.live):
        raise movable.NotMovable(live=one.live, what="; ".join(found), repair="change that; then ask again")


async def settle(exchanges: Sequence[Exchange], side: Side) -> None:
    """Bring it about that that side of a server's databases lives; as often as one likes, after anything.

    Raises `PlacesDisturbed`, `NotExchanged`, and what asking the server does.
    """
    cause: AgentError | None = None
    for number in range(TRIES):
        if number:
            await asyncio.sleep(_AGAIN_SECONDS)  # somebody was as quick as to connect again
        try:
            for step in (_move, _make_anew, _make_users):  # what acts may speak of another one's tables
                for one in exchanges:
                    await step(one, side)
        except PlacesDisturbed:
            raise
        except AgentError as error:
            cause = error
        else:
            return
    assert cause is not None  # noqa: S101 - else it had succeeded
    raise NotExchanged(live=", ".join(one.live for one in exchanges), cause=last_words(cause))


async def drop(one: Exchange) -> None:
    """Drop what is kept beside; the names are ours alone."""
    for side in ("new", "old"):
        with suppress(AgentError):  # who has just gone cannot be ended
            await run(one.server, await _ending(one, one.home(side)))
        await run(one.server, statements.drop(one.home(side)))


def forget(directory: Path, undo_id: str) -> None:
    """Take away the scripts of a restore."""
    for path in directory.glob(f"{reserved.of_undo(undo_id)}*"):
        _remove(path)


async def run(server: mariadb.Server, script: str) -> None:
    """Have the server do that, when no other session of ours is at work."""
    await server.ask(f"{_TURN}\n{script}")


async def _move(one: Exchange, side: Side) -> None:
    """Have the tables of that side stand where they live, and the others at home."""
    await run(one.server, "")  # what a killed restore has asked for is over then
    seen = await _look(one)
    stands = seen.lives(one)
    if stands == side:
        return
    there = one.live in seen.tables
    if await asyncio.to_thread(_read, one.script(stands)) is None:  # else some of what acts may be gone already
        await run(one.server, _keep_rights(one, side))
        script = await _script(one) if there else ""
        await asyncio.to_thread(_write, one.script(stands), script)
    made = [f"CREATE DATABASE IF NOT EXISTS {name(each)};" for each in (one.live, one.home(stands))]
    renames = [
        *(_to(one.live, table, one.home(stands)) for table in seen.tables.get(one.live, ())),
        *(_to(one.home(side), table, one.live) for table in seen.tables[one.home(side)] if table != KEPT),
        _to(one.home(side), KEPT, one.home(stands)),
    ]
    lines = [
        *made,
        await _ending(one, one.live),
        *_drops(one.live, seen.programs),
        f"RENAME TABLE {', '.join(renames)};",
    ]
    await run(one.server, "\n".join(lines))


async def _make_anew(one: Exchange, side: Side) -> None:
    """Make what acts on the tables that live, where it may be missing."""
    script = await asyncio.to_thread(_read, one.script(side))
    if script is None:
        return
    seen = await _look(one)
    if script:
        kept = _kept(one, "new" if side == "old" else "old")
        rights = f"INSERT IGNORE INTO mysql.procs_priv SELECT * FROM {kept}; FLUSH PRIVILEGES;"  # noqa: S608 - quoted
        await run(one.server, "\n".join([*_drops(one.live, seen.programs), script, rights]))
    elif not seen.tables.get(one.live):
        await run(one.server, statements.drop(one.live))
    await asyncio.to_thread(_remove, one.script(side))


async def _make_users(one: Exchange, side: Side) -> None:
    """Make those who were missing, whole; or none of them, where what they have come with does not live."""
    missing = await asyncio.to_thread(_read, one.users)
    if missing is not None:
        drop, make = missing
        await run(one.server, f"{drop}\n{make if side == 'new' else ''}")
        await asyncio.to_thread(_remove, one.users)


async def _look(one: Exchange) -> Seen:
    names = ", ".join(text(each) for each in (one.live, one.home("new"), one.home("old")))
    live = text(one.live)
    lines = await one.server.ask(
        f"""
        SELECT json_array(schema_name, 'SCHEMA', '') FROM information_schema.schemata WHERE schema_name IN ({names})
        UNION ALL SELECT json_array(table_schema, table_type, table_name) FROM information_schema.tables
        WHERE table_schema IN ({names})
        UNION ALL SELECT json_array('', 'TRIGGER', trigger_name) FROM information_schema.triggers
        WHERE trigger_schema = {live}
        UNION ALL SELECT json_array('', routine_type, routine_name) FROM information_schema.routines
        WHERE routine_schema = {live}
        UNION ALL SELECT json_array('', 'EVENT', event_name) FROM information_schema.events
        WHERE event_schema = {live};"""  # noqa: S608 - hexadecimal digits
    )
    tables: dict[str, list[str]] = {}
    programs = []
    for schema, kind, called in map(json.loads, lines.splitlines()):
        if kind == "SCHEMA":
            tables.setdefault(schema, [])
        elif kind in _TABLES:
            tables.setdefault(schema, []).append(called)
        elif kind != "VIEW" or schema == one.live:
            programs.append((kind, called))
    return Seen(tables, programs)


async def _script(one: Exchange) -> str:
    """Return what makes all that acts on the tables that live, as it is now."""
    how = await one.server.ask(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"  # noqa: S608 - digits
        f" WHERE schema_name = {text(one.live)};"
    )
    charset, collation = how.split("\t")
    return _whole(one, charset, collation, await mariadb.programs_of(one.server, one.live))


def _whole(one: Exchange, charset: str, collation: str, programs: str) -> str:
    return f"{statements.create(one.live, charset, collation)}\nUSE {name(one.live)};\n{programs}"


def _keep_rights(one: Exchange, side: Side) -> str:
    table = _kept(one, side)
    return f"DELETE FROM {table}; INSERT INTO {table} {_RIGHTS} WHERE db = {text(one.live)};"  # noqa: S608 - hexadecimal digits


def _kept(one: Exchange, side: Side) -> str:
    return f"{name(one.home(side))}.{KEPT}"


async def _ending(one: Exchange, database: str) -> str:
    """Return the statements that end whoever is connected to a database."""
    question = "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db"
    found = await one.server.ask(f"{question} = {text(database)};")
    return "\n".join(f"KILL {number};" for number in found.split())


def _drops(database: str, programs: Sequence[tuple[str, str]]) -> Sequence[str]:
    return [f"DROP {kind} IF EXISTS {name(database)}.{name(called)};" for kind, called in programs]


def _to(database: str, table: str, other: str) -> str:
    return f"{name(database)}.{name(table)} TO {name(other)}.{name(table)}"


def _write(path: Path, script: object) -> None:
    """Note it as JSON, which has the bytes of any character set: what acts is printed in that of who made it."""
    try:
        statefile.write_durably(path, json.dumps(script), mode=0o600)
    except OSError as error:
        raise NotNoted(directory=path.parent, cause=error) from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise NotNoted(directory=path.parent, cause=error) from error


def _remove(path: Path) -> None:
    """Take it away for good: one that came back after a power cut would take the place of what is made meanwhile."""
    try:
        path.unlink(missing_ok=True)
        statefile.sync_directory(path.parent)
    except OSError as error:
        raise NotNoted(directory=path.parent, cause=error) from error
