"""A ping as the forge would send it, signed with a repository's own secret, for whoever wants to try the hook out.

The command line posts it over TCP by the route that the forge's take; the secret itself never leaves the agent.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from homelab_agent.core.foundation import Foundation
from homelab_agent.core.http import Answer, Audience, HttpError, Json, Request, Route
from homelab_agent.gitops import signature
from homelab_agent.gitops.control import NoSuchRepository
from homelab_agent.gitops.identity import Identities
from homelab_agent.gitops.settings import Repository

_ANY_NUMBER = 1
"""Stands for a forge's number that is not known yet: nothing is learned from a ping."""


class NoValidSecret(HttpError):
    """The repository {name} has no webhook secret that is accepted today: every delivery is refused."""

    status = 422
    repair = "give it one: [[gitops.repository.secret]], or a later `expires`"


class HookTest:
    """The handler, and what it signs with."""

    def __init__(self, repositories: Sequence[Repository], base: Foundation) -> None:
        self._repositories = repositories
        self._base = base

    def routes(self) -> list[Route]:
        """Return the route; over the agent's own socket only."""
        return [Route("POST", "/api/gitops/{repository}/ping", self.ping, audience=Audience.LOCAL)]

    async def ping(self, request: Request) -> Answer:
        """Give the headers and the body of a signed ping; raises what is wrong with the secret."""
        name = request.match["repository"]
        repository = next((one for one in self._repositories if one.name == name), None)
        if repository is None:
            raise NoSuchRepository(name=name[:80])
        key_name, value = await self._secret(repository)
        body = json.dumps(await self._payload(repository)).encode()
        headers = {
            "User-Agent": "homelab-agent",
            "Content-Type": "application/json",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Event": "ping",
            signature.HEADER: signature.sign(value, body),
        }
        return Json({"headers": headers, "body": body.decode(), "key_name": key_name})

    async def _secret(self, repository: Repository) -> tuple[str, str]:
        """Return name and value of the first secret that has not expired, as it can be read now."""
        today = self._base.clock.read().wall.date()
        for one in repository.secret:
            if one.expires is None or one.expires >= today:
                secret = self._base.secret(one.secret)
                await secret.refresh()  # beside the loop
                return one.name, secret.get()
        raise NoValidSecret(name=repository.name)

    async def _payload(self, repository: Repository) -> dict[str, object]:
        """Return what tells of a hook that is set up as it should be (`event.Ping`)."""
        known = await Identities(self._repositories, self._base.state, self._base.clock).known()
        return {
            "zen": "A hook that was tried is a hook that works.",
            "hook": {"active": True, "events": ["push"], "config": {"content_type": "json", "insecure_ssl": "0"}},
            "repository": {"id": known.get(repository.name, _ANY_NUMBER), "full_name": repository.full_name},
        }
