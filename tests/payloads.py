"""Webhook deliveries of the shape that GitHub, Gitea and Forgejo send, no larger than need be."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from typing import Any

FULL_NAME = "octo/homelab"
NUMBER = 4242
SECRET = "It's a Secret to Everybody"
Payload = dict[str, Any]


def sha(text: str) -> str:
    """Return something that looks like a commit's name."""
    return hashlib.sha1(text.encode()).hexdigest()


def repository(full_name: str = FULL_NAME, number: int = NUMBER) -> Payload:
    """Return what a payload says of the repository."""
    owner, _, name = full_name.partition("/")
    return {"id": number, "name": name, "full_name": full_name, "owner": {"login": owner}}


def push(
    *, ref: str = "refs/heads/main", after: str = "", full_name: str = FULL_NAME, number: int = NUMBER, **changes: Any
) -> Payload:
    """Return a push of one commit."""
    after = after or sha(str(uuid.uuid4()))
    commit = {"id": after, "message": "Change something", "added": [], "removed": [], "modified": ["a"]}
    return {
        "ref": ref,
        "before": sha("before"),
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "commits": [commit],
        "head_commit": commit,
        "pusher": {"name": "octo"},
        "repository": repository(full_name, number),
    } | changes


def deletion(*, ref: str = "refs/heads/main") -> Payload:
    """Return a push that deleted a branch."""
    return push(ref=ref, after="0" * 40, deleted=True, commits=[], head_commit=None)


def pull_request(*, action: str = "closed", merged: bool = True, base: str = "main", **changes: Any) -> Payload:
    """Return a pull request's event."""
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "state": "closed" if action == "closed" else "open",
            "merged": merged,
            "merge_commit_sha": sha("merge"),
            "base": {"ref": base},
            "head": {"ref": "topic"},
        },
        "repository": repository(),
    } | changes


def ping(*, events: tuple[str, ...] = ("push",), active: bool = True, insecure_ssl: str = "0", **more: Any) -> Payload:
    """Return what GitHub sends when a hook is made."""
    config = {"content_type": "json", "insecure_ssl": insecure_ssl, "secret": "********"}
    hook = {"type": "Repository", "id": 1, "active": active, "events": list(events), "config": config}
    return {"zen": "Design for failure.", "hook_id": 1, "hook": hook, "repository": repository()} | more


def encode(payload: Payload) -> bytes:
    """Return a payload as it is sent."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def sign(secret: str, body: bytes) -> str:
    """Return the header's value."""
    return "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()


def headers(event: str, body: bytes, *, secret: str = SECRET, guid: str = "") -> dict[str, str]:
    """Return the headers that GitHub sends with a body."""
    return {
        "User-Agent": "GitHub-Hookshot/044aadd",
        "Accept": "*/*",
        "Content-Type": "application/json",
        "X-GitHub-Delivery": guid or str(uuid.uuid4()),
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "1",
        "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, "sha1").hexdigest(),
        "X-Hub-Signature-256": sign(secret, body),
    }
