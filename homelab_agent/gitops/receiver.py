"""One delivery from its request to its receipt: verified, understood, decided about, committed; then somebody is woken.

What names a delivery stands in its headers, which the signature does not cover: it is looked at only after that, and
believed only where the body agrees (`event`).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.http import HttpError, Request
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.worker import Worker
from homelab_agent.gitops import event as events
from homelab_agent.gitops import selection
from homelab_agent.gitops.delivery import OPEN, Delivery, Receipt
from homelab_agent.gitops.event import Event, PullRequest, Push
from homelab_agent.gitops.identity import Identities
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.settings import Repository
from homelab_agent.gitops.verifier import Verified, Verifier

_FORGES = ("GitHub", "Gitea", "Forgejo")
_GUID = re.compile(r"[0-9A-Za-z-]{8,64}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_KEPT = re.compile(r"user-agent|content-type|x-(?:github|gitea|forgejo)-(?!signature).+", re.IGNORECASE)
_KEPT_MAX = 32
_KEPT_LENGTH = 256

_INLINE_BYTES = 64 * 1024
"""Bodies up to this size are read on the event loop, in about a millisecond; larger ones in a thread."""

_REFUSED = {401: "refused", 403: "not_from_there", 429: "throttled", 503: "unavailable"}
_TAKEN = ("accepted", "pong", "ignored", "duplicate", "known")
_MALFORMED = "malformed"

log = journal.logger("gitops")


class Unlabelled(HttpError):
    """A delivery needs its GUID (X-GitHub-Delivery) and the name of its event (X-GitHub-Event)."""


class NotKept(HttpError):
    """The delivery cannot be kept safely now, and was not accepted."""

    status = 503
    retry_after = 60


class _Content(NamedTuple):
    """A body that was read: what it says, itself compressed, and its SHA-256."""

    event: Event
    packed: bytes
    digest: bytes


class Receiver:
    """Takes deliveries. `wake` is called with a repository's name when something is to be done for it."""

    def __init__(
        self,
        repositories: Sequence[Repository],
        verifier: Verifier,
        inbox: Inbox,
        identities: Identities,
        clock: Clock,
        *,
        wake: Callable[[str], None],
        registry: CollectorRegistry,
    ) -> None:
        self._repositories = repositories
        self._verifier = verifier
        self._inbox = inbox
        self._identities = identities
        self._worker = Worker("gitops-read")
        self._clock = clock
        self._wake = wake
        self._unfinished: set[asyncio.Task[Receipt]] = set()
        counter = Counter(
            "homelab_agent_gitops_deliveries", "Webhook requests by outcome.", ["outcome"], registry=registry
        )
        self._outcomes = {outcome: counter.labels(outcome) for outcome in (*_REFUSED.values(), *_TAKEN, _MALFORMED)}

    async def receive(self, request: Request) -> Receipt:
        """Return the receipt of a delivery, whose record is on disk; raises `HttpError`."""
        try:
            receipt = await self._take(request, await self._verifier.verify(request))
        except HttpError as error:
            self._outcomes[_REFUSED.get(error.status, _MALFORMED)].inc()
            raise
        self._outcomes[_outcome(receipt)].inc()
        return receipt

    async def replay(self, guid: str) -> Receipt:
        """Open the next attempt of a known delivery, decided about by the configuration of today, for who signed it.

        Raises `NoSuchDelivery`, `StillOpen` or `StateUnavailable`.
        """
        record = await self._inbox.get(guid)
        _, body = await self._inbox.content(guid)
        content = await self._read(record.event, body)
        decision = selection.select(
            content.event,
            self._repositories,
            signers=frozenset(record.signers),
            ids=await self._identities.known(),
        )
        return await self._finish(self._inbox.reopen(guid, decision))

    async def rest(self) -> None:
        """Return when its threads have ended and what is being accepted is on disk; it is ready for more."""
        await self._verifier.rest()
        await self._worker.rest()
        if self._unfinished:
            await asyncio.wait(self._unfinished)

    async def _take(self, request: Request, verified: Verified) -> Receipt:
        guid, name = _labels(request.headers)
        content = await self._read(name, verified.body)
        event, keys = content.event, verified.keys
        try:
            ids = await self._identities.known()
            signers = frozenset(key.repository for key in keys)
            decision = selection.select(event, self._repositories, signers=signers, ids=ids)
            # Not from a ping: our own (`ping.py`) makes up a number that is not known yet.
            if decision.repository and event.origin is not None and not isinstance(decision, selection.Pong):
                await self._identities.learn(decision.repository, event.origin.id)
            key = next((one for one in keys if one.repository == decision.repository), keys[0])
            ref, after = _commit(event)
            delivery = Delivery(
                guid=guid,
                event=name,
                ref=ref,
                after=after,
                headers=_kept(request.headers),
                body=content.packed,
                digest=content.digest,
                key_name=key.name,
                signers=signers,
                source=request.caller.address,
                received_at=self._clock.read().wall,
            )
            return await self._finish(self._inbox.accept(delivery, decision))
        except StateUnavailable as error:
            raise NotKept from error

    async def _read(self, name: str, body: bytes) -> _Content:
        return await self._worker.run(_read, name, body) if len(body) > _INLINE_BYTES else _read(name, body)

    async def _finish(self, work: Coroutine[Any, Any, Receipt]) -> Receipt:
        """Commit and wake, also when the sender no longer waits: what is committed must not lie there unseen."""
        task = asyncio.get_running_loop().create_task(self._commit(work))
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def _commit(self, work: Coroutine[Any, Any, Receipt]) -> Receipt:
        receipt = await work
        if receipt.status == OPEN:
            self._wake(receipt.repository)
        log.info(
            "gitops.received",
            guid=receipt.guid,
            repository=receipt.repository,
            attempt=receipt.attempt,
            status=receipt.status,
            detail=receipt.detail,
            known=not receipt.is_new,
        )
        return receipt

    def _finished(self, task: asyncio.Task[Receipt]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits is told; nobody else has to be


def _labels(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return GUID and event of a delivery; raises `Unlabelled`."""
    for forge in _FORGES:
        guid, name = headers.get(f"X-{forge}-Delivery", ""), headers.get(f"X-{forge}-Event", "")
        if _GUID.fullmatch(guid) and _NAME.fullmatch(name):
            return guid, name
    raise Unlabelled


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tell of the hook and its sender; no signature."""
    kept = [(name, value[:_KEPT_LENGTH]) for name, value in headers.items() if _KEPT.fullmatch(name)]
    return dict(kept[:_KEPT_MAX])


def _read(name: str, body: bytes) -> _Content:
    return _Content(events.understand(name, body), zlib.compress(body, 1), hashlib.sha256(body).digest())


def _commit(event: Event) -> tuple[str, str]:
    """Return ref and commit that an event is about, "" where it is about none."""
    match event:
        case Push(ref=ref, after=after) | PullRequest(ref=ref, merged=after):
            return ref, after
        case _:
            return "", ""


def _outcome(receipt: Receipt) -> str:
    if not receipt.is_new:
        return "known"
    return "accepted" if receipt.status == OPEN else receipt.status
