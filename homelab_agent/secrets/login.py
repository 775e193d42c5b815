"""The ways to log in: with each request, as a role that is given a token, or by a token that is there already.

AppRole: https://openbao.org/api-docs/auth/approle/. Inline authentication, since OpenBao 2.4:
https://openbao.org/docs/rfcs/inline-auth/.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import hvac

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.secret import Secret
from homelab_agent.secrets import lease
from homelab_agent.secrets.errors import CannotAsk, TokenRefused
from homelab_agent.secrets.lease import Step
from homelab_agent.secrets.role import Role
from homelab_agent.secrets.transport import Answered, Transport

T = TypeVar("T")

_SOONEST_SECONDS = 10.0
"""A given token that nears its maximum age is granted ever less: it is renewed no more often than this."""

log = journal.logger("secrets")


class Way(Protocol):
    """How we show who we are; `who` and `standing` say it in words.

    Everything here raises `CannotAsk`, `CannotLogIn`, `LogInRefused` and what a reference raises; a request raises
    `Answered`, too.
    """

    who: str

    @property
    def standing(self) -> str:
        """Say how the log-in stands."""

    def ask(self, request: Callable[[hvac.Client], T]) -> T:
        """Make a request as who we are; once more with a new log-in where the old one turns out to be dead."""

    def ask_with_token(self, request: Callable[[hvac.Client], T]) -> T:
        """Make a request that only who has a token is answered."""

    def tend(self) -> float | None:
        """Do what is due for the log-in; return in how many seconds something will be, None for never as it stands."""

    def close(self) -> None:
        """Let the server forget us, where it keeps something, and close the connections."""


class Inline:
    """The role's log-in goes with each request: the server keeps nothing, nothing has to be renewed."""

    def __init__(self, transport: Transport, role: Role) -> None:
        self.who = role.who
        self._transport = transport
        self._role = role
        self._secret_id = ""
        self._client: hvac.Client | None = None

    @property
    def standing(self) -> str:
        """Say how the log-in stands."""
        return f"{self.who} logs in with each request"

    def ask(self, request: Callable[[hvac.Client], T]) -> T:
        """Make a request; again where its secret id is refused and there is another one by now."""
        while True:
            secret_id = self._role.secret_id()
            try:
                found = request(self._client_with(secret_id))
            except Answered as refusal:
                if not refusal.to_log_in:
                    self._role.was_accepted()
                    raise
                self._role.was_refused(secret_id, refusal.errors)
            else:
                self._role.was_accepted()
                return found

    def ask_with_token(self, request: Callable[[hvac.Client], T]) -> T:
        """Make a request with a token that is made for it, and revoked."""
        token, _ = self._role.log_in()
        client = self._transport.client(token=token)
        try:
            return request(client)
        finally:
            _forget(client)

    def tend(self) -> float | None:
        """Return None: there is nothing to tend."""
        return None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.adapter.close()
            self._client = None

    def _client_with(self, secret_id: str) -> hvac.Client:
        if self._client is None or secret_id != self._secret_id:
            self.close()
            self._secret_id = secret_id
            self._client = self._transport.client(headers=self._role.headers(secret_id))
        return self._client


class _Tokened:
    """What the ways that have a token have in common; `_obtain` gets one, and what the server grants with it."""

    def __init__(self, transport: Transport, clock: Clock, who: str) -> None:
        self.who = who
        self._transport = transport
        self._clock = clock
        self._client: hvac.Client | None = None
        self._lease = lease.granted(0.0, 0.0, renewable=False, early=0.0)
        self._renewals = 0

    @property
    def standing(self) -> str:
        """Say how the log-in stands."""
        if self._client is None:
            return f"{self.who} is not logged in"
        if self._lease.seconds is None:
            return f"{self.who} has no end that is known"
        now = self._clock.read()
        end = now.wall + timedelta(seconds=self._lease.since + self._lease.seconds - now.boot)
        return f"{self.who}: token until {end.astimezone():%Y-%m-%d %H:%M:%S}, renewed {self._renewals} times"

    def ask(self, request: Callable[[hvac.Client], T]) -> T:
        """Make a request; again, once, where it was refused because the token is dead and there is a new one."""
        client = self._ready()
        try:
            return request(client)
        except Answered as refusal:
            if refusal.status != HTTPStatus.FORBIDDEN or self._lives(client):
                raise
        return request(self._log_in())

    def ask_with_token(self, request: Callable[[hvac.Client], T]) -> T:
        """Make a request, as `ask`."""
        return self.ask(request)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.adapter.close()
            self._client = None

    def _obtain(self) -> tuple[str, Mapping[str, Any]]:
        raise NotImplementedError

    def _ready(self) -> hvac.Client:
        return self._client or self._log_in()

    def _log_in(self) -> hvac.Client:
        """Get a token and a new client that sends it; the old one stays until there is one."""
        token, granted = self._obtain()
        if self._client is not None:
            self._client.adapter.close()
        self._client = self._transport.client(token=token)
        seconds, renewable = _terms(granted)
        self._lease = lease.granted(self._now(), seconds, renewable=renewable, early=_drawn())
        self._renewals = 0
        log.info("secrets.logged_in", who=self.who, lease_s=seconds, renewable=renewable)
        return self._client

    def _renew(self, client: hvac.Client) -> None:
        """Renew the token; raises `Answered`."""
        seconds, renewable = _terms(client.auth.token.renew_self()["auth"])
        self._lease = self._lease.renewed(self._now(), seconds, renewable=renewable, early=_drawn())
        self._renewals += 1

    def _lives(self, client: hvac.Client) -> bool:
        try:
            client.auth.token.lookup_self()
        except Answered:
            return False
        return True

    def _left(self) -> float | None:
        """Return in how many seconds something is due, None for never."""
        return None if self._lease.due is None else self._lease.due - self._now()

    def _now(self) -> float:
        return self._clock.read().boot


