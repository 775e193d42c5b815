"""How a repository's last run ended, as its moves tell an agent that was started since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.deployment import way_forward
from homelab_agent.gitops.moves import Move, Moves
from homelab_agent.gitops.rollout import Rollout


async def recalled(repository: str, moves: Moves, rollout: Rollout) -> tuple[Verdict, datetime] | None:
    """Return the verdict that the newest move came to, and when; None where nothing is wrong, or still under way.

    It is the verdict that was given then (`Deployment`), in the same words. Raises `StateUnavailable`.
    """
    history = await moves.newest(repository, 2)
    if not history or (ended_at := history[0].ended_at) is None:
        return None
    newest = history[0]
    if not newest.going_back:
        if newest.state == "ok":
            return None
        failure = await rollout.failure(newest)
        return replace(failure.verdict(newest), detail=newest.detail or failure.detail), ended_at
    repair = way_forward(repository)
    back = Verdict("rolled_back", newest.detail, repair, sha_asked=newest.from_sha, sha_reached=newest.to_sha)
    if newest.state != "ok":  # what followed there failed, too
        word = "rolled_back" if _is_automatic(history) else (await rollout.failure(newest)).word
        back = replace(back, word=word, repair=f"homelab-agent gitops rollback {repository}")
    return back, ended_at


def _is_automatic(history: Sequence[Move]) -> bool:
    """Return whether the newest move undoes the one before it, as part of one run."""
    newest, *rest = history
    return any(move.run_id == newest.run_id and move.state == "rolled_back" for move in rest)
