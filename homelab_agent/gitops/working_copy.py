"""A repository's working copy, as the root half's verbs reach it: git and actions run there as its owner.

What the root half refuses or cannot do is an answer like the others: the verdict `not_available` with the error's own
words and repair. That it is not there, or is no longer (`AWAY`), is raised: what was asked of it is to be asked again.
It knows few of the agent's secrets: all words that come from it, and what was printed there, are masked here, before
anybody records, tells or cuts them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from homelab_agent.core import process
from homelab_agent.core.arguments import SHAS_MAX
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import AWAY, Answer, Privileged, VerbFailed, VerbRefused
from homelab_agent.core.process_output import OnLine
from homelab_agent.core.secret import Secret
from homelab_agent.gitops import owned, section
from homelab_agent.gitops.delivery import Word
from homelab_agent.gitops.settings import Action, Repository

_SLACK_SECONDS = 30.0
"""How much longer than the root half itself its answer is waited for."""

_GIT_SECONDS = 60.0 + _SLACK_SECONDS
_TAIL_CHARACTERS = 3000
_PROBE_SECONDS = 30.0
_RESTART_SECONDS = 30.0
_WORDS = frozenset(get_args(Word))


@dataclass(frozen=True, slots=True)
class Synced:
    """What git did, or with `plan` would do; SHAs are "" where there is none.

    `head_before` and `head` are where the working copy was and is, `target` where it was to be; `kept_ref` is the name
    under which a rollback has kept the branch's old tip.
    """

    word: Word
    detail: str
    repair: str = ""
    head_before: str = ""
    head: str = ""
    target: str = ""
    commits: int = 0
    kept_ref: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the working copy is where it was to be, or can be brought there."""
        return self.word in {"ok", "up_to_date"}


@dataclass(frozen=True, slots=True)
class Done:
    """How an action or a probe went: `detail` in words, `tail` the last of what it printed."""

    ok: bool
    detail: str
    tail: str = ""


