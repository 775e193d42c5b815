"""The secrets over HTTP: which there are, where they come from, how old they are; never what they are."""

from __future__ import annotations

from homelab_agent.core.http import Answer, Json, Request, Route
from homelab_agent.core.secret import Secrets, Standing


class Api:
    """The handlers and what they ask."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("GET", "/api/secrets", self.listed)]

    async def listed(self, _request: Request) -> Answer:
        """Give each secret that the configuration names, in the order of its first use there."""
        return Json({"secrets": [as_fields(one) for one in self._secrets.standings()]})


def as_fields(standing: Standing) -> dict[str, object]:
    """Return what is told of a secret."""
    return {
        "reference": standing.reference,
        "source": standing.reference.partition(":")[0] if ":" in standing.reference else "configuration",
        "version": standing.version,
        "read_at": standing.read_at,
        "used_by": list(standing.used_by),
    }
