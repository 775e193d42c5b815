"""Commit statuses at GitHub: what became of a push, told where it was made. Whether it is taken changes nothing else.

What is public there says which verdict it was and no more: neither output nor paths nor names of this host's files.

https://docs.github.com/en/rest/commits/statuses#create-a-commit-status,
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api (one request after the other,
and how long to wait when there were too many).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import aiohttp

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.health import Finding
from homelab_agent.core.secret import Secret
from homelab_agent.gitops.delivery import GOOD, Verdict, Word
from homelab_agent.gitops.deployment import short

StatusState: TypeAlias = Literal["pending", "success", "failure"]

TRIES = 3
PAUSES_SECONDS = (2.0, 10.0)
LONGEST_PAUSE_SECONDS = 900.0
"""A forge that wants us to wait for longer is not told."""

SECONDARY_SECONDS = 60.0
"""How long to wait after too many requests when the answer does not say."""

WAITING_MAX = 300
DESCRIPTION_MAX = 140
_ANSWER_SECONDS = 20.0
_ANSWER_BYTES = 64 * 1024

_SAID: Mapping[Word, str] = MappingProxyType(
    {
        "ok": "deployed",
        "up_to_date": "was deployed already",
        "dirty": "not deployed: files were edited on the host",
        "dirty_overlap": "not deployed: files that it changes were edited on the host",
        "untracked_collision": "not deployed: files on the host are in its way",
        "diverged": "not deployed: the host has commits of its own",
        "ahead": "not deployed: the host has commits of its own",
        "forced": "not deployed: the branch was pushed by force",
        "detached": "not deployed: the host has no branch checked out",
        "locked": "not deployed: another git was at work on the host",
        "wrong_branch": "not deployed: the host has another branch checked out",
        "not_a_repository": "not deployed: the host has no working copy",
        "wrong_owner": "not deployed: the working copy belongs to another user",
        "fetch_failed": "not deployed: it could not be fetched",
        "corrupt": "not deployed: the host's copy is damaged",
        "unsigned": "not deployed: nobody who may has signed it",
        "action_failed": "the host has it, but an action failed after that",
        "unhealthy": "the host has it, but is not well with it",
        "interrupted": "cut short",
        "not_available": "not deployed: the host could not do it",
        "bad_sha": "not deployed: it was rolled back from before",
    }
)

log = journal.logger("gitops")


@dataclass(frozen=True, slots=True)
class _Note:
    state: StatusState
    description: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one request: done, worth another after `pause` seconds, or refused for good."""

    trouble: str = ""
    pause: float | None = None


def said(verdict: Verdict) -> tuple[StatusState, str]:
    """Return a verdict as a commit status: state and description."""
    state: StatusState = "success" if verdict.word in GOOD else "failure"
    match verdict.word:
        case "included":
            words = f"included in {short(verdict.sha_reached)}"
        case "rolled_back":
            words = f"rolled back to {short(verdict.sha_reached)}"
        case word:
            words = _SAID.get(word, word)
    return state, words[:DESCRIPTION_MAX]


class CommitStatuses:
    """Tells GitHub; of a commit that waits to be told only the last counts."""

    def __init__(self, token: Callable[[], Secret], clock: Clock, *, api_url: str, context: str) -> None:
        """`token` makes the secret; `context` is what the statuses of this host are called, beside others' ones."""
        self._token = token
        self._clock = clock
        self._api_url = api_url
        self._context = context
        self._waiting: dict[tuple[str, str, str], _Note] = {}
        self._more = asyncio.Event()
        self._trouble = ""

    def tell(self, full_name: str, name: str, sha: str, state: StatusState, description: str) -> None:
        """Have a commit of the repository `full_name`, here called `name`, marked; too many waiting, the oldest go."""
        key = (full_name, name, sha)
        self._waiting.pop(key, None)
        self._waiting[key] = _Note(state, description)
        while len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._more.set()

    async def run(self) -> None:
        """Tell until cancelled; one request after the other."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        headers = {
            "Accept": "application/vnd.github+json",
            "User-Agent": "homelab-agent",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            while True:
                self._more.clear()
                while self._waiting:
                    key = next(iter(self._waiting))
                    await self._deliver(session, key, self._waiting.pop(key))
                await self._more.wait()

    async def probe(self) -> Finding:
        """Say whether GitHub takes what it is told."""
        if self._trouble:
            return Finding.degraded(f"commit statuses are not taken: {self._trouble}", "gitops.status_token")
        return Finding.ok(f"commit statuses go to {self._api_url}; waiting: {len(self._waiting)}")

    async def _deliver(self, session: aiohttp.ClientSession, key: tuple[str, str, str], note: _Note) -> None:
        for number in range(1, TRIES + 1):
            answer = await self._post(session, key, note, PAUSES_SECONDS[min(number, len(PAUSES_SECONDS)) - 1])
            self._trouble = answer.trouble
            if not answer.trouble:
                return
            if answer.pause is None or answer.pause > LONGEST_PAUSE_SECONDS or number == TRIES:
                break
            await self._clock.sleep(answer.pause)
            if key in self._waiting:  # there is something newer to be said of it
                return
        full_name, _, sha = key
        log.warning("gitops.status_not_told", repository=full_name, sha=sha, state=note.state, cause=self._trouble)

    async def _post(
        self, session: aiohttp.ClientSession, key: tuple[str, str, str], note: _Note, pause: float
    ) -> _Answer:
        full_name, name, sha = key
        body = {"state": note.state, "description": note.description, "context": f"{self._context}/{name}"}
        url = f"{self._api_url}/repos/{full_name}/statuses/{sha}"
        try:
            authority = {"Authorization": f"Bearer {await self._token().latest()}"}
            async with session.post(url, json=body, headers=authority, allow_redirects=False) as answer:
                text = (await answer.content.read(_ANSWER_BYTES)).decode(errors="replace")
                return self._judge(answer.status, answer.headers, text, pause)
        except AgentError as error:  # the token's
            return _Answer(str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError too
            return _Answer(describe(error), pause)

    def _judge(self, status: int, headers: Mapping[str, str], text: str, pause: float) -> _Answer:
        if status == 201:
            return _Answer()
        message = _message(text)
        trouble = f"{self._api_url} answers {status}" + (f": {message}" if message else "")
        if status in {403, 429} and (wanted := self._wanted(status, headers, message)) is not None:
            return _Answer(trouble, wanted)
        return _Answer(trouble, pause if status >= 500 else None)

    def _wanted(self, status: int, headers: Mapping[str, str], message: str) -> float | None:
        """Return how long GitHub wants us to wait; None if it is not that there were too many requests."""
        if (after := headers.get("Retry-After", "")).isdecimal():
            return float(after)
        if headers.get("X-RateLimit-Remaining") == "0" and (reset := headers.get("X-RateLimit-Reset", "")).isdecimal():
            return max(1.0, float(reset) - self._clock.read().wall.timestamp())
        return SECONDARY_SECONDS if status == 429 or "rate limit" in message.lower() else None


def _message(text: str) -> str:
    """Return what an answer says in words, in one line; "" if it is not GitHub's JSON."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    message = told.get("message") if isinstance(told, dict) else None
    return " ".join(message.split())[:200] if isinstance(message, str) else ""
