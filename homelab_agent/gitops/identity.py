"""The forge's numbers of repositories: from the configuration, else from the first verified delivery."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from homelab_agent.core.clock import Clock, microseconds
from homelab_agent.core.state import State
from homelab_agent.gitops.settings import Repository

_SELECT = "SELECT repository, full_name, id FROM gitops_learned_id"
_LEARN = (
    "INSERT INTO gitops_learned_id (repository, full_name, id, learned_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (repository) DO UPDATE SET full_name = excluded.full_name, id = excluded.id,"
    " learned_at = excluded.learned_at"
)


class Identities:
    """A name can be given up and taken by somebody else, a number cannot."""

    def __init__(self, repositories: Sequence[Repository], state: State, clock: Clock) -> None:
        self._names = {one.name: one.full_name.lower() for one in repositories}
        self._known = {one.name: one.id for one in repositories if one.id}
        self._state = state
        self._clock = clock
        self._loaded = False

    async def known(self) -> Mapping[str, int]:
        """Return the numbers that are known, by the repositories' configured names; raises `StateUnavailable`."""
        if not self._loaded:
            for name, full_name, number in await self._state.write(_select):
                # What was learned under another name at the forge is of another repository.
                if name not in self._known and self._names.get(name) == full_name:
                    self._known[name] = number
            self._loaded = True
        return self._known

    async def learn(self, name: str, number: int) -> None:
        """Keep the number of a repository that has none yet; raises `StateUnavailable`."""
        if name in self._known:
            return
        values = (name, self._names[name], number, microseconds(self._clock.read().wall))
        await self._state.write(lambda connection: connection.execute(_LEARN, values).close())
        self._known[name] = number


def _select(connection: sqlite3.Connection) -> list[tuple[str, str, int]]:
    return connection.execute(_SELECT).fetchall()
