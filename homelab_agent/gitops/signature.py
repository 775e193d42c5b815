"""The signature of a delivery: HMAC-SHA256 over the body's bytes, one form of it, compared in constant time.

GitHub, Gitea and Forgejo send it alike:
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

HEADER = "X-Hub-Signature-256"
_FORM = re.compile(r"sha256=([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Key:
    """Whose secret it is and what it is called.

    `expires` is the last day, in UTC, on which it is accepted; `former` says that its value has been replaced.
    """

    repository: str
    name: str
    expires: date | None = None
    former: bool = False

    def has_expired(self, today: date) -> bool:
        """Return whether its last day is over."""
        return self.expires is not None and self.expires < today


def read(header: str) -> bytes | None:
    """Return the digest that a header claims; None unless it is `sha256=` and 64 lower-case hexadecimal digits."""
    claimed = _FORM.fullmatch(header)
    return bytes.fromhex(claimed[1]) if claimed else None


def sign(value: str, body: bytes) -> str:
    """Return the header's value for a body that is signed with a secret of this value."""
    return f"sha256={hmac.new(_octets(value), body, digestmod='sha256').hexdigest()}"


class Ring:
    """The keys that a delivery may be signed with; several with one value are tried once."""

    def __init__(self, keys: Iterable[tuple[Key, str]]) -> None:
        """Take each key with its secret value."""
        owners: dict[bytes, list[Key]] = {}
        for key, value in keys:
            owners.setdefault(_octets(value), []).append(key)
        self._keyed = [(hmac.new(value, digestmod="sha256"), tuple(found)) for value, found in owners.items()]

    def __len__(self) -> int:
        return len(self._keyed)

    def check(self) -> Check:
        """Return what a body is fed to."""
        return Check([(keyed.copy(), found) for keyed, found in self._keyed])


class Check:
    """One HMAC for each value of a ring, over a body that is still coming."""

    def __init__(self, running: Sequence[tuple[hmac.HMAC, tuple[Key, ...]]]) -> None:
        self._running = running

    def __len__(self) -> int:
        return len(self._running)

    def update(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the body."""
        for running, _ in self._running:
            running.update(data)

    def signers(self, claimed: bytes) -> tuple[Key, ...]:
        """Return the keys whose signature of the body is `claimed`; every one is compared, in constant time."""
        found: tuple[Key, ...] = ()
        for running, keys in self._running:
            if hmac.compare_digest(running.digest(), claimed):
                found += keys
        return found


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
