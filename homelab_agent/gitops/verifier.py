"""Whose delivery a request is: nothing but bounded work before its signature is known to be right.

1. who may send at all (`networks`), JSON only, a declared length; the web room refuses one that is too large,
2. a signature in the right form, else nothing of the body is read,
3. the body, within the budget of bytes that are not verified, fed to one HMAC for each secret while it comes.

An address that caused too many refusals hears 429 instead of 401, and its large bodies are not read. A small one that
is signed well is taken from there all the same: nobody can keep a delivery out by sending others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, Instant
from homelab_agent.core.health import Finding, State
from homelab_agent.core.http import Audience, HttpError, Request
from homelab_agent.core.worker import Worker
from homelab_agent.gitops import signature
from homelab_agent.gitops.allowance import SMALL_BODY, Allowance, Budget, HeldBody
from homelab_agent.gitops.keyring import Keyring
from homelab_agent.gitops.signature import Check, Key, Ring

_INLINE_BYTES = 1024 * 1024
"""So many bytes are hashed on the event loop, in about a millisecond; more at once goes to a thread."""

log = journal.logger("gitops")


class NotFromThere(HttpError):
    """Deliveries are not taken from this address."""

    status = 403


class NotJsonType(HttpError):
    """A delivery is taken as application/json only."""

    status = 415
    repair = "in the hook's settings at the forge, choose the content type application/json"


class LengthMissing(HttpError):
    """A delivery must say how long it is (Content-Length)."""

    status = 411


class SignatureRefused(HttpError):
    """The signature is not one that is accepted here."""

    status = 401


class TooManyRefused(HttpError):
    """Too many deliveries from this address were refused."""

    status = 429


@dataclass(frozen=True, slots=True)
class Verified:
    """The body of a request as it came, and the keys that it was signed with, at least one."""

    body: bytes
    keys: Sequence[Key]


class Verifier:
    """Refuses what is not signed with a secret of now."""

    def __init__(self, keyring: Keyring, clock: Clock, *, networks: Sequence[str], refusals_per_minute: float) -> None:
        self._keyring = keyring
        self._worker = Worker("gitops-hash")
        self._clock = clock
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._allowance = Allowance(refusals_per_minute)
        self._budget = Budget()
        self._refused = 0
        self._last_refusal: tuple[datetime, str, str] | None = None

    async def verify(self, request: Request) -> Verified:
        """Return what was verified; raises `HttpError`, which never says why a signature was refused."""
        now = self._clock.read()
        source, declared = request.caller.address, self._admit(request)
        claimed = signature.read(request.headers.get(signature.HEADER, ""))
        if claimed is None:
            raise self._refusal(source, "without a signature of the right form", now)
        ring = await self._keyring.ring(now.monotonic)
        if not ring:
            raise self._refusal(source, "while no secret is known", now)
        if declared > SMALL_BODY and self._allowance.wait(source, now.monotonic):
            raise self._refusal(source, "with a large body, after too many refusals", now)
        check = ring.check()
        with self._budget.hold(declared) as body:
            async for chunk in request.chunks():
                body.take(chunk)
                await self._feed(check, chunk)
            signers = check.signers(claimed) or await self._signers_anew(ring, body, claimed, now)
            accepted = [key for key in signers if not key.has_expired(now.wall.date())]
            if accepted:
                return Verified(body.whole(), accepted)
        if signers:
            old = signers[0]
            raise self._refusal(source, f"with the secret {old.name} of {old.repository}, which has expired", now)
        raise self._refusal(source, "with a signature that fits no secret", now)

    async def probe(self) -> Finding:
        """Say whether deliveries can be verified, and what was refused."""
        found = await self._keyring.probe()
        if found.state is not State.OK or self._last_refusal is None:
            return found
        at, source, why = self._last_refusal
        last = f"the last at {at:%Y-%m-%d %H:%M} UTC from {source}, {why}"
        return Finding.ok(f"{found.detail}; deliveries refused: {self._refused}, {last}")

    async def rest(self) -> None:
        """Let its thread end, and return then; it is ready for more."""
        await self._worker.rest()

    def _admit(self, request: Request) -> int:
        """Return the length that is declared; raises for what is refused whatever its signature."""
        caller = request.caller
        if self._networks and caller.audience is not Audience.LOCAL:
            address = ipaddress.ip_address(caller.address)
            if not any(address in network for network in self._networks):
                raise NotFromThere
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise NotJsonType(cause="it comes as a form" if "form" in kind else "")
        if request.declared is None:
            raise LengthMissing
        return request.declared

    async def _feed(self, check: Check, chunk: bytes | bytearray) -> None:
        if len(chunk) * len(check) > _INLINE_BYTES:
            await self._worker.run(check.update, chunk)
        else:
            check.update(chunk)

    async def _signers_anew(self, tried: Ring, body: HeldBody, claimed: bytes, now: Instant) -> Sequence[Key]:
        """Return the keys that a body was signed with if a secret was replaced a moment ago."""
        await self._keyring.renew(now.monotonic)
        ring = await self._keyring.ring(now.monotonic)
        if ring is tried:
            return ()
        check = ring.check()
        for piece in body.pieces:
            await self._feed(check, piece)
        return check.signers(claimed)

    def _refusal(self, source: str, why: str, now: Instant) -> HttpError:
        """Return what the sender hears; the reason is for the operator."""
        self._refused += 1
        self._last_refusal = (now.wall, source, why)
        if wait := self._allowance.spend(source, now.monotonic):
            refusal = TooManyRefused()
            refusal.retry_after = int(wait) + 1
            return refusal
        log.info("gitops.refused", source=source, why=why)
        return SignatureRefused()
