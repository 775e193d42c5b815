"""An agent that keeps a door in a tailnet: the real tailscaled, a relay that lets in what production would."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from tests.agent import Agent
from tests.neighbours.tailnet import Tailnet
from tests.waiting import until

WEBHOOK = "/api/webhook/gitops"
SECRET = "It's a Secret to Everybody"
QUICK = "every = 0.5\nin_doubt = 0.1\nclosed_at_least = 0.5\nopen_at_least = 0.5\npath_every = 1\n"


class Home:
    """An agent that opens its door in a tailnet."""

    def __init__(self, tailnet: Tailnet, agent: Agent, directory: Path, *, pace: str = QUICK) -> None:
        self.tailnet = tailnet
        self.agent = agent
        self._pace = pace
        agent.enter(tailnet.network)
        secret = directory / "hook-secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        self._gitops = (
            '[gitops]\npoll = 0\n[[gitops.repository]]\nname = "site"\nfull_name = "octo/site"\nid = 7\n'
            f'directory = "{directory}/site"\nsecret = [{{name = "main", secret = "file:{secret}"}}]\n'
        )

    def configure(self, more: str = "", *, interval: int = 1) -> None:
        """Write the configuration: a gate, and a repository whose hook may come in."""
        host = self.tailnet.homelab
        gate = f'[gate]\nfunnel = true\nsocket = "{host.socket}"\nprogram = "{host.program}"\n{self._pace}{more}\n'
        self.agent.write(gate + self._gitops, interval=interval)

    def start(self, more: str = "") -> Home:
        """Configure and start the agent."""
        self.configure(more)
        self.agent.start()
        return self

    def open(self) -> Home:
        """Wait until the internet is let in."""
        until(lambda: self.door["phase"] == "open", "the door is open", seconds=60)
        return self

    @property
    def door(self) -> dict[str, Any]:
        """How the door stands."""
        return dict(self.agent.json("/api/gate")["doors"][0])

    def becomes(self, phase: str, overlay: str = "") -> dict[str, Any]:
        """Wait until the door stands so, and return all that is told of it."""
        found = lambda: (self.door["phase"], self.door["overlay"]) == (phase, overlay)  # noqa: E731
        until(found, f"the door is {phase} {overlay}", seconds=60)
        return self.door

    def becomes_shut(self, overlay: str = "") -> dict[str, Any]:
        """Wait until nobody is let in, and return all that is told of the door; its session may last a little."""
        shut = lambda: self.door["phase"] in {"closed", "closing"} and self.door["overlay"] == overlay  # noqa: E731
        until(shut, f"the door is shut {overlay}", seconds=60)
        return self.door

    def openings(self) -> list[dict[str, Any]]:
        """Return the openings that the ledger knows, the newest first."""
        return [dict(one) for one in self.agent.json("/api/gate/history")["openings"]]

    def refused(self) -> bool:
        """Return whether a visitor from the internet is let in nowhere."""
        try:
            answer = self.tailnet.public.ask("POST", WEBHOOK, body=b"{}")
        except OSError:
            return True
        return answer.status == 503

    def ping(self) -> int:
        """Send a signed ping through the internet; return the status of the answer."""
        body = json.dumps(
            {
                "zen": "Keep it logically awesome.",
                "hook_id": 1,
                "hook": {},
                "repository": {"id": 7, "full_name": "octo/site"},
            }
        ).encode()
        signed = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "ping",
            "X-GitHub-Delivery": f"{time.time_ns()}",
            "X-Hub-Signature-256": signed,
        }
        return self.tailnet.public.ask("POST", WEBHOOK, headers=headers, body=body).status
