"""What follows a move of the working copy: its actions in order, then the health gate; taken up where it was cut short.

Before an action begins that is on disk, and so is how it ended: one that has ended never runs again for that move, and
one that was cut short only where its `repeat` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from homelab_agent.core import journal
from homelab_agent.core.jobs import CONTAINERS, Run
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbCutShort, VerbRefused
from homelab_agent.gitops import actions
from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.moves import ActionRecord, Move, Moves
from homelab_agent.gitops.probes import Gate
from homelab_agent.gitops.settings import Action, Repository
from homelab_agent.gitops.working_copy import WorkingCopy

_ASKING = "is everything well?"

log = journal.logger("gitops")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a move is not good."""

    word: Literal["action_failed", "unhealthy", "interrupted"]
    detail: str

    def verdict(self, move: Move) -> Verdict:
        """Return the verdict on a move that failed so, and was not rolled back."""
        again = self.word == "interrupted" or not move.leads_on
        repair = f"homelab-agent gitops {'sync' if again else 'rollback'} {move.repository}"
        return Verdict(self.word, self.detail, repair, sha_asked=move.to_sha, sha_reached=move.to_sha)


Chosen: TypeAlias = Sequence[tuple[int, Action]]
"""Actions with their positions in the configuration, in the order in which they run."""


class Rollout:
    """Carries out what follows the moves of one repository."""

    def __init__(self, repository: Repository, copy: WorkingCopy, moves: Moves, gate: Gate) -> None:
        self._repository = repository
        self._copy = copy
        self._moves = moves
        self._gate = gate

    def chosen(self, paths: Sequence[str] | None) -> Chosen:
        """Return the actions that follow a change of these files; None is every file."""
        return [(position, self._repository.action[position]) for position in self._positions(paths)]

    async def follow(self, move: Move, paths: Sequence[str] | None) -> Chosen:
        """Return the actions that follow a move that changed these files, with those that had begun for it before."""
        known = [record.position for record in await self._moves.actions(move)]
        positions = sorted({*self._positions(paths), *filter(self._name, known)})
        return [(position, self._repository.action[position]) for position in positions]

    def uses(self, chosen: Chosen) -> frozenset[str]:
        """Return what others must not use while these actions and the health gate follow a move, or it is undone."""
        touches_containers = any(action.kind != "systemctl" for action in self._repository.action)
        return frozenset({CONTAINERS}) if touches_containers and (chosen or self._repository.probe) else frozenset()

    async def carry_out(self, move: Move, chosen: Chosen, run: Run) -> Failure | None:
        """Do what is left to be done of what follows a move; return why it is not good, None if it is.

        Cancelled, or where the root half is away or refuses (raises `AWAY`, `VerbRefused`), the move is taken up later.
        """
        known = {record.position: record for record in await self._moves.actions(move)}
        if any(self._name(position) != record.name for position, record in known.items()):
            return Failure("interrupted", "the actions in the configuration are no longer those that had begun")
        for number, (position, action) in enumerate(chosen):
            run.progress(number, len(chosen), "actions", action.name)
            failure = await self._carry_on(move, position, action, known.get(position), run)
            if failure is not None:
                return failure
        run.progress(len(chosen), len(chosen), "actions", _ASKING if self._repository.probe else "")
        if self._repository.probe:
            run.say(_ASKING)
        trouble = await self._gate.trouble()
        return Failure("unhealthy", trouble) if trouble else None

    async def failure(self, move: Move) -> Failure:
        """Return why a move that has ended is not good, as the records of its actions tell."""
        for record in await self._moves.actions(move):
            if record.state in {"failed", "interrupted"}:
                return _failure(record)
        return Failure("interrupted" if move.state == "interrupted" else "unhealthy", move.detail)

    async def _carry_on(
        self, move: Move, position: int, action: Action, known: ActionRecord | None, run: Run
    ) -> Failure | None:
        if known is None or (known.state == "started" and action.repeat):
            return await self._run(move, position, action, run)
        if known.state == "ok":
            return None
        if known.state == "started":
            await self._moves.end_action(move, position, "interrupted", "the agent ended while it ran")
        return _failure(known)

    async def _run(self, move: Move, position: int, action: Action, run: Run) -> Failure | None:
        await self._moves.begin_action(move, position, action.name)
        log.info("gitops.action_started", repository=move.repository, action=action.name)
        run.say(f"{action.name} begins")
        try:
            done = await self._copy.act(action, lambda _, line: run.say(f"{action.name}: {line}"))
        except (PrivilegedUnavailable, VerbRefused):
            await self._moves.take_back_action(move, position)
            raise
        except VerbCutShort as error:
            if action.repeat:
                raise
            await self._moves.end_action(move, position, "interrupted", str(error))
            return _cut_short(action.name)
        run.say(f"{action.name} {done.detail}")
        said = f"{done.detail}\n{done.tail}" if done.tail else done.detail
        await self._moves.end_action(move, position, "ok" if done.ok else "failed", said)
        tell = log.info if done.ok else log.warning
        tell("gitops.action_ended", repository=move.repository, action=action.name, ended=done.detail, output=done.tail)
        return None if done.ok else Failure("action_failed", _sentence(action.name, said))

    def _positions(self, paths: Sequence[str] | None) -> Sequence[int]:
        return actions.chosen(self._repository.action, paths)

    def _name(self, position: int) -> str:
        known = self._repository.action
        return known[position].name if position < len(known) else ""


def _failure(record: ActionRecord) -> Failure:
    if record.state == "failed":
        return Failure("action_failed", _sentence(record.name, record.detail))
    return _cut_short(record.name)


def _cut_short(name: str) -> Failure:
    return Failure("interrupted", f"action {name} was cut short, and is not repeated by itself")


def _sentence(name: str, said: str) -> str:
    """Return how an action went, in one line: how it ended, and the last that it printed."""
    how, *printed = said.splitlines()
    return f"action {name} {how}" + (f": {printed[-1].strip()}" if printed else "")
