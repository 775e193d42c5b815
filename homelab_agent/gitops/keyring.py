"""The secrets of all hooks: read late, read again, and what is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial

from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Finding, State
from homelab_agent.core.secret import Secret, SecretStale
from homelab_agent.gitops.settings import Repository
from homelab_agent.gitops.signature import Key, Ring

READ_SECONDS = 3.0
"""How long reading may take; what takes longer, on a share that is gone, keeps nobody else waiting."""

RENEW_SECONDS = 5.0
"""A signature that fits nothing makes the secrets be read again, at most this often: one may be new."""

_RING_SECONDS = 1.0
"""A value that was replaced is accepted for a while (`Secret.accepted`), this precisely."""

_EXPIRY_NEAR = timedelta(days=14)


class SecretLate(AgentError):
    """The secret {reference} cannot be read in time."""

    repair = "see whether the file system it lies on answers: ls -l"


class Keyring:
    """Knows which keys a delivery may be signed with now.

    A secret that cannot be read any more keeps the value it had, for as long as that may be used; one that never could
    is no key.
    """

    def __init__(
        self,
        repositories: Sequence[Repository],
        parse: Callable[[str], Secret],
        clock: Clock,
        *,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        """`parse` makes a secret of a reference; the AgentError that it may raise is what is wrong with that secret."""
        self._clock = clock
        self._read_seconds = read_seconds
        self._troubles: dict[str, AgentError] = {}
        self._secrets: dict[str, Secret] = {}
        self._readable: set[str] = set()
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._keys = [
            (Key(repository.name, one.name, one.expires), one.secret)
            for repository in repositories
            for one in repository.secret
        ]
        for _, reference in self._keys:
            try:
                if reference not in self._secrets:
                    self._secrets[reference] = parse(reference)
                    self._secrets[reference].on_change(_any, partial(self._adopt, reference))
            except AgentError as error:
                self._troubles[reference] = error
        self._ring = Ring([])
        self._ring_until = 0.0
        self._renew_at = 0.0
        self._refreshed = False

    async def ring(self, now: float) -> Ring:
        """Return the keys, with their values, that are accepted `now` (monotonic); the first call reads them."""
        if not self._refreshed:
            await self.refresh()
        if now >= self._ring_until:
            self._ring = Ring(self._valued())
            self._ring_until = now + _RING_SECONDS
        return self._ring

    async def renew(self, now: float) -> None:
        """Read the secrets again unless that was done just before `now`."""
        if now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            await self.refresh()

    async def refresh(self) -> None:
        """Read every secret; where one is another than before, `ring` gives another ring."""
        for reference, secret in self._secrets.items():
            if reference not in self._reading:
                self._reading[reference] = asyncio.create_task(self._read(reference, secret), name="gitops.secret")
        if self._reading:
            _, late = await asyncio.wait(self._reading.values(), timeout=self._read_seconds)
            for reference in [reference for reference, task in self._reading.items() if task in late]:
                self._troubles[reference] = SecretLate(reference=reference)
        self._refreshed = True

    async def probe(self) -> Finding:
        """Read the secrets again, and say what is wrong with them."""
        await self.refresh()
        if not self._keys:
            detail = "no repository has a webhook secret: every delivery is refused"
            return Finding(State.DISABLED, detail, "give it one: [[gitops.repository.secret]]")
        today = self._clock.read().wall.date()
        if self._troubles:
            trouble = next(iter(self._troubles.values()))
            detail = "; ".join(str(error) for error in self._troubles.values())
            usable = any(not key.has_expired(today) for key, _ in self._valued())
            # By their names: what stands in the place of a reference may be a secret.
            about = [f"{key.repository} {key.name}" for key, reference in self._keys if reference in self._troubles]
            return (Finding.degraded if usable else Finding.failed)(detail, trouble.repair, about=about)
        return expiry([key for key, _ in self._keys], today) or Finding.ok(f"webhook secrets: {len(self._keys)}")

    def _valued(self) -> Iterator[tuple[Key, str]]:
        for key, reference in self._keys:
            if reference in self._readable:
                try:
                    present, *former = self._secrets[reference].accepted()
                except SecretStale as error:
                    self._troubles[reference] = error
                    continue
                yield key, present
                yield from ((Key(key.repository, key.name, key.expires, former=True), value) for value in former)

    async def _adopt(self, reference: str, _: str) -> None:
        """Make a new ring, of the new value and of the old one for a while; whoever it was that read it."""
        self._can_be_read(reference)
        self._ring_until = 0.0

    def _can_be_read(self, reference: str) -> None:
        self._readable.add(reference)
        self._troubles.pop(reference, None)

    async def _read(self, reference: str, secret: Secret) -> None:
        try:
            await secret.refresh()
            self._can_be_read(reference)
        except AgentError as error:
            self._troubles[reference] = error
        finally:
            del self._reading[reference]


async def _any(_: str) -> None:
    """Take any value: that of the forge is known when it signs with it, and the old one is accepted until then."""


def expiry(keys: Sequence[Key], today: date) -> Finding | None:
    """Say which repository's last secret has expired or soon will; None if none."""
    repair = "put a new one beside it, and into the hook's settings: [[gitops.repository.secret]]"
    last: dict[str, Key] = {}
    for key in keys:
        if key.repository not in last or (key.expires or date.max) > (last[key.repository].expires or date.max):
            last[key.repository] = key
    for name, key in last.items():
        if key.expires is None or key.expires > today + _EXPIRY_NEAR:
            continue
        if key.has_expired(today):
            said = f"the last webhook secret of {name} expired on {key.expires}: its deliveries are refused"
        else:
            said = f"the last webhook secret of {name} is accepted until {key.expires}"
        return Finding.degraded(said, repair)
    return None
