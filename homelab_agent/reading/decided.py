"""What was rejected is tried again, or wanted no more, as somebody has decided.

That a document is to be tried again is written down first, and then done at its source: who is killed in between leaves
it to the next run, or to whoever decides it once more. Both is done with the source's lease, so that no run under way
marks a document at the source as it was before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Database
from homelab_agent.reading import lease, statements
from homelab_agent.reading.source import Keeper, Opened, Source

NOT_GIVEN_AGAIN = "this kind of source does not give it again; mended there, it comes as another document"
NOT_CONFIGURED = "its source is not in the configuration any more"
LEFT_TO_NEXT_RUN = "it is tried again by the next run that reaches the source"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a decision about one document: that it is `done`, or why not, and what helps."""

    source: str
    key: str
    detail: str
    repair: str = ""
    done: bool = True


class Decided:
    """Carries out what is decided about documents, of one source after the other."""

    def __init__(self, sources: Mapping[str, Source], database: Database, *, host: str) -> None:
        self._sources = sources
        self._database = database
        self._host = host

    async def retry(self, name: str, keys: Sequence[str]) -> Sequence[Outcome]:
        """Have documents of a source tried again by its next run."""
        source = self._sources.get(name)
        if source is None:
            return [_refused(name, key, NOT_CONFIGURED) for key in keys]
        try:
            async with (
                self._database.acquire() as connection,
                lease.held(connection, name, host=self._host),
                source.open() as opened,
            ):
                if not isinstance(opened, Keeper):
                    return [_refused(name, key, NOT_GIVEN_AGAIN) for key in keys]
                await connection.execute(statements.SET_STATE, name, keys, "retry")
                return await _retried(connection, opened, name, keys)
        except AgentError as error:
            return [Outcome(name, key, str(error), error.repair, done=False) for key in keys]

    async def drop(self, name: str, keys: Sequence[str]) -> Sequence[Outcome]:
        """Want documents no more: later runs pass over them, and nobody is asked about them again."""
        try:
            async with self._database.acquire() as connection, lease.held(connection, name, host=self._host):
                await connection.execute(statements.SET_STATE, name, keys, "dropped")
        except AgentError as error:
            return [Outcome(name, key, str(error), error.repair, done=False) for key in keys]
        return [Outcome(name, key, "dropped") for key in keys]


async def _retried(connection: Any, opened: Opened, name: str, keys: Sequence[str]) -> Sequence[Outcome]:
    try:
        lost = await reopen(connection, opened, name)
    except AgentError as error:
        return [Outcome(name, key, f"{LEFT_TO_NEXT_RUN}: {error}", error.repair, done=False) for key in keys]
    return [_refused(name, key, lost[key]) if key in lost else Outcome(name, key, "is tried again") for key in keys]


async def reopen(connection: Any, opened: Opened, origin: str) -> Mapping[str, str]:
    """Have the source give again what is to be tried again; needs its lease.

    Return why it does not, by key, for each document that it gives no more: that stays rejected.
    """
    if not isinstance(opened, Keeper):
        return {}
    wanted = {row["key"]: row["raw"] for row in await connection.fetch(statements.TO_RETRY, origin)}
    lost = await opened.reopen(wanted) if wanted else {}
    if lost:
        await connection.execute(statements.SET_STATE, origin, [*lost], "rejected")
    return lost


def _refused(name: str, key: str, why: str) -> Outcome:
    return Outcome(name, key, why, "homelab-agent reading rejected drop ID", done=False)
