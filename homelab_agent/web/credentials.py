"""What proves that a caller is the operator, in `state.db`: one-time links, browser sessions, API tokens.

Every secret is 256 random bits, so its SHA-256 is kept and looked up: there is nothing to guess or stretch.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from homelab_agent.core.clock import Clock
from homelab_agent.core.http import HttpError
from homelab_agent.core.state import State

_ALL = "SELECT digest, kind, name, created_at, expires_at FROM web_credential"
_ADD = "INSERT INTO web_credential (digest, kind, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?)"
_TAKE = "DELETE FROM web_credential WHERE digest = ? AND kind = 'link' AND expires_at > ?"
_REMOVE = "DELETE FROM web_credential WHERE digest = ?"
_EXPIRE = "DELETE FROM web_credential WHERE expires_at <= ?"


class Kind(StrEnum):
    """What a credential is for."""

    LINK = "link"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a kind


class TokenNameTaken(HttpError):
    """There is a token called {name} already."""

    status = 409
    repair = "homelab-agent web token revoke {name}"


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential, without its secret; times in seconds since the epoch, `expires_at` None for never."""

    digest: bytes
    kind: Kind
    name: str
    created_at: int
    expires_at: int | None


def digest(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


class Credentials:
    """All credentials: looked up in memory, changed on disk first. Only this process writes them."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._known: dict[bytes, Credential] = {}

    async def load(self) -> None:
        """Read what was stored; raises `StateUnavailable`."""
        rows = await self._state.read(lambda connection: connection.execute(_ALL).fetchall())
        self._known = {row[0]: Credential(row[0], Kind(row[1]), *row[2:]) for row in rows}

    def find(self, kind: Kind, secret: str) -> Credential | None:
        """Return the credential with that secret, unless it is expired."""
        found = self._known.get(digest(secret))
        return found if found is not None and found.kind is kind and self._is_valid(found) else None

    def tokens(self) -> Sequence[Credential]:
        """Return the tokens by name."""
        return sorted((one for one in self._known.values() if one.kind is Kind.TOKEN), key=lambda one: one.name)

    async def add(self, kind: Kind, *, name: str = "", age: float | None = None) -> tuple[str, Credential]:
        """Store a new credential for `age` seconds (None: for ever); return its secret, kept nowhere.

        Raises `TokenNameTaken` or `StateUnavailable`.
        """
        secret, new = self._new(kind, name, age)
        now = self._now()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_EXPIRE, (now,))
            _insert(connection, new)

        try:
            await self._state.write(work)
        except sqlite3.IntegrityError:  # the index on tokens' names: digests do not meet
            raise TokenNameTaken(name=name) from None
        self._learn(new)
        return secret, new

    async def exchange(self, link: str, *, age: float) -> str | None:
        """Use up a link: return the secret of a new session of `age` seconds, None if the link is not valid.

        One transaction: of two who come with the same link at once, one gets a session.
        """
        if self.find(Kind.LINK, link) is None:
            return None
        used = digest(link)
        secret, session = self._new(Kind.SESSION, "", age)
        now = self._now()

        def work(connection: sqlite3.Connection) -> bool:
            if connection.execute(_TAKE, (used, now)).rowcount != 1:
                return False
            _insert(connection, session)
            return True

        if not await self._state.write(work):
            return None
        self._known.pop(used, None)
        self._learn(session)
        return secret

    async def remove(self, credential: Credential) -> None:
        """Make a credential invalid, for ever; raises `StateUnavailable`, then it is still valid."""
        await self._state.write(lambda connection: connection.execute(_REMOVE, (credential.digest,)).rowcount)
        self._known.pop(credential.digest, None)

    def _new(self, kind: Kind, name: str, age: float | None) -> tuple[str, Credential]:
        secret = secrets.token_urlsafe(32)
        now = self._now()
        return secret, Credential(digest(secret), kind, name, now, None if age is None else now + int(age))

    def _learn(self, new: Credential) -> None:
        self._known = {key: one for key, one in self._known.items() if self._is_valid(one)}
        self._known[new.digest] = new

    def _is_valid(self, one: Credential) -> bool:
        return one.expires_at is None or one.expires_at > self._now()

    def _now(self) -> int:
        return _seconds(self._clock.read().wall)


def _insert(connection: sqlite3.Connection, one: Credential) -> None:
    connection.execute(_ADD, (one.digest, one.kind.value, one.name, one.created_at, one.expires_at))


def _seconds(when: datetime) -> int:
    return int(when.timestamp())
