"""What a delivery's body says, by the shape of it; its name, which the signature does not cover, only chooses.

https://docs.github.com/en/webhooks/webhook-events-and-payloads; Gitea and Forgejo send pushes and pull requests of the
same shape (https://docs.gitea.com/usage/repository/webhooks).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from homelab_agent.core.http import HttpError
from homelab_agent.gitops.settings import FULL_NAME

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FULL_NAME = re.compile(FULL_NAME)
_TEXT_MAX = 300


class NotJson(HttpError):
    """The body is not a JSON object in UTF-8."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The repository that a body names, as the forge knows it."""

    full_name: str
    id: int


@dataclass(frozen=True, slots=True)
class Push:
    """A ref was moved; `after` is where it is now, "" if it was deleted."""

    origin: Origin
    ref: str
    after: str


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Something happened to a pull request; `merged` is the commit that its merge made, "" if it was not merged."""

    origin: Origin
    action: str
    ref: str
    merged: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The forge tries the hook out, and tells how it is set up."""

    origin: Origin | None
    active: bool
    events: tuple[str, ...]
    verifies_tls: bool


@dataclass(frozen=True, slots=True)
class Other:
    """Nothing that is acted upon; `why` in words."""

    origin: Origin | None
    why: str


Event: TypeAlias = Push | PullRequest | Ping | Other


def understand(name: str, body: bytes) -> Event:
    """Return what a body says that came as the event `name`; raises `NotJson`."""
    try:
        said = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise NotJson(cause=f"{type(error).__name__}") from None
    if not isinstance(said, dict):
        raise NotJson(cause="it is JSON, but no object")
    origin = _origin(said)
    read = _SHAPES.get(name)
    if read is None:
        return Other(origin, f"the event {name} is not acted upon")
    return read(said, origin) or Other(origin, f"it came as {name}, and its body is not that of one")


def _origin(said: Mapping[str, Any]) -> Origin | None:
    repository = _object(said, "repository")
    name, number = repository.get("full_name"), _number(repository, "id")
    if not isinstance(name, str) or not _FULL_NAME.fullmatch(name) or not number:
        return None
    return Origin(name, number)


def _push(said: Mapping[str, Any], origin: Origin | None) -> Push | None:
    ref, before, after = _text(said, "ref"), _sha(said, "before"), _sha(said, "after")
    is_push = ref.startswith("refs/") and before and after and isinstance(said.get("commits"), list)
    if origin is None or not is_push or "action" in said:
        return None
    is_deleted = said.get("deleted") is True or not after.strip("0")
    return Push(origin, ref, "" if is_deleted else after)


def _pull_request(said: Mapping[str, Any], origin: Origin | None) -> PullRequest | None:
    action, pull = _text(said, "action"), _object(said, "pull_request")
    branch = _text(_object(pull, "base"), "ref")
    if origin is None or not action or not branch or not _number(said, "number"):
        return None
    merged = _sha(pull, "merge_commit_sha") if pull.get("merged") is True else ""
    return PullRequest(origin, action, f"refs/heads/{branch}", merged)


def _ping(said: Mapping[str, Any], origin: Origin | None) -> Ping | None:
    hook = said.get("hook")
    if not isinstance(hook, dict) or not isinstance(said.get("zen"), str):
        return None
    events = hook.get("events")
    names = tuple(one for one in events if isinstance(one, str)) if isinstance(events, list) else ()
    insecure = _object(hook, "config").get("insecure_ssl")
    return Ping(origin, hook.get("active") is not False, names, str(insecure) != "1")


_SHAPES: Mapping[str, Callable[[Mapping[str, Any], Origin | None], Event | None]] = {
    "push": _push,
    "pull_request": _pull_request,
    "ping": _ping,
}


def _object(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def _text(said: Mapping[str, Any], name: str) -> str:
    """Return a text as it may be shown and stored: bounded, and without what cannot be printed."""
    value = said.get(name)
    if not isinstance(value, str):
        return ""
    return "".join(sign if sign.isprintable() else "?" for sign in value[:_TEXT_MAX])


def _sha(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) and _SHA.fullmatch(value) else ""


def _number(said: Mapping[str, Any], name: str) -> int:
    """Return a number above 0; 0 if there is none."""
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else 0
