"""A stand-in of ntfy: publishing as JSON (https://docs.ntfy.sh/publish/#publish-as-json), log-in by an access token.

Refusals are as its server words them: a code of its own, the status, what is wrong
(https://docs.ntfy.sh/config/#rate-limiting: 429).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.neighbours.http_stand_in import Asked, Reply, StandIn
from tests.neighbours.network import Network

MESSAGE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Message:
    """What was published."""

    topic: str
    title: str
    message: str


class Ntfy(StandIn):
    """One server; with a `token` only its bearer may publish."""

    def __init__(self, token: str = "", *, network: Network | None = None) -> None:
        super().__init__(network)
        self.token = token
        self.messages: list[Message] = []

    def url(self, topic: str = "alerts") -> str:
        """Return the Apprise URL of a topic."""
        return f"ntfy://{self.token + '@' if self.token else ''}127.0.0.1:{self.port}/{topic}"

    def throttle(self, seconds: int) -> None:
        """Refuse all for being too many."""
        said = {"code": 42901, "http": 429, "error": "limit reached: too many requests"}
        self.fail(429, {"Retry-After": str(seconds)}, json.dumps(said).encode())

    def answer(self, asked: Asked) -> Reply:
        """Publish a message, or say why not."""
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            return _refused(403, 40301, "forbidden")
        try:
            said: Any = json.loads(asked.body)
        except ValueError:
            said = None
        if asked.method not in {"POST", "PUT"} or asked.path != "/" or not isinstance(said, dict):
            return _refused(400, 40024, "invalid request: request body must be valid JSON")
        text = str(said.get("message", ""))
        if len(text.encode()) > MESSAGE_BYTES_MAX:
            return _refused(413, 41303, "message too large")
        self.messages.append(Message(str(said.get("topic")), str(said.get("title", "")), text))
        event = {"id": f"m{len(self.messages)}", "time": 1, "event": "message", "topic": said.get("topic")}
        return Reply(200, json.dumps(event).encode(), {"Content-Type": "application/json"})


def _refused(status: int, code: int, error: str) -> Reply:
    said = {"code": code, "http": status, "error": error}
    return Reply(status, json.dumps(said).encode(), {"Content-Type": "application/json"})
