"""What is known of each repository, in the words that a person reads: the check, the summary, `GET /api/gitops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Finding
from homelab_agent.gitops.delivery import GOOD, Verdict, Word
from homelab_agent.gitops.deployment import short
from homelab_agent.gitops.moves import Move
from homelab_agent.gitops.settings import Repository
from homelab_agent.gitops.working_copy import Synced

_LASTING: frozenset[Word] = frozenset({"action_failed", "unhealthy", "interrupted", "rolled_back"})
"""Verdicts of what followed git: a working copy that is well, or a run that git stopped, says nothing against them."""

_REACHED: frozenset[Word] = frozenset({"ok", "up_to_date", "action_failed", "unhealthy"})
"""Verdicts after which what was asked for is checked out."""

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


@dataclass(slots=True)
class _Known:
    repository: Repository
    deployed: Move | None = None
    bad: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    lasting: Verdict | None = None
    ended_at: datetime | None = None
    planned: Synced | None = None
    looked_at: datetime | None = None


class Status:
    """Keeps it in memory; `on_change` is given each new finding."""

    def __init__(
        self, repositories: Sequence[Repository], clock: Clock, on_change: Callable[[str, Finding], None]
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._known = {repository.name: _Known(repository) for repository in repositories}

    def learn(self, name: str, deployed: Move | None, bad: Mapping[str, str]) -> None:
        """Take what is deployed now, and which commits are not to be deployed by themselves."""
        self._known[name].deployed, self._known[name].bad = deployed, bad
        self._changed(name)

    def ended(self, name: str, verdict: Verdict, at: datetime) -> None:
        """Take how a run ended, and when; `learn` tells what is deployed since."""
        known = self._known[name]
        known.verdict, known.ended_at, known.planned = verdict, at, None
        if verdict.word in _LASTING or verdict.word in GOOD:
            known.lasting = verdict if verdict.word in _LASTING else None

    def looked(self, name: str, planned: Synced) -> None:
        """Take what a look at the remote and the working copy found just now."""
        known = self._known[name]
        known.planned, known.looked_at = planned, self._clock.read().wall
        self._changed(name)

    async def probe(self, name: str) -> Finding:
        """Return how a repository stands."""
        return self._finding(self._known[name])

    def summary(self) -> str:
        """Return how all stand, in one line."""
        count = len(self._known)
        many = "1 repository" if count == 1 else f"{count} repositories"
        moves = [known.deployed for known in self._known.values() if known.deployed is not None]
        newest = max(moves, key=lambda move: move.ended_at or move.started_at, default=None)
        return f"{many}, {self._deployed(newest)}"

    def deployed_at(self, name: str) -> datetime | None:
        """Return when what is deployed was; None while nothing was."""
        move = self._known[name].deployed
        return move.ended_at if move is not None else None

    def as_fields(self, name: str) -> dict[str, object]:
        """Return what a program is told of one repository.

        `behind` is how many commits of the branch are not checked out, as far as the last look or run knows.
        """
        known = self._known[name]
        finding = self._finding(known)
        return {
            "name": name,
            "full_name": known.repository.full_name,
            "branch": known.repository.branch,
            "directory": str(known.repository.directory),
            "deployed": known.deployed.to_sha if known.deployed is not None else "",
            "deployed_at": self.deployed_at(name),
            "state": finding.state,
            "detail": finding.detail,
            "repair": finding.repair,
            "verdict": known.verdict.word if known.verdict is not None else "",
            "ended_at": known.ended_at,
            "behind": _behind(known),
            "looked_at": known.looked_at,
            "bad": [{"sha": sha, "why": why} for sha, why in known.bad.items()],
        }

    def _finding(self, known: _Known) -> Finding:
        verdict, planned, lasting = known.verdict, known.planned, known.lasting
        deployed = self._deployed(known.deployed)
        if planned is None and verdict is not None and verdict.word not in GOOD:
            return trouble(verdict.word, f"{verdict.detail}; {deployed}", verdict.repair)
        if lasting is not None and not _is_settled(known):
            return trouble(lasting.word, f"{lasting.detail}; {deployed}", lasting.repair)
        if planned is not None and not planned.is_good:
            return trouble(planned.word, f"{planned.detail}; {deployed}", planned.repair)
        return Finding.ok(deployed)

    def _deployed(self, move: Move | None) -> str:
        if move is None:
            return "nothing deployed yet"
        age = (self._clock.read().wall - (move.ended_at or move.started_at)).total_seconds()
        return f"deployed {short(move.to_sha)} {_ago(age)}"

    def _changed(self, name: str) -> None:
        self._on_change(name, self._finding(self._known[name]))


def _is_settled(known: _Known) -> bool:
    """Return whether a look found since that what is deployed is all there is."""
    planned, deployed = known.planned, known.deployed
    return (
        planned is not None
        and deployed is not None
        and planned.word == "up_to_date"
        and planned.head == deployed.to_sha
    )


def _behind(known: _Known) -> int | None:
    """Return how many commits are not here yet; None where nobody knows."""
    if known.planned is not None:
        return known.planned.commits if known.planned.target else None
    return 0 if known.verdict is not None and known.verdict.word in _REACHED else None


def trouble(word: Word, detail: str, repair: str) -> Finding:
    """Return what a verdict that is not good amounts to: what was to be deployed is not, whoever's fault it is."""
    return Finding.degraded(f"{word}: {detail}", repair)


def _ago(seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"
