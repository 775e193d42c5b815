"""Databases of one PostgreSQL change names in one transaction, so that whoever dies meanwhile leaves one order whole.

Which database stands under which name is told by OIDs, which a rename keeps, as `swap.py` does it with files: `settle`
brings about either order from what it finds. Connections to what is renamed are ended first, for the server refuses
while there is one (https://www.postgresql.org/docs/current/sql-alterdatabase.html).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence

from homelab_agent.backup import reserved
from homelab_agent.backup.dumps import postgres
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo_note import Renaming
from homelab_agent.core.errors import AgentError

TRIES = 5
_AGAIN_SECONDS = 0.5
_OIDS = "SELECT json_object_agg(datname, oid::bigint) FROM pg_database"
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({names}) AND pid <> pg_backend_pid();"


class DatabaseDisturbed(AgentError):
    """The databases {live} and {beside} are not those that were put there; they are left as they are."""

    repair = "look at both (psql -l), and keep one of them as {live}: ALTER DATABASE ... RENAME TO ..."


class NotRenamedThere(AgentError):
    """The database {live} cannot be replaced."""

    repair = "see who holds it: SELECT * FROM pg_stat_activity; SELECT * FROM pg_prepared_xacts"


async def oids(server: postgres.Server) -> Mapping[str, int]:
    """Return the OID of each database by its name."""
    found: Mapping[str, int] = json.loads(await server.ask(_OIDS))
    return found


async def check(server: postgres.Server, renamings: Sequence[Renaming], side: Side) -> None:
    """Raise `DatabaseDisturbed` where that side could not be brought about; nothing is renamed."""
    there = await oids(server)
    for one in renamings:
        tuple(steps(one, there, side))


async def settle(server: postgres.Server, renamings: Sequence[Renaming], side: Side) -> None:
    """Bring it about that each `live` is that side's database; as often as one likes, after anything.

    Raises `DatabaseDisturbed`, `NotRenamedThere`, and what asking the server does: nothing is renamed then.
    """
    server = _from_another(server, renamings)
    cause: AgentError | None = None
    for number in range(TRIES):
        if number:
            await asyncio.sleep(_AGAIN_SECONDS)  # somebody was as quick as to connect again
        there = await oids(server)
        renames = [step for one in renamings for step in steps(one, there, side)]
        if not renames:
            return
        names = {f"n{place}": name for place, name in enumerate(dict.fromkeys(one for pair in renames for one in pair))}
        by_name = {name: variable for variable, name in names.items()}
        ending = _END.format(names=", ".join(f":'{variable}'" for variable in names))
        lines = [f'ALTER DATABASE :"{by_name[old]}" RENAME TO :"{by_name[new]}";' for old, new in renames]
        try:
            await server.ask("\n".join([ending, "BEGIN;", *lines, "COMMIT;"]), **names)
        except AgentError as error:
            cause = error
    assert cause is not None  # noqa: S101 - else it had succeeded
    raise NotRenamedThere(live=", ".join(one.live for one in renamings), cause=cause)


def steps(renaming: Renaming, there: Mapping[str, int], side: Side) -> Iterator[tuple[str, str]]:
    """Yield the renames from how things are to that side, in order; pure. Raises `DatabaseDisturbed`."""
    wanted, other = (renaming.new, renaming.old) if side == "new" else (renaming.old, renaming.new)
    where = {there[name]: name for name in (renaming.live, renaming.beside) if name in there}
    if set(where) != {one for one in (wanted, other) if one is not None}:
        raise DatabaseDisturbed(live=renaming.live, beside=renaming.beside)
    aside = f"{renaming.beside}{reserved.ASIDE}"
    moved = other is not None and where[other] == renaming.live
    if moved:
        yield renaming.live, aside if wanted is not None else renaming.beside
    if wanted is not None and where[wanted] == renaming.beside:
        yield renaming.beside, renaming.live
    if moved and wanted is not None:
        yield aside, renaming.beside


async def drop(server: postgres.Server, renamings: Sequence[Renaming]) -> None:
    """Drop what is kept beside, and is still that; of one that was just being filled nothing but the name is known."""
    there = await oids(server)
    for one in renamings:
        kept = there.get(one.beside)
        if kept is not None and (one.new is None or kept in {one.old, one.new}):
            ending = _END.format(names=":'name'")
            plain = 'ALTER DATABASE :"name" IS_TEMPLATE false;'
            await server.ask(f'{ending}\n{plain}\nDROP DATABASE :"name";', name=one.beside)


def _from_another(server: postgres.Server, renamings: Sequence[Renaming]) -> postgres.Server:
    """Return the server as asked from a database that is not renamed."""
    for one in renamings:
        server = server.beside(one.live)
    return server
