"""The agent's way to OpenBao: all is asked in one thread, so that no server, however it hangs, holds the loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.secret import Secret
from homelab_agent.secrets.errors import CannotAsk, Slow, Unreachable
from homelab_agent.secrets.health import Server, away
from homelab_agent.secrets.kv import Version
from homelab_agent.secrets.lane import Closed, Lane
from homelab_agent.secrets.settings import SecretsSettings

if TYPE_CHECKING:
    from homelab_agent.secrets.session import Session

T = TypeVar("T")

REQUESTS = 4
"""A call may need as many requests: it is given up after so many times `timeout`, and a second."""
SNAPSHOT_SECONDS = 600.0
_SNAPSHOT_PIECE_SECONDS = 60.0
_GOODBYE_SECONDS = 1.0
_LOOK_SECONDS = 60.0
"""The log-in is looked at this often at least: who asked may have logged in anew meanwhile. So long a wait may end
some seconds later, with those of others."""

log = journal.logger("secrets")


class Client:
    """Asks OpenBao for secrets, their versions, its state and snapshots of it; loads hvac when it first does.

    A request that is not answered fails after `settings.timeout`, and with it all that waited behind it. Whatever the
    server does, a call is given up `REQUESTS` * timeout + 1 s after its turn came. Its errors are those of
    `errors.CannotAsk`, `errors.CannotLogIn` and `errors.Refused`, and what reading the log-in's own secret raises.
    """

    def __init__(
        self,
        settings: SecretsSettings,
        *,
        directory: Path,
        secret_id: Secret | None,
        token: Secret | None,
        clock: Clock,
        hide: Callable[[str], None],
    ) -> None:
        """Take the log-in's secrets as `settings.way` needs them.

        `directory` is the agent's state, for a secret id that comes wrapped; `hide` has a value masked in the log.
        """
        self._settings = settings
        self._clock = clock
        self._make = partial(_session, directory=directory, secret_id=secret_id, token=token, clock=clock, hide=hide)
        self._within = REQUESTS * settings.timeout + 1
        self._lane: Lane[Session] = Lane(
            "secrets", partial(self._make, settings), within=self._within, late=self._too_slow
        )

    async def read(self, path: str, version: int | None = None) -> Version:
        """Return the secret at `path`, which begins with its mount, in its current version unless one is named."""
        return await self._ask(lambda session: session.read(path, version))

    async def current(self, path: str) -> int:
        """Return the number of a secret's current version, by one request for its metadata.

        Raises `PathAbsent` or `VersionGone` where it cannot be read. A store of version 1 keeps none: it is 0, and
        nothing is asked.
        """
        return await self._ask(lambda session: session.current(path))

    def read_blocking(self, path: str, version: int | None = None) -> Version:
        """Return what `read` does, for a thread that may wait."""
        return self._ask_blocking(lambda session: session.read(path, version))

    def current_blocking(self, path: str) -> int:
        """Return what `current` does, for a thread that may wait."""
        return self._ask_blocking(lambda session: session.current(path))

    async def status(self) -> Server:
        """Return how the server stands; needs no log-in, and raises nothing for a server that is not there."""
        try:
            return await self._ask(lambda session: session.status())
        except CannotAsk as error:
            return away(error)

    async def snapshot(self, to: Path) -> int:
        """Write a snapshot of the server's storage (raft) to a file of the agent's alone; return its bytes.

        It takes a thread and a log-in of its own, so that secrets can be read meanwhile. What is not whole after
        ten minutes fails. Raises `SnapshotBroken`, `NoSnapshots` and OSError, too.
        """
        patient = self._settings.model_copy(update={"timeout": max(self._settings.timeout, _SNAPSHOT_PIECE_SECONDS)})
        lane: Lane[Session] = Lane(
            "secrets.snapshot", partial(self._make, patient), within=SNAPSHOT_SECONDS, late=self._too_slow
        )
        try:
            return await lane.run(self._from_now_on(lambda session: session.snapshot(to)))
        finally:
            await _leave(lane)

    async def run(self) -> None:
        """Keep the log-in alive until cancelled: renewed, and replaced before it ends, also while nothing is read."""
        failed = False
        while True:
            try:
                left = await self._ask(lambda session: session.tend())
                pause = _LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS)
                failed = False
            except AgentError as error:
                pause = random.uniform(0.5, 1) * self._settings.poll  # noqa: S311 - not a secret
                if not failed:
                    log.warning("secrets.log_in_failed", error=error)
                failed = True
            await self._clock.sleep(about(self._clock.read(), pause) if pause >= _LOOK_SECONDS else pause)

    async def close(self) -> None:
        """Leave the server: a token of our own is revoked, if that takes no longer than a second."""
        await _leave(self._lane)

    def standing(self) -> str:
        """Say in words how the log-in stands."""
        session = self._lane.made
        return session.standing if session is not None else "not logged in yet"

    async def _ask(self, request: Callable[[Session], T]) -> T:
        try:
            return await self._lane.run(self._from_now_on(request))
        except Closed:
            raise self._leaving() from None

    def _ask_blocking(self, request: Callable[[Session], T]) -> T:
        try:
            return self._lane.run_blocking(self._from_now_on(request))
        except Closed:
            raise self._leaving() from None

    def _from_now_on(self, request: Callable[[Session], T]) -> Callable[[Session], T]:
        moment = self._clock.read().monotonic
        return lambda session: session.answer(partial(request, session), since=moment)

    def _leaving(self) -> Unreachable:
        return Unreachable(url=self._settings.url, cause="the agent is stopping")

    def _too_slow(self) -> Slow:
        return Slow(url=self._settings.url, seconds=self._within)


def _session(
    settings: SecretsSettings,
    *,
    directory: Path,
    secret_id: Secret | None,
    token: Secret | None,
    clock: Clock,
    hide: Callable[[str], None],
) -> Session:
    from homelab_agent.secrets.session import Session  # hvac is loaded where OpenBao is asked, and in that thread

    return Session(settings, directory=directory, secret_id=secret_id, token=token, clock=clock, hide=hide)


async def _leave(lane: Lane[Session]) -> None:
    if lane.made is not None:
        with suppress(TimeoutError, AgentError, Closed):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await lane.run(lambda session: session.close())
    lane.close()
