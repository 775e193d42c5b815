"""What a route's handler is given and gives back; `web/` turns it into real HTTP.

A room's `routes.py` needs nothing but this module, so that neither `core` nor a capability knows the web server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from homelab_agent.core.errors import AgentError


class HttpError(AgentError):
    """The request cannot be served.

    A handler raises one of these, or any other `AgentError`; `web/` answers with problem+json. `retry_after` is in
    seconds, 0 where nothing is said of it.
    """

    status: int = 400
    retry_after: int = 0


class BadRequest(HttpError):
    """The request cannot be understood."""


class NotFound(HttpError):
    """There is no {what}."""

    status = 404


class Conflict(HttpError):
    """That cannot be done now."""

    status = 409


class BodyTooLarge(HttpError):
    """The body is larger than the {limit} bytes that are taken here."""

    status = 413


class BodyTooSlow(HttpError):
    """The body did not arrive in time."""

    status = 408


class Audience(IntEnum):
    """Who is calling, least trusted first; a route names the least trusted that may call it."""

    PUBLIC = 0
    TAILNET = 1
    LOOPBACK = 2
    LOCAL = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: decided from the connection and the headers, before any handler runs.

    `login` says by what the caller proved to be the operator ("cookie", "token", "socket"), "" if by nothing;
    `name` is what a proxy claims the person is called: for the log, never an authority.
    """

    audience: Audience
    address: str
    login: str = ""
    name: str = ""


class Request(Protocol):
    """One request, as a handler sees it."""

    @property
    def method(self) -> str:
        """The method, upper case."""

    @property
    def path(self) -> str:
        """The path, decoded."""

    @property
    def match(self) -> Mapping[str, str]:
        """The route's `{placeholders}`."""

    @property
    def query(self) -> Mapping[str, str]:
        """The query string; of a repeated key the first."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; keys in any case."""

    @property
    def caller(self) -> Caller:
        """Who sent it."""

    @property
    def id(self) -> str:
        """The request's id, as in the log and the answer's `X-Request-Id`."""

    @property
    def declared(self) -> int | None:
        """The body's size in bytes as the client declared it, at most `body_max`; None if it did not."""

    async def json(self) -> Any:
        """Return the body as JSON, at most the route's `body_max`; raises `BadRequest` or `BodyTooLarge`."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, at most the route's `body_max`; raises `BodyTooLarge`."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Json:
    """An answer that `web/` writes as JSON: datetimes as RFC 3339 in UTC, dataclasses as objects."""

    data: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `data` is sent as one line of JSON, `id` comes back in `Last-Event-ID`."""

    name: str
    data: object
    id: str = ""


@dataclass(frozen=True, slots=True)
class Events:
    """An answer that goes on: server-sent events until the source ends or the client leaves."""

    source: AsyncIterator[Event]


def started(run_id: str) -> Json:
    """Return the answer of every POST that starts work."""
    return Json({"run": run_id}, status=202, headers={"Location": f"/api/runs/{run_id}"})


Answer: TypeAlias = Response | Json | Events
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path, and who may use it.

    `login=False` waives the log-in (the webhook, whose signature is the authority; `/api/health/live`).
    `body_max` in bytes; `deadline` in seconds for the whole handler, None for event streams.
    """

    method: str
    path: str
    handler: Handler
    audience: Audience = Audience.TAILNET
    login: bool = True
    body_max: int = 64 * 1024
    deadline: float | None = 30.0


def limit(request: Request, *, usual: int = 50, most: int = 1000) -> int:
    """Return how many of the newest are asked for, by `?limit=`; raises `BadRequest`."""
    asked = request.query.get("limit", str(usual))
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 4 and 1 <= int(asked) <= most):
        raise BadRequest(cause=f"limit is a number from 1 to {most}")
    return int(asked)


async def body(request: Request) -> Mapping[str, Any]:
    """Return the body as an object; one that is not there is empty. Raises `BadRequest`."""
    if not request.declared and "transfer-encoding" not in request.headers:
        return {}
    asked = await request.json()
    if not isinstance(asked, Mapping):
        raise BadRequest(cause="the body is an object")
    return asked
