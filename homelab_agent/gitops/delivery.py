"""A delivery, what is tried for it, and how that ends: the values that pass between receiving and deploying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Word: TypeAlias = Literal[
    "ok",
    "up_to_date",
    "dirty",
    "dirty_overlap",
    "untracked_collision",
    "diverged",
    "ahead",
    "forced",
    "detached",
    "locked",
    "wrong_branch",
    "not_a_repository",
    "wrong_owner",
    "fetch_failed",
    "corrupt",
    "unsigned",
    "pong",
    "ignored",
    "duplicate",
    "included",
    "action_failed",
    "unhealthy",
    "rolled_back",
    "interrupted",
    "not_available",
    "bad_sha",
]
"""How an attempt ends: first the words of `deploy/gitops_sync.sh`, then ours."""

OPEN = "open"
"""In place of a verdict, while there is none."""

GOOD: frozenset[str] = frozenset({"ok", "up_to_date", "included", "pong", "ignored", "duplicate"})
"""What a redelivery does not run again."""

DONE: frozenset[str] = GOOD - {"pong", "ignored", "duplicate"}
"""After these the same body under another GUID is a duplicate."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request of a webhook that was verified, about a commit `after` on `ref` if it is about one.

    `body` is compressed with zlib, `digest` is the SHA-256 of it as it came; `key_name` is the secret it was signed
    with, `signers` are the repositories that this authorises for.
    """

    guid: str
    event: str
    ref: str
    after: str
    headers: Mapping[str, str]
    body: bytes
    digest: bytes
    key_name: str
    signers: frozenset[str]
    source: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended: `repair` is a command or a configuration key, `run_id` the run that it was part of."""

    word: Word
    detail: str = ""
    repair: str = ""
    sha_asked: str = ""
    sha_reached: str = ""
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that is open: `repository` is to be brought to `after` on `ref`.

    `again` says that its body had come before, under its GUID or another one.
    """

    guid: str
    number: int
    repository: str
    event: str
    ref: str
    after: str
    received_at: datetime
    opened_at: datetime
    again: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sender is told: how the last attempt stands, a verdict or "open"; `is_new` if it was made just now."""

    guid: str
    repository: str
    attempt: int
    status: str
    detail: str
    is_new: bool

    def as_fields(self) -> dict[str, object]:
        """Return what is told over HTTP."""
        return {
            "delivery": self.guid,
            "repository": self.repository,
            "attempt": self.attempt,
            "status": self.status,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """What is known of one attempt; `verdict` is "" while it is open."""

    number: int
    verdict: str
    detail: str
    repair: str
    sha_asked: str
    sha_reached: str
    run_id: str | None
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """What is known of one delivery and its attempts, the first first; `size` is in bytes of disk.

    `signers` are the repositories with whose secrets it was signed.
    """

    guid: str
    event: str
    repository: str
    ref: str
    after_sha: str
    key_name: str
    source: str
    size: int
    received_at: datetime
    signers: tuple[str, ...]
    attempts: tuple[AttemptRecord, ...]
