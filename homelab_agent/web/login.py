"""How a caller proves to be the operator, by cookie or token, and how often one may fail to."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.http import HttpError
from homelab_agent.core.secret import Secret
from homelab_agent.core.state import StateUnavailable
from homelab_agent.web.credentials import Credential, Credentials, Kind

COOKIE = "homelab_agent_session"
LINK_SECONDS = 10 * 60
FAILURES = 10
"""So many failed log-ins from one source within `FAILURE_SECONDS`, and the next are not even looked at."""
FAILURE_SECONDS = 5 * 60.0
_SOURCES = 1024
_READ_SECONDS = 2.0
"""How long the start waits for the token that the configuration refers to."""
_TOKEN_PREFIX = "hla_"  # noqa: S105 - not a secret: what makes a leaked token recognisable


class LinkNotValid(HttpError):
    """The log-in link is not valid (any more): each works once, for ten minutes."""

    status = 401
    repair = "homelab-agent web login"


class TooManyFailures(HttpError):
    """Too many failed log-ins from {source}; wait {seconds} s."""

    status = 429


class NoSuchToken(HttpError):
    """There is no token called {name}."""

    status = 404
    repair = "homelab-agent web token list"


class BadTokenName(HttpError):
    """A token's name is 1 to 64 letters, digits, dots, dashes or underscores."""


@dataclass(slots=True)
class Failures:
    """Failed log-ins by source; forgets the source that was quiet longest when there are too many."""

    clock: Clock
    _times: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def add(self, source: str) -> None:
        """Count one failure."""
        times = self._times.setdefault(source, deque(maxlen=FAILURES))
        times.append(self.clock.read().monotonic)
        self._times.move_to_end(source)
        if len(self._times) > _SOURCES:
            self._times.popitem(last=False)

    def wait(self, source: str) -> float:
        """Return for how many seconds nothing from `source` is looked at; 0 if it is."""
        times = self._times.get(source)
        if times is None or len(times) < FAILURES:
            return 0.0
        return max(0.0, times[0] + FAILURE_SECONDS - self.clock.read().monotonic)

    def check(self, source: str) -> None:
        """Raise `TooManyFailures` if nothing from `source` is looked at now."""
        seconds = self.wait(source)
        if seconds > 0:
            raise TooManyFailures(source=source, seconds=int(seconds) + 1)


class Logins:
    """Who is logged in. Everything raises `StateUnavailable` when `state.db` cannot be written."""

    def __init__(
        self, credentials: Credentials, clock: Clock, *, session_age: float, given: Secret | None = None
    ) -> None:
        """`given` is a token that the configuration refers to, good beside those that were added here."""
        self._credentials = credentials
        self._session_age = session_age
        self._given = given
        self._is_given_known = False
        self.failures = Failures(clock)

    async def load(self) -> None:
        """Read who is logged in; a state.db that cannot be read leaves nobody so, and health says the rest."""
        with contextlib.suppress(StateUnavailable):
            await self._credentials.load()
        with contextlib.suppress(AgentError, TimeoutError):  # the check says so, and reads it again
            async with asyncio.timeout(_READ_SECONDS):
                await self.read_given()

    async def read_given(self) -> None:
        """Read the token that the configuration refers to; raises what keeps it from being known."""
        if self._given is not None:
            await self._given.latest()
            self._is_given_known = True

    async def new_link(self) -> tuple[str, Credential]:
        """Return the secret of a new one-time link, valid for ten minutes."""
        return await self._credentials.add(Kind.LINK, age=LINK_SECONDS)

    async def claim(self, link: str, source: str) -> str:
        """Use up a link and return the new session's cookie; raises `LinkNotValid` or `TooManyFailures`."""
        self.failures.check(source)
        session = await self._credentials.exchange(link, age=self._session_age)
        if session is None:
            self.failures.add(source)
            raise LinkNotValid
        return session

    def is_link(self, link: str) -> bool:
        """Return whether a link would log in, without using it up."""
        return self._credentials.find(Kind.LINK, link) is not None

    async def log_out(self, session: str) -> None:
        """End a browser's session, if it is one."""
        found = self._credentials.find(Kind.SESSION, session)
        if found is not None:
            await self._credentials.remove(found)

    async def add_token(self, name: str) -> str:
        """Return a new token, which is kept nowhere; raises `BadTokenName` or `TokenNameTaken`."""
        if not 1 <= len(name) <= 64 or not name.isascii() or not all(sign.isalnum() or sign in ".-_" for sign in name):
            raise BadTokenName
        secret, _ = await self._credentials.add(Kind.TOKEN, name=name)
        return _TOKEN_PREFIX + secret

    async def revoke_token(self, name: str) -> None:
        """Make a token invalid; raises `NoSuchToken`."""
        found = next((token for token in self._credentials.tokens() if token.name == name), None)
        if found is None:
            raise NoSuchToken(name=name)
        await self._credentials.remove(found)

    def tokens(self) -> list[Credential]:
        """Return the tokens by name, without their secrets."""
        return list(self._credentials.tokens())

    def recognise(self, *, authorization: str, cookie: str, source: str) -> str:
        """Return by what a caller proves to be the operator: "token", "cookie", or "" for nothing.

        A wrong token counts as a failure, an old cookie does not: the browser sends it unasked. Raises
        `TooManyFailures`.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            self.failures.check(source)
            if self._is_token(token.strip()):
                return "token"
            self.failures.add(source)
            return ""
        return "cookie" if self._credentials.find(Kind.SESSION, session_of(cookie)) is not None else ""

    def _is_token(self, token: str) -> bool:
        if self._credentials.find(Kind.TOKEN, token.removeprefix(_TOKEN_PREFIX)) is not None:
            return True
        if self._given is None or not self._is_given_known:
            return False
        try:
            accepted = self._given.accepted()
        except AgentError:  # too old to be used
            return False
        offered = token.encode(errors="replace")
        return any(secrets.compare_digest(offered, value.encode()) for value in accepted)


def session_of(cookie: str) -> str:
    """Return the session in a Cookie header, "" if there is none (RFC 6265, section 4.2.1)."""
    for pair in cookie.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def set_cookie(session: str, *, secure: bool, age: float) -> str:
    """Return the Set-Cookie header that begins a session, or ends it (`session` empty, `age` 0)."""
    parts = [f"{COOKIE}={session}", "Path=/", f"Max-Age={int(age)}", "HttpOnly", "SameSite=Strict"]
    return "; ".join([*parts, "Secure"] if secure else parts)