class WorkingCopy:
    """One thing at a time is asked of git there; actions and probes are not kept waiting by that."""

    def __init__(
        self,
        repository: Repository,
        privileged: Privileged,
        secret: Callable[[str], Secret],
        mask: Callable[[str], str],
        *,
        sync_timeout: float,
    ) -> None:
        """`sync_timeout` is how long git may take, in seconds; `secret` makes one of a reference, `mask` hides all."""
        self._repository = repository
        self._section = section.digest(repository)
        self._privileged = privileged
        self._secret = secret
        self._mask = mask
        self._sync_timeout = sync_timeout
        self._git = asyncio.Lock()

    async def sync(self, sha: str = "") -> Synced:
        """Move forward to a commit of the branch, to its tip if none is given or the branch has it not.

        Raises `AWAY`, as do `plan`, `rollback`, `act` and `probe`.
        """
        return await self._synced("git_sync", sha)

    async def plan(self, sha: str = "") -> Synced:
        """Say what `sync` would do."""
        return await self._synced("git_plan", sha)

    async def look(self) -> Synced:
        """Say what `sync` would do; without a root half that is `not_available`."""
        try:
            return await self.plan()
        except AWAY as error:
            return Synced("not_available", str(error), error.repair)

    async def rollback(self, sha: str, *, plan: bool = False) -> Synced:
        """Move back to an older commit of the branch, or with `plan` say whether that can be.

        Where it is there already it is `up_to_date`.
        """
        return await self._synced("git_rollback", sha, **({"plan": True} if plan else {}))

    async def changed(self, old: str, new: str) -> tuple[str, ...] | None:
        """Return the files that differ between two commits, None if they cannot be told.

        Raises what `Privileged.call` raises.
        """
        async with self._git:
            answer = await self._call("git_changed", deadline=_GIT_SECONDS, old=old, new=new)
        return None if answer.get("truncated") else tuple(map(str, answer["paths"]))

    async def contained(self, head: str, shas: Sequence[str]) -> frozenset[str]:
        """Return those commits that are part of `head`; raises what `Privileged.call` raises."""
        found: set[str] = set()
        async with self._git:
            for first in range(0, len(shas), SHAS_MAX):
                part = list(shas[first : first + SHAS_MAX])
                answer = await self._call("git_contained", deadline=_GIT_SECONDS, head=head, shas=part)
                found.update(map(str, answer["contained"]))
        return frozenset(found)

    async def act(self, action: Action, on_line: OnLine) -> Done:
        """Run an action; each line that it prints is given on. Raises `VerbRefused`, too: it did not begin."""
        try:
            answer = await self._call(
                "run_action",
                deadline=action.timeout + _SLACK_SECONDS,
                on_line=lambda stream, line: on_line(stream, self._mask(line)),
                action=action.name,
            )
        except AWAY:
            raise
        except VerbFailed as error:
            return Done(ok=False, detail=f"failed: {error}")
        seconds = float(answer.get("seconds", 0.0))
        match answer.get("state"):
            case "ok":
                ok, detail = True, f"took {seconds:.1f} s"
            case "timed_out":
                ok, detail = False, f"was ended after {seconds:.0f} s"
            case _:
                ok, detail = False, f"ended with {answer.get('code')} after {seconds:.1f} s"
        return Done(ok, detail, self._mask(str(answer.get("tail", ""))).strip()[-_TAIL_CHARACTERS:])

    async def probe(self, index: int) -> Done:
        """Ask one of the repository's probes that take more than the agent may, once; raises `VerbRefused`, too."""
        try:
            answer = await self._call("run_probe", deadline=_PROBE_SECONDS, probe=index)
        except (*AWAY, VerbRefused):
            raise
        except AgentError as error:
            return Done(ok=False, detail=str(error))
        return Done(ok=bool(answer.get("holds")), detail=self._mask(str(answer.get("detail", ""))))

    async def restart_agent(self) -> None:
        """Have the agent itself restarted, soon; raises what `Privileged.call` raises."""
        await self._privileged.call("restart_agent", deadline=_RESTART_SECONDS)

    async def _synced(self, verb: str, sha: str, **more: bool) -> Synced:
        asked: dict[str, Any] = {"sha": sha, **more} if sha else more
        deadline = self._sync_timeout + _SLACK_SECONDS
        try:
            async with self._git:
                with handed(await self._credential()) as descriptors:
                    answer = await self._call(verb, deadline=deadline, descriptors=descriptors, **asked)
        except AWAY:
            raise
        except AgentError as error:
            return Synced("not_available", str(error), error.repair)
        synced = read(answer, self._repository)
        return replace(synced, detail=self._mask(synced.detail))

    async def _credential(self) -> str:
        """Return the token for a private remote, "" where there is none; raises what `Secret.get` raises."""
        if not self._repository.token:
            return ""
        return await self._secret(self._repository.token).latest()

    async def _call(
        self,
        verb: str,
        *,
        deadline: float,
        descriptors: tuple[int, ...] = (),
        on_line: OnLine | None = None,
        **names: object,
    ) -> Answer:
        try:
            return await self._privileged.call(
                verb,
                deadline=deadline,
                descriptors=descriptors,
                on_line=on_line,
                repository=self._repository.name,
                section=self._section,
                **names,
            )
        except VerbFailed as error:
            why, cause = self._mask(error.message), self._mask(error.cause)
            raise type(error)(message=why, cause=cause, repair=error.repair, code=error.exit_code) from None


@contextmanager
def handed(value: str) -> Iterator[tuple[int, ...]]:
    """Give descriptors that a secret is read from, none for ""; closed after."""
    if not value:
        yield ()
        return
    descriptor = process.readable(value.encode())
    try:
        yield (descriptor,)
    finally:
        os.close(descriptor)


def read(answer: Answer, repository: Repository) -> Synced:
    """Return what the half's answer about a repository means; its repair is then one line."""
    word = answer.get("verdict")
    if word not in _WORDS:
        return Synced("not_available", f"the root half answered with the verdict {word!r}, which is none")
    repair = answer.get("repair", "")
    if isinstance(repair, list):
        repair = owned.typed([str(one) for one in repair], repository.directory, str(answer.get("as_user", "")))
    return Synced(
        word=cast("Word", word),
        detail=str(answer.get("detail", "")),
        repair=str(repair),
        head_before=str(answer.get("head_before", "")),
        head=str(answer.get("head", "")),
        target=str(answer.get("target", "")),
        commits=int(answer.get("commits", 0)),
        kept_ref=str(answer.get("kept_ref", "")),
    )
