"""A changed configuration in the running agent: what may change without a restart does, the rest is named."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from homelab_agent import config
from homelab_agent.core import journal, systemd
from homelab_agent.core.capability import Capability
from homelab_agent.core.errors import AgentError
from homelab_agent.core.supervisor import signals

log = journal.logger("config")


def warn(loaded: config.Loaded[config.Settings]) -> None:
    """Log what the operator should be told of the configuration, such as keys under an old name."""
    for warning in loaded.warnings:
        log.warning("config.warning", detail=warning)


class Reloading:
    """Reads the configuration anew when called; an invalid one changes nothing and raises `ConfigurationFaulty`."""

    def __init__(
        self, loaded: config.Loaded[config.Settings], rooms: Sequence[Capability], opened: journal.Journal
    ) -> None:
        self._path = loaded.path
        self._settings = loaded.settings
        self._rooms = rooms
        self._journal = opened
        self._one_at_a_time = asyncio.Lock()
        self._asked: set[asyncio.Task[None]] = set()

    async def __call__(self) -> Mapping[str, Sequence[str]]:
        """Apply what may change; return the keys that were `applied` and those that need a restart."""
        async with self._one_at_a_time:
            systemd.notify(RELOADING=1)
            try:
                loaded = await asyncio.to_thread(config.load, self._path)
                warn(loaded)
                changed = config.changes(self._settings, loaded.settings)
                for room in self._rooms:
                    if room.reload is not None and room.name in changed.applied:
                        room.reload(changed.applied[room.name])
                if "log" in changed.applied:
                    self._journal.level = changed.settings.log.level
                self._settings = changed.settings
            finally:
                await systemd.tell_surely(READY=1)
        log.info("config.reloaded", applied=changed.keys, needs_restart=changed.needs_restart)
        return {"applied": changed.keys, "needs_restart": changed.needs_restart}

    def adopted(self, values: Mapping[str, str]) -> None:
        """Take note of keys of `[database]` that were changed in the file and in the running agent together."""
        update = {key.removeprefix("database."): value for key, value in values.items()}
        now = self._settings.database.model_copy(update=update)
        self._settings = self._settings.model_copy(update={"database": now})

    @contextmanager
    def on_hangup(self) -> Iterator[None]:
        """Reload on SIGHUP while the context lasts, and ignore it after; where a terminal may close, SIGHUP ends."""
        if signals.has_terminal():
            yield
            return
        loop = asyncio.get_running_loop()

        def ask() -> None:
            task = loop.create_task(self._tried())
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

        # Not loop.add_signal_handler: it hears by the descriptor that `signals.handled` takes for itself.
        signal.signal(signal.SIGHUP, lambda _number, _frame: loop.call_soon_threadsafe(ask))
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def _tried(self) -> None:
        try:
            await self()
        except AgentError as error:
            log.error("config.invalid", cause=error.message, repair="homelab-agent config check")  # noqa: TRY400
