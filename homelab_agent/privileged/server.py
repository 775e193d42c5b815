"""The root half's server: takes connections of those who may call, serves them side by side, rests when none come."""

from __future__ import annotations

import asyncio
import faulthandler
import socket
from collections.abc import Callable

from homelab_agent.core import journal
from homelab_agent.core.errors import describe
from homelab_agent.privileged.exchange import Caller, Exchange, Verbs

IDLE_SECONDS = 60.0
CONNECTIONS_MAX = 64
"""Served at once; more wait until they are accepted. Each may hold `DESCRIPTORS_MAX` descriptors besides its own."""
ENDING_SECONDS = 120.0
"""How long what runs is given to end in order."""

_PAUSE_SECONDS = 1.0

log = journal.logger("privileged")


class Server:
    """Serves those of `callers` (user ids) who connect to `listener`; `run` it once."""

    def __init__(
        self,
        listener: socket.socket,
        verbs: Verbs,
        *,
        callers: frozenset[int],
        idle_seconds: float = IDLE_SECONDS,
        on_first: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_first` is called when the first connection was taken."""
        self._listener = listener
        self._verbs = verbs
        self._callers = callers
        self._idle_seconds = idle_seconds
        self._on_first: Callable[[], None] | None = on_first
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._exchanges: dict[asyncio.Task[None], Exchange] = {}
        self._idle: asyncio.TimerHandle | None = None
        self._accepts = False

    def stop(self) -> None:
        """Take no more connections, and have what runs end in order."""
        self._end.set()

    async def run(self) -> None:
        """Serve until stopped, or until nobody has called for so long; return when what ran has ended.

        What has not ended then within `ENDING_SECONDS` is told on stderr, and the process ends without it.
        """
        self._listener.setblocking(False)  # noqa: FBT003 - the socket API
        self._turn()
        try:
            await self._end.wait()
        finally:
            self._end.set()
            self._turn()
            self._listener.close()  # who has handed it to us has it still
        for task, exchange in self._exchanges.items():
            if not exchange.let_go():
                task.cancel()
        if self._exchanges:
            faulthandler.dump_traceback_later(ENDING_SECONDS, exit=True)
            await asyncio.wait(self._exchanges)
            faulthandler.cancel_dump_traceback_later()

    def _turn(self) -> None:
        """Accept, and rest when there is nothing to do, as it now stands."""
        accepts = not self._end.is_set() and len(self._exchanges) < CONNECTIONS_MAX
        if accepts and not self._accepts:
            self._loop.add_reader(self._listener, self._accept)
        if self._accepts and not accepts:
            self._loop.remove_reader(self._listener)
        self._accepts = accepts
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if accepts and not self._exchanges:
            self._idle = self._loop.call_later(self._idle_seconds, self.stop)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is left: one will be, when a call has ended
            log.error("privileged.cannot_accept", cause=describe(error))  # noqa: TRY400 - one line says it
            self._loop.remove_reader(self._listener)
            self._accepts = False
            self._loop.call_later(_PAUSE_SECONDS, self._turn)
            return
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        caller = Caller.of(connection)
        if caller.uid not in self._callers:
            log.warning("privileged.caller_refused", **caller.fields)
            connection.close()
            return
        connection.setblocking(False)  # noqa: FBT003 - the socket API
        exchange = Exchange(connection, caller, self._verbs)
        task = asyncio.create_task(exchange.run(), name=f"call of process {caller.pid}")
        self._exchanges[task] = exchange
        task.add_done_callback(self._ended)
        self._turn()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._exchanges.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("privileged.exchange_failed", exc_info=error)
        self._turn()
