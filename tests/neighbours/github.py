"""A stand-in of GitHub, where the real one cannot be reached: the parts of its API that we call, and its webhooks.

It follows https://docs.github.com/en/rest/commits/statuses,
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api (headers, and two ways to be over a
limit), https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api (who hears 404, who 403),
https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api (tokens) and
https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api (a User-Agent is required).
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.neighbours import commit_status
from tests.neighbours.commit_status import Refused, Status
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.ports import free_port
from tests.neighbours.webhook import Hook, Sender

LIMIT = 5000
"""How many requests a person has in an hour."""

_HOUR = 3600.0
_FOREVER = -1
_USER = {"login": "octo", "id": 1, "type": "User", "site_admin": False}
_LIMITS = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
_STATUSES = re.compile(r"/repos/(?P<name>[^/]+/[^/]+)/statuses/(?P<sha>[^/]+)")
_COMBINED = re.compile(r"/repos/(?P<name>[^/]+/[^/]+)/commits/(?P<ref>.+)/status")
_PAGE = "<!DOCTYPE html>\n<title>Unicorn! &middot; GitHub</title>\n<p>No server is currently available.</p>\n"


@dataclass(frozen=True, slots=True)
class Call:
    """One request and the status it was answered with; the names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    def json(self) -> Any:
        """Return what it said."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class _Token:
    """The repositories it was made for, in lower case, where it is a fine-grained one; a classic one is for all."""

    repositories: frozenset[str] | None
    may_write: bool

    def reaches(self, full_name: str) -> bool:
        return self.repositories is None or full_name in self.repositories


@dataclass(slots=True)
class _Published:
    """A repository, and the statuses of each of its commits in the order in which they came."""

    remote: GitRemote
    is_private: bool
    statuses: dict[str, list[Status]] = field(default_factory=dict)


class GitHub:
    """One GitHub, with the repositories that are published there; what goes wrong with it does so until `mend`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` runs in another thread."""
        self.port = free_port()
        self.calls: list[Call] = []
        self._whole = threading.Lock()
        self.errors_are_text = False
        """Whether it says what is wrong with a status in one text; since 2026 it was seen to, before in a list."""
        self._loop = loop
        self._runner: web.AppRunner | None = None
        self._published: dict[str, _Published] = {}
        self._tokens: dict[str, _Token] = {}
        self._numbers = 0
        self._trouble: tuple[Refused, int] | None = None
        self.mend()

    @property
    def url(self) -> str:
        """What stands for https://api.github.com."""
        return f"http://127.0.0.1:{self.port}"

    # What is there

    def publish(self, remote: GitRemote, *, private: bool = False) -> None:
        """Let a repository be here, under the name that it has now and with the commits that it has at any time."""
        self._published[remote.full_name.lower()] = _Published(remote, private)

    def token(self, *remotes: GitRemote, may_write: bool = True) -> str:
        """Return a fine-grained token for these repositories, with the permission to write statuses or to read them."""
        names = frozenset(remote.full_name.lower() for remote in remotes)
        return self._issue(f"github_pat_{secrets.token_hex(20)}", _Token(names, may_write))

    def classic_token(self, *, may_write: bool = True) -> str:
        """Return a classic token, which is for all repositories, with the scope repo:status or without."""
        return self._issue(f"ghp_{secrets.token_hex(18)}", _Token(None, may_write))

    def revoke(self, token: str) -> None:
        """Let it be a token no more."""
        del self._tokens[token]

    def statuses(self, remote: GitRemote, sha: str) -> list[Status]:
        """Return what a commit got, in order."""
        with self._whole:
            return self._published[remote.full_name.lower()].statuses.get(sha, [])

    @staticmethod
    def hook(remote: GitRemote, url: str, secret: str, *, form: bool = False, sender: Sender = "github") -> Hook:
        """Return a webhook of a repository, which sends to `url` what it is told to."""
        return Hook(remote, url, secret, form=form, sender=sender)

    # What goes wrong

    def fail(self, status: int = 502, *, times: int = _FOREVER) -> None:
        """Answer so many requests, or all, with this status and a page that is no JSON."""
        self._trouble = (Refused.page(status, _PAGE), times)

    def throttle(self, status: int = 403, *, retry_after: int | None = 60, times: int = _FOREVER) -> None:
        """Be over a secondary limit: 403 or 429, and mostly Retry-After in seconds."""
        refused = Refused(
            status, "You have exceeded a secondary rate limit.", url=f"{_LIMITS}#about-secondary-rate-limits"
        )
        if retry_after is not None:
            refused.headers["Retry-After"] = str(retry_after)
        self._trouble = (refused, times)

    def exhaust(self, *, seconds: float = _HOUR) -> None:
        """Be over the primary limit for so long: 403, and 0 in X-RateLimit-Remaining."""
        self._used = LIMIT
        self._resets_at = time.time() + seconds

    def slow(self, seconds: float) -> None:
        """Answer so much later."""
        self._delay = seconds

    def down(self) -> None:
        """Close all connections and refuse new ones, until `up`."""
        if self._runner is not None:
            self._run(self._runner.cleanup())
            self._runner = None

    def up(self) -> None:
        """Listen, on the same port as before."""
        assert self._runner is None, "it is up"
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        self._run(self._listen(self._runner))

    def mend(self) -> None:
        """Answer everything at once again; the hour begins anew."""
        self._trouble = None
        self._delay = 0.0
        self._used = 0
        self._resets_at = time.time() + _HOUR

    # How it answers, in the thread of its loop

    async def _listen(self, runner: web.AppRunner) -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(self._delay)
        with self._whole:  # who sees what it made sees the call, too
            try:
                self._stumble()
                answer = self._decide(request, body)
            except Refused as refused:
                answer = web.Response(status=refused.status, text=refused.body, headers=refused.headers)
            answer.headers.update(self._accounts())
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.calls.append(Call(request.method, request.path, headers, body, answer.status))
        return answer

    def _stumble(self) -> None:
        match self._trouble:
            case refused, times if times:
                self._trouble = (refused, times if times == _FOREVER else times - 1)
                raise refused

    def _decide(self, request: web.Request, body: bytes) -> web.Response:
        if not request.headers.get("User-Agent"):
            raise Refused.page(403, "Request forbidden by administrative rules.")
        token = self._token_of(request)
        self._count()
        if request.method == "POST" and (found := _STATUSES.fullmatch(request.path)):
            return self._create(found["name"], found["sha"], token, body)
        if request.method == "GET" and (found := _COMBINED.fullmatch(request.path)):
            return self._combine(found["name"], found["ref"], token)
        raise Refused(404, "Not Found")

    def _token_of(self, request: web.Request) -> _Token | None:
        """Return the token that is given, None where there is none."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() not in {"bearer", "token"} or given not in self._tokens:
            raise Refused(401, "Bad credentials")
        return self._tokens[given]

    def _count(self) -> None:
        if time.time() >= self._resets_at:
            self._used, self._resets_at = 0, time.time() + _HOUR
        if self._used >= LIMIT:
            raise Refused(403, "API rate limit exceeded for user ID 1.", url=f"{_LIMITS}#about-primary-rate-limits")
        self._used += 1

    def _visible(self, name: str, token: _Token | None) -> _Published:
        """Return the repository; one that the token does not reach is not there for it, when it is private."""
        found = self._published.get(name.lower())
        if found is None or (found.is_private and not (token and token.reaches(name.lower()))):
            raise Refused(404, "Not Found", url=commit_status.HERE)
        return found

    def _create(self, name: str, sha: str, token: _Token | None, body: bytes) -> web.Response:
        found = self._visible(name, token)
        if token is None:
            raise Refused(401, "Requires authentication", url=commit_status.HERE)
        if not token.may_write and token.repositories is None:
            raise Refused(404, "Not Found", url=commit_status.HERE)
        if not token.may_write or not token.reaches(name.lower()):
            refused = Refused(403, "Resource not accessible by personal access token", url=commit_status.HERE)
            refused.headers["X-Accepted-GitHub-Permissions"] = "statuses=write"
            raise refused
        wanted = commit_status.asked_for(body)
        if found.remote.find(sha) != sha:
            raise Refused(422, f"No commit found for SHA: {sha}", url=commit_status.HERE)
        statuses = found.statuses.setdefault(sha, [])
        commit_status.check(wanted, statuses, errors_are_text=self.errors_are_text)
        self._numbers += 1
        address = f"{self.url}/repos/{found.remote.full_name}/statuses/{sha}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        known = {"url": address, "avatar_url": None, "id": self._numbers, "node_id": f"SC_{self._numbers}"}
        made = {**known, **wanted, "created_at": now, "updated_at": now, "creator": _USER}
        statuses.append(made)
        return web.json_response(made, status=201, headers={"Location": address})

    def _combine(self, name: str, ref: str, token: _Token | None) -> web.Response:
        found = self._visible(name, token)
        sha = found.remote.find(ref)
        if not sha:
            raise Refused(404, "Not Found", url=commit_status.HERE)
        state, latest = commit_status.combined(found.statuses.get(sha, []))
        here, full_name = f"{self.url}/repos/{found.remote.full_name}", found.remote.full_name
        repository = {"id": found.remote.repository_id, "full_name": full_name, "private": found.is_private}
        commit = {"sha": sha, "commit_url": f"{here}/commits/{sha}", "url": f"{here}/commits/{sha}/status"}
        said = {"state": state, "total_count": len(latest), "statuses": latest, "repository": repository, **commit}
        return web.json_response(said)

    def _accounts(self) -> dict[str, str]:
        """Return the headers of every answer."""
        return {
            "X-RateLimit-Limit": str(LIMIT),
            "X-RateLimit-Remaining": str(LIMIT - self._used),
            "X-RateLimit-Used": str(self._used),
            "X-RateLimit-Reset": str(round(self._resets_at)),
            "X-RateLimit-Resource": "core",
            "X-GitHub-Request-Id": secrets.token_hex(8).upper(),
        }

    def _issue(self, word: str, token: _Token) -> str:
        self._tokens[word] = token
        return word


@contextmanager
def running() -> Iterator[GitHub]:
    """Give one that answers on a port of the loopback interface, from a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="github")
    thread.start()
    github = GitHub(loop)
    try:
        github.up()
        yield github
    finally:
        github.down()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
