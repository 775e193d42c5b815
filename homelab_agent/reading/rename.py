"""A source that was given another name: all that is known of it goes by the new one, so that nothing comes twice."""

from __future__ import annotations

from typing import Any

from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Database
from homelab_agent.core.http import Conflict
from homelab_agent.core.jobs import Outcome, Run, of_options
from homelab_agent.reading import lease

KEYED = {"reading_analytics": "mongo_id", "reading_rejected": "key"}
"""Tables of documents, and what has their ids: those of polled sources begin with the source's name."""

MOVED = ("sync_history", "sync_proof")
"""Tables of runs: of one that took both sources, what it did at the old one stays."""

REPLACED = ("sync_cursor", "sync_unproven", "reading_key")
"""Of a source without documents it is no loss."""

_HAS_ANY = """
SELECT EXISTS (SELECT FROM reading_analytics WHERE origin = $1)
    OR EXISTS (SELECT FROM reading_rejected WHERE origin = $1)
"""


class StillConfigured(Conflict):
    """The reading source {old} is in the configuration still."""

    repair = "change its name there to {new}, restart the agent, then: homelab-agent reading rename {old} {new}"


class NothingToRename(AgentError):
    """There are no documents of a reading source {old}."""

    repair = "homelab-agent reading status"


class NameTaken(AgentError):
    """There are documents of the reading source {new} already."""

    repair = "give the source a name that none had before"


class Rename:
    """Renames what is known of a source that is `new` in the configuration, and was `old` there."""

    def __init__(self, database: Database, *, host: str) -> None:
        self._database = database
        self._host = host

    async def run(self, run: Run) -> Outcome:
        """Do it all, or nothing, while no agent is at work on either.

        Raises `NothingToRename`, `NameTaken`, and `TakenElsewhere`.
        """
        given = of_options(run.options)
        old, new = given["old"], given["new"]
        async with (
            self._database.acquire() as connection,
            lease.held(connection, old, new, host=self._host),
            connection.transaction(),
        ):
            if await connection.fetchval(_HAS_ANY, new):
                raise NameTaken(new=new)
            if not await connection.fetchval(_HAS_ANY, old):
                raise NothingToRename(old=old)
            count = await _rename(connection, old, new)
        return Outcome(ok=True, detail=f"{count} documents of {old} are now of {new}")


async def _rename(connection: Any, old: str, new: str) -> int:
    """Return how many documents have another source now."""
    count = 0
    for table, key in KEYED.items():
        statement = (
            f"UPDATE {table} SET origin = $2, {key} = CASE WHEN starts_with({key}, $1 || ':')"  # noqa: S608
            f" THEN $2 || substr({key}, length($1) + 1) ELSE {key} END WHERE origin = $1"
        )
        done: str = await connection.execute(statement, old, new)
        count += int(done.removeprefix("UPDATE "))
    for table in MOVED:
        both = f"SELECT run FROM {table} WHERE origin = $2"  # noqa: S608
        await connection.execute(f"DELETE FROM {table} WHERE origin = $1 AND run IN ({both})", new, old)  # noqa: S608
    for table in REPLACED:
        await connection.execute(f"DELETE FROM {table} WHERE origin = $1", new)  # noqa: S608
    for table in (*MOVED, *REPLACED):
        await connection.execute(f"UPDATE {table} SET origin = $2 WHERE origin = $1", old, new)  # noqa: S608
    return count
