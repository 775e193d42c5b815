"""One repository's way from a commit to a proven deployment, or back.

git moves the working copy forward or says why not; the move from what is deployed to where it is now is on disk before
anything follows it. The last move that ended well is what is deployed: whatever else moved the working copy, its owner
by hand say, the next run makes up for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from homelab_agent.core import journal
from homelab_agent.core.jobs import Run
from homelab_agent.core.privilege import VerbRefused
from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.difference import Difference
from homelab_agent.gitops.moves import KEPT, Move, Moves, MoveState
from homelab_agent.gitops.rollout import Failure, Rollout
from homelab_agent.gitops.settings import Repository
from homelab_agent.gitops.working_copy import Synced, WorkingCopy

_NOTHING_EARLIER = "no earlier deployment is known here"

log = journal.logger("gitops")


def short(sha: str) -> str:
    """Return a commit as a person reads it."""
    return sha[:7] or "nothing"


def way_forward(repository: str) -> str:
    """Return what leads on from a commit that was rolled back from."""
    return f"push a commit that mends it, or: homelab-agent gitops sync {repository} --again"


def earlier(history: Iterable[Move], current: str, bad: Mapping[str, str]) -> str:
    """Return the last good commit before the current one; "" if none is known. `history` has the newest first."""
    for move in history:
        if move.state == "ok":
            for sha in (move.to_sha, move.from_sha):
                if sha and sha != current and sha not in bad:
                    return sha
    return ""


def is_news(
    planned: Synced, deployed: Move | None, newest: Move | None, bad: Mapping[str, str], tried: Sequence[str] = ()
) -> bool:
    """Return whether a look found something to be done: a commit that was neither deployed nor tried before.

    `newest` is the newest move, however it ended; one that was cut short is to be taken up. `tried` are the commits
    that actions were begun for since what is deployed was: it may be left in part.
    """
    if newest is not None and newest.state == "running":
        return planned.word != "not_available"  # without a root half it could not be gone on with
    if not planned.is_good or planned.target in bad:
        return False
    if deployed is not None and planned.target == deployed.to_sha:
        is_left = bool(tried) and newest is not None and newest.to_sha != planned.target
        return planned.head != planned.target or is_left
    return newest is None or newest.to_sha != planned.target


class Deployment:
    """Deploys and rolls back one repository, one thing at a time; what was cut short is taken up first.

    For git at work there are `places`, which all repositories share.
    """

    def __init__(
        self, repository: Repository, copy: WorkingCopy, moves: Moves, rollout: Rollout, places: asyncio.Semaphore
    ) -> None:
        self.repository = repository
        self._name = repository.name
        self._copy = copy
        self._moves = moves
        self.rollout = rollout
        self._places = places
        self._difference = Difference(self._name, copy, moves)

    async def deploy(self, run: Run, asked: str, insists: Callable[[Move], bool]) -> Verdict:
        """Bring the working copy to a commit, or with "" to its branch's tip, and do what follows.

        A commit whose deployment failed is tried again where `insists` says so of that move. Cancelled, or without a
        root half (raises `AWAY`), it leaves the move to be taken up by the next call. Raises `StateUnavailable`.
        """
        try:
            taken_up = await self._take_up(run)
            if taken_up is not None and asked and asked == taken_up.sha_asked:
                return taken_up
            run.progress(0, None, "actions", "git")
            run.say("git is asked what is new")
            async with self._places:
                synced = await self._sync(asked, run)
            if taken_up is not None and synced.target and synced.target == taken_up.sha_asked:
                return taken_up
            if not synced.is_good:
                return _verdict(synced)
            return await self._follow(synced, run, insists)
        except VerbRefused as error:
            return Verdict("not_available", str(error), error.repair)

    async def roll_back(self, run: Run) -> Verdict:
        """Go back to the last good commit before the present one; the verdict is `rolled_back` if that went well.

        Raises `StateUnavailable`, and `AWAY`, after which the next deployment goes back first.
        """
        await self.abandon("a rollback was asked for")
        async with self._places:
            planned = await self._copy.look()
        if not planned.head:
            return _verdict(planned)
        good = await self._good_before(planned.head)
        if not good:
            return Verdict("not_available", _NOTHING_EARLIER, sha_reached=planned.head)
        back = await self._moves.begin(self._name, planned.head, good, run.id, going_back="a person asked for it")
        try:
            return await self._go_back(back, run)
        except VerbRefused as error:
            return Verdict("not_available", str(error), error.repair)

    async def abandon(self, why: str) -> None:
        """Let what was cut short be: it is not taken up."""
        for move in await self._unfinished():
            for action in await self._moves.actions(move):
                if action.ended_at is None:
                    await self._moves.end_action(move, action.position, "interrupted", why)
            await self._moves.end(move, "interrupted", why)

    async def preview(self) -> Mapping[str, object]:
        """Return what a deployment would do now; raises what `Privileged.call` raises."""
        planned = await self._copy.look()
        found = await self._moves.start(self._name)
        bad = await self._moves.bad(self._name)
        start = found.to_sha if found is not None else planned.head
        return await self._told(self._unless_bad(planned, bad), start, planned.target)

    async def preview_back(self) -> Mapping[str, object]:
        """Return where a rollback would go now, and what would follow, in the words of `preview`; raises as that does.

        What git does not keep, and where it is to put a file, it finds in its way only when it moves.
        """
        planned = await self._copy.look()
        if not planned.head:
            return await self._told(planned, "", "")
        good = await self._good_before(planned.head)
        if not good:
            nothing = replace(planned, word="not_available", detail=_NOTHING_EARLIER, repair="")
            return await self._told(nothing, planned.head, "")
        return await self._told(await self._copy.rollback(good, plan=True), planned.head, good)

    async def look(self) -> tuple[Synced, bool]:
        """Return how the working copy stands, and whether there is something to be done; raises `StateUnavailable`."""
        planned = await self._copy.look()
        deployed, bad = await self._moves.deployed(self._name), await self._moves.bad(self._name)
        newest = next(iter(await self._moves.newest(self._name, 1)), None)
        tried = await self._moves.tried(self._name)
        return self._unless_bad(planned, bad), is_news(planned, deployed, newest, bad, tried)

    async def forgive(self) -> None:
        """Let commits that were rolled back from be deployed again; raises `StateUnavailable`."""
        for sha in await self._moves.bad(self._name):
            await self._moves.forgive(self._name, sha)

    async def contained(self, head: str, shas: Sequence[str]) -> frozenset[str]:
        """Return those commits that are part of `head`; raises what `Privileged.call` raises."""
        return await self._copy.contained(head, shas)

    async def _told(self, judged: Synced, start: str, target: str) -> Mapping[str, object]:
        """Return what a move from one commit to another would be; `judged` says whether it can be."""
        paths = await self._difference.between(start, target)
        return {
            "verdict": judged.word,
            "detail": judged.detail,
            "repair": judged.repair,
            "deployed": start,
            "head": judged.head,
            "target": target,
            "commits": judged.commits,
            "files": paths,
            "actions": [action.name for _, action in self.rollout.chosen(paths)],
        }

    # Forward.

    async def _sync(self, asked: str, run: Run) -> Synced:
        bad, is_first = await self._moves.bad(self._name), await self._moves.start(self._name) is None
        if bad or is_first:
            planned = self._unless_bad(await self._copy.plan(asked), bad)
            if not planned.is_good:
                return planned
            asked = planned.target
            if is_first:  # from here on it is known what changes, wherever this is cut short
                await self._moves.adopt(self._name, planned.head, run.id)
        return await self._copy.sync(asked)

    def _unless_bad(self, planned: Synced, bad: Mapping[str, str]) -> Synced:
        """Return what git would do, or the verdict on a commit that was rolled back from before."""
        is_behind = planned.word == "up_to_date" and planned.head != planned.target
        if not planned.is_good or planned.target not in bad or is_behind:  # one that is behind us comes no more
            return planned
        detail = f"{short(planned.target)} was rolled back from: {bad[planned.target]}"
        return replace(planned, word="bad_sha", detail=detail, repair=way_forward(self._name))

    async def _follow(self, synced: Synced, run: Run, insists: Callable[[Move], bool]) -> Verdict:
        """Do what follows from where the working copy is now."""
        head = synced.head
        start = await self._moves.start(self._name)
        assert start is not None  # noqa: S101 - what was there has been recorded before git moved it
        if start.to_sha == head and not await self._moves.tried(self._name):
            return _verdict(synced)
        for newest in await self._moves.newest(self._name, 1):
            if newest.to_sha == head and newest.state in {"failed", "interrupted"} and not insists(newest):
                return (await self.rollout.failure(newest)).verdict(newest)
        move = await self._moves.begin(self._name, start.to_sha, head, run.id)
        return await self._go_on(move, run)

    async def _go_on(self, move: Move, run: Run) -> Verdict:
        run.say(f"{short(move.from_sha)} to {short(move.to_sha)}")
        chosen = await self.rollout.follow(move, await self._difference.of(move))
        async with run.using(self.rollout.uses(chosen)):
            failure = await self.rollout.carry_out(move, chosen, run)
            if failure is None:
                names = [action.name for _, action in chosen]
                followed = f"actions: {', '.join(names)}" if names else "nothing had to follow"
                detail = f"{short(move.from_sha)} to {short(move.to_sha)}; {followed}"
                await self._moves.end(move, "ok", detail)
                return Verdict("ok", detail, sha_asked=move.to_sha, sha_reached=move.to_sha)
            if self.repository.rollback == "automatic" and move.leads_on and failure.word != "interrupted":
                why = failure.detail
                back = await self._moves.begin(self._name, move.to_sha, move.from_sha, run.id, going_back=why)
                return await self._undo(move, back, failure, run)
            state: MoveState = "interrupted" if failure.word == "interrupted" else "failed"
            await self._moves.end(move, state, failure.detail)
            return failure.verdict(move)

    # Back.

    async def _undo(self, move: Move, back: Move, failure: Failure, run: Run) -> Verdict:
        """Go back from a move that failed, by itself; its commit is not deployed by itself again."""
        verdict = await self._go_back(back, run)
        if verdict.word == "rolled_back" or verdict.sha_reached == back.to_sha:
            await self._moves.end(move, "rolled_back", failure.detail, bad_sha=move.to_sha)
            return replace(verdict, word="rolled_back", sha_asked=move.to_sha)
        detail = f"{failure.detail}; it could not be rolled back: {verdict.detail}"
        await self._moves.end(move, "failed", detail, bad_sha=move.to_sha)
        return replace(failure.verdict(move), detail=detail)

    async def _go_back(self, back: Move, run: Run) -> Verdict:
        async with run.using(self.rollout.uses(self.rollout.chosen(None))):
            return await self._move_back(back, run)

    async def _move_back(self, back: Move, run: Run) -> Verdict:
        run.progress(0, None, "actions", f"back to {short(back.to_sha)}")
        run.say(f"back to {short(back.to_sha)}")
        synced = await self._copy.rollback(back.to_sha)
        if not synced.is_good:
            if synced.head in {"", back.from_sha}:
                await self._moves.take_back(back)
            else:
                await self._moves.end(back, "failed", synced.detail)
            return _verdict(synced)
        if synced.kept_ref:
            run.say(f"{short(back.from_sha)} stays as {synced.kept_ref}")
        chosen = await self.rollout.follow(back, await self._difference.of(back))
        failure = await self.rollout.carry_out(back, chosen, run)
        said = f"rolled back to {short(back.to_sha)}: {back.going_back}"
        repair = way_forward(self._name)
        reached = Verdict("rolled_back", said, repair, sha_asked=back.from_sha, sha_reached=back.to_sha)
        if failure is not None:
            said = f"{said}; there, too: {failure.detail}"
            repair = f"homelab-agent gitops rollback {self._name}"
            reached = replace(reached, word=failure.word, detail=said, repair=repair)
        await self._moves.end(back, "ok" if failure is None else "failed", said, bad_sha=back.from_sha)
        log.warning("gitops.rolled_back", repository=self._name, sha=back.from_sha, to=back.to_sha, detail=said)
        return reached

    async def _good_before(self, head: str) -> str:
        """Return the last good commit before where it is; "" if none is known."""
        history = await self._moves.newest(self._name, KEPT)
        return earlier(history, head, await self._moves.bad(self._name))

    # After a start.

    async def _unfinished(self) -> list[Move]:
        return [move for move in await self._moves.unfinished() if move.repository == self._name]

    async def _take_up(self, run: Run) -> Verdict | None:
        """Finish what was cut short; return what became of it, None if there was nothing."""
        unfinished = await self._unfinished()
        if not unfinished:
            return None
        *undone, move = unfinished
        log.warning("gitops.taken_up", repository=self._name, sha=move.to_sha, since=move.started_at)
        if undone:
            failure = await self.rollout.failure(undone[-1])
            return await self._undo(undone[-1], move, replace(failure, detail=move.going_back), run)
        if move.going_back:
            return await self._go_back(move, run)
        if (why := (await self._moves.bad(self._name)).get(move.to_sha)) is not None:  # it had been rolled back
            await self._moves.end(move, "rolled_back", why)
            return Verdict("rolled_back", why, sha_asked=move.to_sha, sha_reached=move.from_sha)
        async with self._places:
            planned = await self._copy.plan()
        if planned.head and planned.head != move.to_sha:
            await self.abandon(f"the working copy was moved to {short(planned.head)} meanwhile")
            return None
        return await self._go_on(move, run)


def _verdict(synced: Synced) -> Verdict:
    return Verdict(
        synced.word,
        synced.detail,
        synced.repair,
        sha_asked=synced.target,
        sha_reached=synced.head or synced.head_before,
    )