class ByRole(_Tokened):
    """AppRole: the role is given a token, which is renewed, and replaced before it reaches its maximum age."""

    def __init__(self, transport: Transport, clock: Clock, role: Role) -> None:
        super().__init__(transport, clock, role.who)
        self._role = role

    def tend(self) -> float | None:
        """Log in, renew, or log in anew, whichever is due; return in how many seconds the next is."""
        if self._client is None:
            self._log_in()
        elif (left := self._left()) is not None and left <= 0:
            self._go_on(self._client)
        left = self._left()
        return None if left is None else max(left, 0.0)

    def close(self) -> None:
        """Revoke the token: else each start of the agent leaves one behind."""
        if self._client is not None:
            _forget(self._client)
            self._client = None

    def _go_on(self, client: hvac.Client) -> None:
        if self._lease.step is Step.RENEW:
            with suppress(Answered):
                self._renew(client)
                return
        self._log_in()

    def _obtain(self) -> tuple[str, Mapping[str, Any]]:
        return self._role.log_in()

    def _ready(self) -> hvac.Client:
        """Return the client; one whose token has expired, as after a night's sleep, is not tried first."""
        if self._client is None or self._lease.is_over(self._now()):
            return self._log_in()
        return self._client


class ByToken(_Tokened):
    """A token that somebody else makes and puts where `secret` says; it is renewed as long as the server does that."""

    def __init__(self, transport: Transport, clock: Clock, secret: Secret) -> None:
        super().__init__(transport, clock, f"the token {secret.reference}")
        self._secret = secret
        self._token = ""

    def tend(self) -> float | None:
        """Renew the token when that is due; return in how many seconds it is again."""
        client = self._ready()
        left = self._left()
        if left is not None and left <= 0 and self._lease.renewable:
            try:
                self._renew(client)
            except Answered:  # whether it is dead will be seen when something is asked
                self._lease = replace(self._lease, renewable=False)
        left = self._left()
        return max(left, _SOONEST_SECONDS) if left is not None and self._lease.renewable else None

    def _obtain(self) -> tuple[str, Mapping[str, Any]]:
        """Return the token; raises `TokenRefused` when it is still the one that is dead."""
        token = self._secret.reread() if self._token else self._secret.get()
        if token == self._token:
            raise TokenRefused(reference=self._secret.reference)
        client = self._transport.client(token=token)
        try:
            granted: Mapping[str, Any] = client.auth.token.lookup_self()["data"]
        except Answered:  # dead, or not allowed to look at itself
            granted = {}
        finally:
            client.adapter.close()
        self._token = token
        return token, granted


def _terms(granted: Mapping[str, Any]) -> tuple[float, bool]:
    """Return how many seconds were granted, and whether the token can be renewed; a log-in and a look-up differ."""
    return float(granted.get("lease_duration", granted.get("ttl", 0))), bool(granted.get("renewable"))


def _forget(client: hvac.Client) -> None:
    """Have a token revoked as far as that can be had, and close the connections."""
    with suppress(Answered, CannotAsk):
        client.auth.token.revoke_self()
    client.adapter.close()


def _drawn() -> float:
    return random.random()  # noqa: S311 - not a secret
