"""The role that the agent has at OpenBao: its id, its secret id, and patience where these are refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.secret import Secret
from homelab_agent.secrets import lease
from homelab_agent.secrets.errors import LogInRefused
from homelab_agent.secrets.transport import Answered, Transport
from homelab_agent.secrets.wrapping import Wrapping

log = journal.logger("secrets")


class Role:
    """A role of the AppRole method at `approle`; `secret` is its secret id, or what that is wrapped in."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        *,
        approle: str,
        role_id: str,
        secret: Secret,
        wrapping: Wrapping | None,
        hide: Callable[[str], None],
    ) -> None:
        """`hide` is told of a secret id that was unwrapped, and of each token, to be masked wherever it is written."""
        self.who = f"the role {role_id}"
        self._transport = transport
        self._clock = clock
        self._approle = approle.strip("/")
        self._role_id = role_id
        self._secret = secret
        self._wrapping = wrapping
        self._hide = hide
        self._refused = ""
        self._cause = ""
        self._refusals = 0
        self._not_before = 0.0

    def secret_id(self) -> str:
        """Return the secret id to log in with; raises `LogInRefused` while one that was refused is left alone."""
        if not self._refusals:
            return self._read(again=False)
        secret_id = self._read(again=True)
        if secret_id != self._refused:
            self._refusals = 0
        elif self._clock.read().boot < self._not_before:
            raise LogInRefused(who=self.who, approle=self._approle, cause=self._cause)
        return secret_id

    def was_accepted(self) -> None:
        """Forget refusals."""
        self._refusals = 0

    def was_refused(self, secret_id: str, cause: str) -> None:
        """Take in that the server refused a secret id; raises `LogInRefused` unless there is another one by now."""
        self._refused = secret_id
        self._refusals += 1
        now, hold = self._clock.read(), lease.hold(self._refusals)
        self._not_before = now.boot + hold
        again = (now.wall + timedelta(seconds=hold)).astimezone()
        self._cause = f"{cause}; tried again at {again:%H:%M:%S}, or with another secret id"
        log.warning("secrets.log_in_refused", who=self.who, cause=self._cause, refusals=self._refusals)
        self.secret_id()

    def log_in(self) -> tuple[str, Mapping[str, Any]]:
        """Return a new token, and what the server granted with it."""
        client = self._transport.client()
        try:
            while True:
                secret_id = self.secret_id()
                try:
                    granted = client.auth.approle.login(
                        self._role_id, secret_id, use_token=False, mount_point=self._approle
                    )["auth"]
                except Answered as refusal:
                    self.was_refused(secret_id, refusal.errors)
                else:
                    token = str(granted["client_token"])
                    self._hide(token)
                    self.was_accepted()
                    return token, granted
        finally:
            client.adapter.close()

    def headers(self, secret_id: str) -> dict[str, str]:
        """Return what logs in with a request: parameters are JSON in URL-safe base64 without its padding."""
        return {
            "X-Vault-Inline-Auth-Path": f"auth/{self._approle}/login",
            "X-Vault-Inline-Auth-Parameter-role": _parameter("role_id", self._role_id),
            "X-Vault-Inline-Auth-Parameter-secret": _parameter("secret_id", secret_id),
        }

    def _read(self, *, again: bool) -> str:
        if self._wrapping is None:
            return self._secret.reread() if again else self._secret.get()
        secret_id = self._wrapping.secret_id(again=again)
        self._hide(secret_id)
        return secret_id


def _parameter(key: str, value: str) -> str:
    data = json.dumps({"key": key, "value": value}).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
