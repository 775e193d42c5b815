"""Webhook deliveries as GitHub, Gitea and Forgejo send them: headers, signature and body, over a real connection.

https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers,
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries,
https://docs.gitea.com/usage/repository/webhooks, https://forgejo.org/docs/latest/user/webhooks.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import secrets
import uuid
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote_plus, urlsplit

from tests.neighbours import payloads
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.payloads import Payload

Sender = Literal["github", "gitea", "forgejo"]

SECONDS = 10.0
"""How long GitHub waits for an answer: https://docs.github.com/en/webhooks/using-webhooks/handling-webhook-deliveries."""

_MULTICAST = 1 << 40
"""The bit of a node that says that it is no network card's (RFC 9562, section 6.10)."""


def sign(secret: str, body: bytes, algorithm: str = "sha256") -> str:
    """Return the HMAC of a body in hexadecimal."""
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request, whole but for Host and Content-Length, to be sent as often as one likes."""

    guid: str
    event: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for which delivery."""

    delivery: Delivery
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Hook:
    """One webhook of a repository, which sends to `url`. Its secret may be changed, as in GitHub's form.

    What sends raises OSError where nobody answers within ten seconds: GitHub then has the delivery down as failed,
    and tries no second time by itself.
    """

    def __init__(
        self, remote: GitRemote, url: str, secret: str, *, form: bool = False, sender: Sender = "github"
    ) -> None:
        """With `form` the content type is application/x-www-form-urlencoded, which GitHub's form suggests."""
        self.remote = remote
        self.url = url
        self.secret = secret
        self.sender = sender
        self.hook_id = secrets.randbelow(10**9)
        self._content_type = "application/x-www-form-urlencoded" if form else "application/json"

    def ping(self) -> Answer:
        """Send what GitHub sends when the hook is made."""
        return self.deliver("ping", self.ping_payload())

    def ping_payload(self) -> Payload:
        """Return what tells of this hook's own settings."""
        told = payloads.payload("ping", of=self.remote, hook_id=self.hook_id)
        kind = "form" if "form" in self._content_type else "json"
        config = {"content_type": kind, "url": self.url, "insecure_ssl": "0"}
        told["hook"] |= {"id": self.hook_id, "events": ["push"], "config": config}
        if self.secret:
            config["secret"] = "********"
        return told

    def push(self, *, ref: str = "refs/heads/main", before: str = "", after: str = "") -> Answer:
        """Tell of a push to the repository; see `payloads.push`."""
        return self.deliver("push", payloads.push(self.remote, ref=ref, before=before, after=after))

    def deliver(self, event: str, payload: Payload) -> Answer:
        """Send it under a new GUID."""
        return self.send(self.delivery(event, payload))

    def redeliver(self, delivery: Delivery) -> Answer:
        """Send it again: same GUID and body, signed with the secret of now."""
        headers = self._headers(delivery.event, delivery.guid, delivery.body)
        return self.send(replace(delivery, headers=headers))

    def delivery(self, event: str, payload: Payload) -> Delivery:
        """Return what `deliver` would send."""
        text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
        body = (f"payload={quote_plus(text)}" if "form" in self._content_type else text).encode()
        guid = str(uuid.uuid1(node=secrets.randbits(48) | _MULTICAST))
        return Delivery(guid, event, self._headers(event, guid, body), body)

    def send(self, delivery: Delivery, *, seconds: float = SECONDS) -> Answer:
        """Send it as it is, over a connection of its own."""
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=seconds)
        try:
            connection.putrequest("POST", where.path, skip_accept_encoding=True)
            for name, value in {**delivery.headers, "Content-Length": str(len(delivery.body))}.items():
                connection.putheader(name, value)
            connection.endheaders(delivery.body)
            answer = connection.getresponse()
            return Answer(delivery, answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def _headers(self, event: str, guid: str, body: bytes) -> dict[str, str]:
        match self.sender:
            case "github":
                return self._of_github(event, guid, body)
            case "gitea":
                return self._of_gitea(event, guid, body)
            case "forgejo":
                return self._of_forge("Forgejo", event, guid, body) | self._of_gitea(event, guid, body)

    def _of_github(self, event: str, guid: str, body: bytes) -> dict[str, str]:
        headers = {
            "User-Agent": f"GitHub-Hookshot/{hashlib.sha1(guid.encode()).hexdigest()[:7]}",
            "Accept": "*/*",
            "Content-Type": self._content_type,
            "X-GitHub-Delivery": guid,
            "X-GitHub-Event": event,
            "X-GitHub-Hook-ID": str(self.hook_id),
            "X-GitHub-Hook-Installation-Target-ID": str(self.remote.repository_id),
            "X-GitHub-Hook-Installation-Target-Type": "repository",
        }
        return headers | self._signatures(body) if self.secret else headers

    def _of_gitea(self, event: str, guid: str, body: bytes) -> dict[str, str]:
        """Gitea names everything three times, and sends GitHub's signatures too; without a secret they are empty."""
        return {
            "User-Agent": "Go-http-client/1.1",
            "Content-Type": self._content_type,
            **self._of_forge("Gitea", event, guid, body),
            **self._of_forge("Gogs", event, guid, body),
            "X-GitHub-Delivery": guid,
            "X-GitHub-Event": event,
            "X-GitHub-Event-Type": event,
            **self._signatures(body),
        }

    def _of_forge(self, name: str, event: str, guid: str, body: bytes) -> dict[str, str]:
        signature = sign(self.secret, body) if self.secret else ""
        return {
            f"X-{name}-Delivery": guid,
            f"X-{name}-Event": event,
            f"X-{name}-Event-Type": event,
            f"X-{name}-Signature": signature,
        }

    def _signatures(self, body: bytes) -> dict[str, str]:
        kinds = {"X-Hub-Signature": "sha1", "X-Hub-Signature-256": "sha256"}
        return {name: f"{kind}={sign(self.secret, body, kind) if self.secret else ''}" for name, kind in kinds.items()}
