"""Errors over HTTP: `application/problem+json` (RFC 9457), the same words as on the command line."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.http import HttpError
from homelab_agent.core.state import StateUnavailable
from homelab_agent.web.audience import Refusal

CONTENT_TYPE = "application/problem+json"
_STATUS_BY_EXIT = {
    Exit.UNREACHABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Exit.BUSY: HTTPStatus.CONFLICT,
    Exit.USAGE: HTTPStatus.BAD_REQUEST,
    Exit.CONFIGURATION: HTTPStatus.UNPROCESSABLE_ENTITY,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with one request; `kind` is stable, for programs. `close` ends the connection too."""

    status: int
    kind: str
    title: str
    detail: str = ""
    repair: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False

    def members(self, request_id: str) -> dict[str, object]:
        """Return the members of the JSON object."""
        return {
            "type": f"urn:homelab-agent:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "repair": self.repair,
            "request_id": request_id,
        }


def of_refusal(refusal: Refusal) -> Problem:
    """Return the problem that a refusal amounts to."""
    return Problem(
        refusal.status,
        HTTPStatus(refusal.status).phrase.lower().replace(" ", "-"),
        refusal.title,
        refusal.detail,
        refusal.repair,
        refusal.headers,
        refusal.close,
    )


def of_error(error: AgentError) -> Problem:
    """Return the problem that an error amounts to."""
    name = _kind(type(error).__name__)
    if isinstance(error, HttpError):
        status = error.status
    elif isinstance(error, StateUnavailable):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    else:
        status = _STATUS_BY_EXIT.get(error.exit_code, HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, HttpError) and error.retry_after else {}
    # A body that came too late or too large is still coming: nothing else can be read from that connection.
    return Problem(status, name, error.message, error.cause, error.repair, headers, close=status in {408, 413})


@functools.cache
def _kind(name: str) -> str:
    """Return an error's name as a URN has it: disk-on-fire."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def missing(methods: Sequence[str]) -> Problem:
    """Return the problem of a path that is not there, or that takes only `methods`."""
    if not methods:
        return Problem(404, "not-found", "There is no such path.")
    allowed = ", ".join(methods)
    return Problem(405, "method-not-allowed", f"This path takes {allowed} only.", headers={"Allow": allowed})


def malformed(status: int) -> Problem:
    """Return the problem of what is not HTTP, or has a line or a header that is too long."""
    return Problem(status, "malformed", "This is not a request that can be read.", close=True)


def late(seconds: float) -> Problem:
    """Return the problem of a handler that did not finish within its deadline."""
    return Problem(
        503,
        "late",
        "That took too long.",
        f"After {seconds:g} s nobody waits for it any more; what had begun may still happen.",
    )


def unexpected() -> Problem:
    """Return the problem of an error that nobody foresaw; the journal has it, under the request's id."""
    return Problem(500, "unexpected", "Something went wrong inside the agent.", repair="journalctl -u homelab-agent")
