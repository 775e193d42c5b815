"""The root half's verbs over a repository that is only thought of: commits in memory, actions that only happened.

It answers what the verbs answer over real git (the whole is tested with the real ones elsewhere), but can be stopped
before and after each thing that it does, and asked what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import Answer, VerbFailed
from homelab_agent.core.process_output import OnLine


@dataclass(slots=True)
class Tree:
    """One repository: its remote branch and its working copy."""

    parents: dict[str, str] = field(default_factory=dict)
    files: dict[str, Mapping[str, str]] = field(default_factory=dict)
    tip: str = ""
    head: str = ""
    dirty: bool = False
    lacks_submodules: bool = False
    """Whether its submodules cannot be had: it moves without them, and says so."""
    broken: frozenset[str] = frozenset()
    """Actions that fail, wherever HEAD is."""
    broken_at: dict[str, frozenset[str]] = field(default_factory=dict)
    """Actions that fail while HEAD is there."""
    reached: list[str] = field(default_factory=list)
    """Where HEAD has been, in order."""
    ran: list[tuple[str, str]] = field(default_factory=list)
    """Actions that were begun, with where HEAD was then."""
    done: list[tuple[str, str]] = field(default_factory=list)
    """Those that succeeded."""
    holds: bool = True
    """What probes say."""

    def push(self, changes: Mapping[str, str], *, parent: str | None = None) -> str:
        """Commit on the remote branch, at its tip or elsewhere; return the commit."""
        before = self.tip if parent is None else parent
        files = {**self.files.get(before, {}), **changes}
        sha = hashlib.sha1(repr((before, len(self.parents), sorted(files.items()))).encode()).hexdigest()
        self.parents[sha], self.files[sha] = before, files
        self.tip = sha
        return sha

    def adopt(self) -> None:
        """Bring the working copy to the tip by hand."""
        self.go(self.tip)

    def go(self, sha: str) -> None:
        if sha != self.head:
            self.head = sha
            self.reached.append(sha)

    def contains(self, new: str, old: str) -> bool:
        """Say whether `old` is `new` or before it."""
        while new and new != old:
            new = self.parents.get(new, "")
        return bool(new) and new == old

    def paths(self, old: str, new: str) -> list[str]:
        """Return the files that differ."""
        before, after = self.files[old], self.files[new]
        return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


@dataclass(slots=True)
class HalfModel:
    """Implements `core.privilege.Privileged`.

    `gate` is awaited with repository, verb, and "before" or "after" what is done; `failing` says whether a verb fails,
    and with what.
    """

    trees: dict[str, Tree] = field(default_factory=dict)
    failure: AgentError | None = None
    failing: Callable[[str], AgentError | None] = lambda _: None
    calls: list[str] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    """How many descriptors came with each call."""
    restarts: int = 0
    asked: int = 0
    """How often it was asked whether it is there."""
    at_once: dict[str, int] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)
    gate: Callable[[str, str, str], Awaitable[None]] | None = None

    async def answers(self) -> bool:
        self.asked += 1
        return self.failure is None

    async def call(
        self,
        verb: str,
        *,
        deadline: float,  # noqa: ARG002 - the protocol's
        descriptors: Sequence[int] = (),
        on_line: OnLine | None = None,
        **names: Any,
    ) -> Answer:
        repository = str(names.get("repository", ""))
        self.calls.append(verb)
        self.given.append(len(descriptors))
        if self.failure is not None:
            raise self.failure
        if (error := self.failing(verb)) is not None:
            raise error
        with self._counted(repository):
            await self._pass(repository, verb, "before")
            if verb == "restart_agent":
                self.restarts += 1
                return {}
            answer = self._answer(self.trees[repository], verb, names, on_line)
            await self._pass(repository, verb, "after")
        return answer

    def lease(self, verb: str, *, deadline: float, **names: object) -> Any:  # noqa: ARG002
        raise AssertionError("GitOps holds nothing")

    async def _pass(self, repository: str, verb: str, when: str) -> None:
        if self.gate is not None:
            await self.gate(repository, verb, when)

    @contextlib.contextmanager
    def _counted(self, repository: str) -> Iterator[None]:
        """Count how much is under way in one repository; git and actions there exclude one another."""
        self.at_once[repository] = self.at_once.get(repository, 0) + 1
        self.most_at_once[repository] = max(self.most_at_once.get(repository, 0), self.at_once[repository])
        try:
            yield
        finally:
            self.at_once[repository] -= 1

    def _answer(self, tree: Tree, verb: str, names: Mapping[str, Any], on_line: OnLine | None) -> Answer:
        match verb:
            case "git_plan" | "git_sync":
                return self._sync(tree, names.get("sha", ""), move=verb == "git_sync")
            case "git_rollback":
                return self._rollback(tree, names["sha"], plan=names.get("plan", False))
            case "git_changed":
                old, new = names["old"], names["new"]
                if old not in tree.files or new not in tree.files:
                    raise VerbFailed(message=f"git knows no commit {old}.")
                return {"paths": tree.paths(old, new), "truncated": False}
            case "git_contained":
                if names["head"] not in tree.files:
                    raise VerbFailed(message=f"git knows no commit {names['head']}.")
                return {"contained": [sha for sha in names["shas"] if tree.contains(names["head"], sha)]}
            case "run_action":
                return self._act(tree, names["action"], on_line)
            case "run_probe":
                return {"holds": tree.holds, "detail": f"probe {names['probe']}"}
        raise AssertionError(verb)

    def _sync(self, tree: Tree, asked: str, *, move: bool) -> Answer:
        before = tree.head
        said = {"branch": "main", "asked": asked, "head_before": before, "head": before, "plan": not move}
        target = asked if asked and tree.contains(tree.tip, asked) else tree.tip
        said |= {"target": target, "commits": 0, "repair": []}
        if before and not tree.contains(tree.tip, before):
            return {**said, "verdict": "forced", "detail": "the remote took back 1 of its commits"}
        if tree.dirty:
            return {**said, "verdict": "dirty", "detail": "1 file edited here", "repair": ["git stash push"]}
        is_behind = not before or not tree.contains(before, target)
        if move and is_behind:
            tree.go(target)
        said["head"] = tree.head
        if move and tree.lacks_submodules:
            return {**said, "verdict": "fetch_failed", "detail": "its submodules are not where they are to be"}
        if is_behind:
            return {**said, "verdict": "ok", "detail": "main moved on", "commits": 1}
        return {**said, "verdict": "up_to_date", "detail": "main has all that the remote has"}

    def _rollback(self, tree: Tree, sha: str, *, plan: bool) -> Answer:
        before = tree.head
        said = {"head_before": before, "head": before, "kept_ref": ""}
        if tree.dirty:
            return {**said, "verdict": "dirty", "detail": "1 file edited here", "repair": ["git stash push"]}
        if sha == before:
            return {**said, "verdict": "up_to_date", "detail": "it is there"}
        if not tree.contains(before, sha):
            return {**said, "verdict": "diverged", "detail": "it is no commit of this branch"}
        if plan:
            return {**said, "verdict": "ok", "detail": f"main can move back to {sha[:7]}"}
        tree.go(sha)
        return {**said, "verdict": "ok", "detail": "gone back", "head": sha, "kept_ref": "refs/homelab/rolled-back/1"}

    def _act(self, tree: Tree, action: str, on_line: OnLine | None) -> Answer:
        tree.ran.append((tree.head, action))
        if on_line is not None:
            on_line("stdout", f"{action} at {tree.head}")
        fails = action in tree.broken or action in tree.broken_at.get(tree.head, frozenset())
        if not fails:
            tree.done.append((tree.head, action))
        state, code, tail = ("failed", 3, "first\nout of cheese\n") if fails else ("ok", 0, "fine\n")
        return {"state": state, "code": code, "tail": tail, "seconds": 0.5}


class Brake:
    """Holds calls back until they are let go; a `HalfModel.gate`."""

    def __init__(self, *places: tuple[str, str]) -> None:
        """`places` are verbs and "before" or "after" where it holds."""
        self._places = set(places)
        self.held: asyncio.Event = asyncio.Event()
        self._free = asyncio.Event()

    async def __call__(self, _: str, verb: str, when: str) -> None:
        if (verb, when) in self._places and not self._free.is_set():
            self.held.set()
            await self._free.wait()

    def release(self) -> None:
        """Let everything go, from now on."""
        self._free.set()
