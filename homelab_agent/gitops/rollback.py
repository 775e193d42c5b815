"""The one move backwards: a clean working copy, on its branch, to a commit that the branch comes from.

The branch's old tip is kept under a name of its own, and the next sync moves forward again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from homelab_agent.core import process
from homelab_agent.core.privilege import Answer
from homelab_agent.gitops.git import Git, verdict

KEPT = "refs/homelab/rolled-back/"
_NAMES_MAX = 64 * 1024 * 1024
"""Bytes of the names of files that differ between two commits."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What git says in the C locale when it does not move, the verdict on it, and commands that show or mend why."""

    signs: tuple[str, ...]
    word: str
    repair: tuple[str, ...] = ()


BEFORE = (
    Reason(("local changes", "not uptodate"), "dirty_overlap", ("git stash push",)),
    Reason(("ntracked working tree file", "would lose untracked files"), "untracked_collision"),
    Reason(("cannot switch branch while", "resolve your current index"), "dirty", ("git status",)),
    Reason(("index.lock': File exists",), "locked", ("pgrep -a git",)),
)
"""Said before anything is moved: what is in the working copy is not git's."""
LATER = (
    Reason((".lock': File exists", "cannot lock ref"), "locked", ("pgrep -a git",)),
    Reason(("dubious ownership", "ermission denied"), "wrong_owner"),
    Reason(("not a git repository",), "not_a_repository"),
    Reason(("bad object", "unable to read", "index file", "corrupt"), "corrupt", ("git fsck",)),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a working copy is: `head` is "" for a branch yet to be born, `branch` for no branch at all."""

    head: str
    branch: str
    edited: int

    @classmethod
    def of(cls, printed: str) -> Standing:
        """Read what `git status --porcelain=v2 --branch -z` prints."""
        lines = printed.split("\0")
        told = dict(line.removeprefix("# branch.").split(" ", 1) for line in lines if line.startswith("# branch."))
        # Another commit in a submodule is what a move without submodules leaves behind: no edit.
        edits = [line for line in lines if line.startswith(("1 ", "u ")) and not line.startswith("1 .M SC.. ")]
        head, branch = told["oid"], told["head"]
        return cls("" if head == "(initial)" else head, "" if branch == "(detached)" else branch, len(edits))


async def roll_back(git: Git, good: str, *, plan: bool = False) -> Answer:
    """Move back to `good`, or say why not: a verdict as the sync script's, `head` and, moved, `kept_ref`.

    With `plan` it only says so; what git does not keep is found to be in the way by the move alone. Once begun the move
    comes to its end, whoever goes away, but for the submodules, which may be far away. Raises `git.GitFailed` for what
    git cannot do for a reason of its own.
    """
    await git.forget_cut_short()
    done = await git.run(*_status(git.repository.ignore_dirty))
    if done.code != 0:
        return _refused(git, done, "")
    standing = Standing.of(done.stdout.decode(errors="replace"))
    refusal = await _refusal(git, standing, good)
    if refusal is not None:
        return refusal
    if plan:
        here = {"head_before": standing.head, "head": standing.head, "kept_ref": ""}
        return verdict("ok", f"{standing.branch} can move back to {good[:7]}", **here)
    moving = asyncio.ensure_future(_move(git, standing, good))
    try:
        moved = await asyncio.shield(moving)
    except asyncio.CancelledError:
        await moving
        raise
    return await _with_submodules(git, moved) if git.repository.submodules and moved["verdict"] == "ok" else moved


def _status(may_be_dirty: Sequence[str]) -> list[str]:
    words = ["status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no", "--no-renames", "-z"]
    return [*words, "--", ".", *(f":(exclude,top,glob){glob}" for glob in may_be_dirty)]


async def _refusal(git: Git, standing: Standing, good: str) -> Answer | None:
    """Return why it does not move; None if it may."""
    head, branch = standing.head, git.repository.branch
    here = {"head_before": head, "head": head, "kept_ref": ""}
    if not standing.branch:
        return verdict("detached", "HEAD is on no branch", [f"git switch {branch}"], **here)
    if standing.branch != branch:
        return verdict("wrong_branch", f"{standing.branch} is checked out", [f"git switch {branch}"], **here)
    if head == good:
        return verdict("up_to_date", f"{branch} is at {good[:7]} already", **here)
    if not head or (await git.run("merge-base", "--is-ancestor", good, head)).code != 0:
        return verdict("diverged", f"{good[:7]} is no commit that {branch} comes from", ["git log --oneline"], **here)
    if standing.edited:
        files = "1 file" if standing.edited == 1 else f"{standing.edited} files"
        return verdict("dirty", f"{files} edited here", ["git stash push"], **here)
    return None


async def _move(git: Git, before: Standing, good: str) -> Answer:
    head, branch = before.head, git.repository.branch
    kept = f"{KEPT}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    done = await git.run("update-ref", kept, head, "")
    if done.code != 0:
        return _refused(git, done, head)
    # Not `git reset --keep`: that overwrites an ignored file where the older commit has one of its own.
    words = ("switch", "--quiet", "--no-progress", "--no-overwrite-ignore", "--no-track", "--force-create")
    try:
        done = await git.run(*words, branch, good)
    except process.DeadlinePassed as error:
        done = error.completed
    standing = await _standing(git)
    if standing != Standing(good, branch, 0):  # also where git is content: a file that cannot be written is no failure
        half_way = standing != before and _reason(done, BEFORE) is None
        if half_way and not await _put_back(git, before, good):
            detail = f"the move stopped half-way, and could not be taken back: {git.complaint(done)}"
            here = {"head_before": head, "head": standing.head, "kept_ref": kept}
            return verdict("dirty", detail, ["df -h .", "git status"], **here)
        await git.run("update-ref", "-d", kept, head)
        return _refused(git, done, head)
    here = {"head_before": head, "head": good, "kept_ref": kept}
    return verdict("ok", f"{branch} moved back to {good[:7]}", **here)


async def _with_submodules(git: Git, moved: Answer) -> Answer:
    """Bring the submodules to what the commit asks for; return what is to be said of the whole."""
    done = await git.run("submodule", "update", "--init", "--recursive", "--checkout")
    if done.code == 0:
        return moved
    detail = f"{git.repository.branch} is where it is to be, its submodules are not: {git.complaint(done)}"
    return {**moved, **verdict("fetch_failed", detail, ["git submodule update --init --recursive"])}


async def _standing(git: Git) -> Standing:
    """Return where it is; raises `git.GitFailed`."""
    done = await git.answer(*_status(git.repository.ignore_dirty))
    return Standing.of(done.stdout.decode(errors="replace"))


async def _put_back(git: Git, before: Standing, good: str) -> bool:
    """Undo a move that stopped half-way, and return whether all is as before.

    It had been allowed to begin, so the files that it adds were not there.
    """
    differing = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", before.head, good)
    added = await git.answer(*differing, "--diff-filter=A", output_max=_NAMES_MAX)
    await git.remove(added.stdout)  # first, for they may have filled the disk
    await git.run("read-tree", good)
    names = await git.answer(*differing, output_max=_NAMES_MAX)
    taking = ("--literal-pathspecs", "checkout", "--quiet", "--no-overlay", "--pathspec-from-file=-")
    await git.run(*taking, "--pathspec-file-nul", before.head, stdin=names.stdout)
    if (await _standing(git)).head == good:
        await git.run("update-ref", f"refs/heads/{git.repository.branch}", before.head, good)
    return await _standing(git) == before


def _refused(git: Git, done: process.Completed, head: str) -> Answer:
    """Return the verdict on what git refused; raises `git.GitFailed` where there is none for it."""
    if (reason := _reason(done, BEFORE + LATER)) is None:
        raise git.failed(done)
    return verdict(reason.word, git.complaint(done), reason.repair, head_before=head, head=head, kept_ref="")


def _reason(done: process.Completed, reasons: Sequence[Reason]) -> Reason | None:
    """Return the first that fits."""
    said = done.stderr.decode(errors="replace")
    return next((reason for reason in reasons if any(sign in said for sign in reason.signs)), None)
