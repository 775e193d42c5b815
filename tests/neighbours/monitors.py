"""Stand-ins of who misses the agent: Healthchecks' pinging API, and Uptime Kuma's push monitors.

They follow https://healthchecks.io/docs/http_api/ (the check's UUID, /start and /fail behind it, `rid`, a body; 200
"OK", 200 "OK (not found)" for a check that is not there) and Uptime Kuma's `/api/push/TOKEN?status=&msg=&ping=`.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass

from tests.neighbours.http_stand_in import Asked, Reply, StandIn

_PING = re.compile(r"/ping/(?P<id>[0-9a-f-]{36})(?P<end>/start|/fail)?")


@dataclass(frozen=True, slots=True)
class Ping:
    """One ping: `kind` is "", "start" or "fail", `rid` says which belong together."""

    check: str
    kind: str
    rid: str
    body: str


class Healthchecks(StandIn):
    """Has the checks that `check` made."""

    def __init__(self) -> None:
        super().__init__()
        self.pings: list[Ping] = []
        self._checks: set[str] = set()

    def check(self) -> str:
        """Make a check and return its address."""
        made = str(uuid.uuid4())
        self._checks.add(made)
        return f"http://127.0.0.1:{self.port}/ping/{made}"

    def of(self, address: str) -> list[Ping]:
        """Return the pings of a check, by its address."""
        return [ping for ping in self.pings if address.endswith(ping.check)]

    def answer(self, asked: Asked) -> Reply:
        """Take a ping."""
        match = _PING.fullmatch(asked.path)
        if match is None or asked.method not in {"GET", "HEAD", "POST"}:
            return Reply(400, b"invalid url format")
        rid = asked.query.get("rid", "")
        if rid:
            try:
                uuid.UUID(rid)
            except ValueError:
                return Reply(400, b"invalid uuid format")
        if match["id"] not in self._checks:
            return Reply(200, b"OK (not found)")
        self.pings.append(Ping(match["id"], (match["end"] or "").removeprefix("/"), rid, asked.body.decode()))
        return Reply(200, b"OK")


class UptimeKuma(StandIn):
    """Has one push monitor."""

    TOKEN = "canary7Kuma0Push"

    def __init__(self) -> None:
        super().__init__()
        self.beats: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """The monitor's push address, as its page shows it."""
        return f"http://127.0.0.1:{self.port}/api/push/{self.TOKEN}?status=up&msg=OK&ping="

    def answer(self, asked: Asked) -> Reply:
        """Take a beat."""
        if asked.path != f"/api/push/{self.TOKEN}":
            said = {"ok": False, "msg": "Monitor not found or not active."}
            return Reply(404, json.dumps(said).encode())
        self.beats.append((asked.query.get("status", "up"), asked.query.get("msg", "OK")))
        return Reply(200, b'{"ok":true}')
