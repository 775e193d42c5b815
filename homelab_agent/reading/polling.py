"""Sources that are asked over HTTP, page by page; a preset says how one kind is asked and what its answers mean."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import aiohttp

from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import describe
from homelab_agent.core.secret import Secrets
from homelab_agent.reading.credentials import Credentials
from homelab_agent.reading.document import Arrived, Batch, Status, Window
from homelab_agent.reading.manners import USER_AGENT, Manners, http_date, retry_after
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.source import NotLetIn, SourceRefuses, SourceUnreachable

ANSWER_SECONDS = 60.0
ANSWER_BYTES = 64 * 1024 * 1024
LONGEST_WAIT_SECONDS = 60.0
"""Who wants to be left alone for longer is asked by a later run."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what follows the source's address, and headers."""

    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer; `body` is empty where nothing has changed, `at` when it was given by the server's clock."""

    headers: Mapping[str, str]
    body: bytes
    at: datetime
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """What an answer holds, where it goes on, and whether there is more now."""

    arrived: Sequence[Arrived]
    cursor: Mapping[str, Any]
    more: bool = False


class Malformed(Exception):
    """An answer that makes no sense: an error page, or one that was cut."""


class Preset(Protocol):
    """One kind of source. Nothing in it asks anybody."""

    def authority(self, password: str) -> Mapping[str, str]:
        """Return the headers that let us in."""

    def ask(self, cursor: Mapping[str, Any], window: Window | None) -> Ask:
        """Return the request for what follows `cursor`."""

    def page(self, told: Told, cursor: Mapping[str, Any], window: Window | None) -> Page:
        """Return what an answer holds; runs in a thread, raises `Malformed`."""


class PolledSource:
    """One source that is asked as its preset says."""

    def __init__(self, settings: ReadingSource, secrets: Secrets, clock: Clock, preset: Preset) -> None:
        self.name = settings.name
        self.marks_rejected = settings.on_reject == "mark"
        self._clock = clock
        self._preset = preset
        self._manners = Manners(clock, settings.rate)
        self._credentials = Credentials(settings, secrets, self._try_out)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OpenedPolled]:
        """Get ready to ask; raises `SourceUnreachable` while it is to be left alone."""
        url, password = await self._credentials.current()
        async with await self._session() as session:
            yield OpenedPolled(self.name, session, url, password, self._preset, self._manners, self._clock)

    async def _try_out(self, url: str, password: str) -> None:
        async with await self._session() as session:
            opened = OpenedPolled(self.name, session, url, password, self._preset, self._manners, self._clock)
            await opened.tell(self._preset.ask({}, None))

    async def _session(self) -> aiohttp.ClientSession:
        tls = await asyncio.to_thread(ssl.create_default_context)  # it reads files
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            headers={"User-Agent": USER_AGENT},
        )


class OpenedPolled:
    """A source that can be asked: an `Opened`."""

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        url: str,
        password: str,
        preset: Preset,
        manners: Manners,
        clock: Clock,
    ) -> None:
        self._name = name
        self._session = session
        self._url = url
        self._password = password
        self._preset = preset
        self._manners = manners
        self._clock = clock

    async def batches(self, cursor: Mapping[str, Any], window: Window | None) -> AsyncGenerator[Batch]:
        """Give page after page."""
        while True:
            told = await self.tell(self._preset.ask(cursor, window))
            try:
                page = await asyncio.to_thread(self._preset.page, told, cursor, window)
            except Malformed as error:
                self._manners.failed()
                raise SourceUnreachable(source=self._name, cause=f"its answer makes no sense: {error}") from None
            self._manners.answered()
            yield Batch(page.arrived, page.cursor)
            if not page.more:
                return
            cursor = page.cursor

    async def acknowledge(self, keys: Sequence[str], status: Status, run: str) -> int:  # noqa: ARG002 - an `Opened`
        """Mark nothing: the cursor says what was taken."""
        return 0

    async def left(self, window: Window | None) -> int | None:  # noqa: ARG002 - an `Opened`
        """Return None: it does not say."""
        return None

    async def tell(self, ask: Ask) -> Told:
        """Ask once, as soon as it may be; raises `SourceUnreachable`, `NotLetIn`, `SourceRefuses`."""
        wait = self._manners.wait()
        if wait > LONGEST_WAIT_SECONDS:
            raise SourceUnreachable(source=self._name, cause=f"it is left alone for another {wait:.0f} s")
        await self._clock.sleep(wait)
        self._manners.asked()
        headers = {**self._preset.authority(self._password), **ask.headers}
        try:
            async with self._session.get(
                self._url.rstrip("/") + ask.path if ask.path else self._url,
                params=dict(ask.query),
                headers=headers,
                allow_redirects=not self._password,  # what lets us in is for nobody else
            ) as answer:
                return await self._judge(answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError too
            self._manners.failed()
            raise SourceUnreachable(source=self._name, cause=self._hidden(describe(error))) from None

    async def _judge(self, answer: aiohttp.ClientResponse) -> Told:
        status, now = answer.status, self._clock.read().wall
        at = http_date(answer.headers.get("Date", "")) or now
        if status == 304:
            return Told(answer.headers, b"", at, is_new=False)
        if status == 200:
            return Told(answer.headers, await self._body(answer), at)
        if status in {401, 403}:
            raise NotLetIn(source=self._name, cause=f"it answers {status}")
        if status in {408, 425, 429} or status >= 500:
            self._manners.failed()
            wanted = retry_after(answer.headers.get("Retry-After", ""), now)
            if wanted is not None:
                self._manners.leave_alone(wanted)
            raise SourceUnreachable(source=self._name, cause=f"it answers {status}")
        raise SourceRefuses(source=self._name, cause=f"it answers {status}")

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(256 * 1024):
            body += chunk
            if len(body) > ANSWER_BYTES:
                raise SourceRefuses(source=self._name, cause=f"its answer is longer than {ANSWER_BYTES} bytes")
        return bytes(body)

    def _hidden(self, said: str) -> str:
        """Return what was said without the address, which may hold a password."""
        return said.replace(self._url, "its address")
