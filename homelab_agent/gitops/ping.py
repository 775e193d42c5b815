"""A ping as the forge would send it, signed with a repository's own secret, for whoever wants to try the hook out.

The command line posts it over TCP by the route that the forge's take; the secret itself never leaves the agent.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from homelab_agent.core.clock import Clock
from homelab_agent.core.http import HttpError
from homelab_agent.core.secret import Secret
from homelab_agent.gitops import signature
from homelab_agent.gitops.identity import Identities
from homelab_agent.gitops.settings import Repository

_ANY_NUMBER = 1
"""Stands for a forge's number that is not known yet: nothing is learned from a ping."""


class NoValidSecret(HttpError):
    """The repository {name} has no webhook secret that is accepted today: every delivery is refused."""

    status = 422
    repair = "give it one: [[gitops.repository.secret]], or a later `expires`"


@dataclass(frozen=True, slots=True)
class SignedPing:
    """A request to the webhook's route; `key_name` is the secret that it is signed with."""

    headers: Mapping[str, str]
    body: str
    key_name: str


class Pings:
    """Makes them; `secret` makes a secret of a reference."""

    def __init__(self, identities: Identities, secret: Callable[[str], Secret], clock: Clock) -> None:
        self._identities = identities
        self._parse = secret
        self._clock = clock

    async def make(self, repository: Repository) -> SignedPing:
        """Return a signed ping; raises `NoValidSecret`, and what is wrong with the secret."""
        key_name, value = await self._secret(repository)
        body = json.dumps(await self._payload(repository))
        headers = {
            "User-Agent": "homelab-agent",
            "Content-Type": "application/json",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Event": "ping",
            signature.HEADER: signature.sign(value, body.encode()),
        }
        return SignedPing(headers, body, key_name)

    async def _secret(self, repository: Repository) -> tuple[str, str]:
        """Return name and value of the first secret that has not expired, as it can be read now."""
        today = self._clock.read().wall.date()
        for one in repository.secret:
            if one.expires is None or one.expires >= today:
                secret = self._parse(one.secret)
                await secret.refresh()  # who tries a hook out wants to know what is wrong with its secret now
                return one.name, secret.get()
        raise NoValidSecret(name=repository.name)

    async def _payload(self, repository: Repository) -> dict[str, object]:
        """Return what tells of a hook that is set up as it should be (`event.Ping`)."""
        known = await self._identities.known()
        return {
            "zen": "A hook that was tried is a hook that works.",
            "hook": {"active": True, "events": ["push"], "config": {"content_type": "json", "insecure_ssl": "0"}},
            "repository": {"id": known.get(repository.name, _ANY_NUMBER), "full_name": repository.full_name},
        }
