"""Which files a deployment changes: since what is deployed, and since whatever else actions were begun for after that.

What failed, forward or back, leaves something of another commit behind: that counts as changed, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from homelab_agent.core import journal
from homelab_agent.core.privilege import AWAY, VerbFailed
from homelab_agent.gitops.moves import Move, Moves
from homelab_agent.gitops.working_copy import WorkingCopy

log = journal.logger("gitops")


class Difference:
    """The differences between commits of one repository; None is every file."""

    def __init__(self, repository: str, copy: WorkingCopy, moves: Moves) -> None:
        self._repository = repository
        self._copy = copy
        self._moves = moves

    async def of(self, move: Move) -> Sequence[str] | None:
        """Return the files that a move changes; every file where git cannot tell, as after a commit is gone.

        Raises `AWAY`, `VerbRefused` and `StateUnavailable`.
        """
        tried = await self._moves.tried(self._repository, before=move)
        try:
            return await self._since([move.from_sha, *tried], move.to_sha)
        except AWAY:
            raise
        except VerbFailed as error:
            log.warning("gitops.difference_unknown", repository=self._repository, error=error)
            return None

    async def between(self, start: str, target: str) -> Sequence[str] | None:
        """Return the files that a move between two commits would change; raises what `Privileged.call` raises."""
        return await self._since([start, *await self._moves.tried(self._repository)], target) if target else ()

    async def _since(self, commits: Sequence[str], target: str) -> Sequence[str] | None:
        paths: dict[str, None] = {}
        for sha in dict.fromkeys(commits):
            if sha == target:
                continue
            changed = await self._copy.changed(sha, target) if sha else None
            if changed is None:
                return None
            paths |= dict.fromkeys(changed)
        return tuple(paths)
