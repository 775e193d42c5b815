"""GitOps over HTTP: the webhook, the one route that the public reaches, and what became of the deliveries."""

from __future__ import annotations

import dataclasses

from homelab_agent.core.door import PUBLIC_PATH
from homelab_agent.core.http import Answer, Audience, BadRequest, Json, Request, Response, Route
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.receiver import Receiver

BODY_MAX = 25 * 1024 * 1024
"""GitHub sends no larger payload (https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap)."""

_DEADLINE = 20.0
"""For a whole delivery; GitHub itself waits for ten seconds."""

_LIMIT_MAX = 1000


class Api:
    """The handlers and what they ask."""

    def __init__(self, receiver: Receiver, inbox: Inbox) -> None:
        self._receiver = receiver
        self._inbox = inbox

    def routes(self) -> list[Route]:
        """Return the routes."""
        public = Audience.PUBLIC
        return [
            Route(
                "POST",
                PUBLIC_PATH,
                self.webhook,
                audience=public,
                login=False,  # the signature is the authority
                body_max=BODY_MAX,
                deadline=_DEADLINE,
            ),
            Route("GET", "/api/gitops/deliveries", self.deliveries),
            Route("GET", "/api/gitops/deliveries/{guid}", self.delivery),
            Route("GET", "/api/gitops/deliveries/{guid}/payload", self.payload),
        ]

    async def webhook(self, request: Request) -> Answer:
        """Take a delivery, and say what becomes of it."""
        receipt = await self._receiver.receive(request)
        told = {
            "delivery": receipt.guid,
            "repository": receipt.repository,
            "attempt": receipt.attempt,
            "status": receipt.status,
            "detail": receipt.detail,
        }
        return Json(told, status=200 if receipt.status == "pong" else 202)

    async def deliveries(self, request: Request) -> Answer:
        """Give the newest deliveries with their attempts: at most `limit`, of all repositories or of `repository`."""
        limit = request.query.get("limit", "50")
        if not (limit.isascii() and limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= _LIMIT_MAX):
            raise BadRequest(cause=f"limit is a number from 1 to {_LIMIT_MAX}")
        return Json({"deliveries": await self._inbox.newest(int(limit), request.query.get("repository", ""))})

    async def delivery(self, request: Request) -> Answer:
        """Give one delivery with its attempts and its headers."""
        record = await self._inbox.get(request.match["guid"])
        headers, _ = await self._inbox.content(record.guid)
        return Json({**dataclasses.asdict(record), "headers": headers})

    async def payload(self, request: Request) -> Answer:
        """Give the body of one delivery as it came."""
        _, body = await self._inbox.content(request.match["guid"])
        return Response(body)
