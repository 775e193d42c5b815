"""With what a reading source is asked: its address and its password, as they are now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import unquote

from homelab_agent.core.errors import AgentError
from homelab_agent.core.secret import Secret, Secrets
from homelab_agent.reading.settings import ReadingSource

Trial: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Asks the source with an address and a password, and raises when these do not work."""

_REFERENCES = ("env:", "file:", "credential:", "openbao:")


class Credentials:
    """Those of one source. A new value is adopted when the source takes it, by whomever it was read."""

    def __init__(self, settings: ReadingSource, secrets: Secrets, trial: Trial) -> None:
        """Find the secrets, and read none yet; raises `ReferenceFaulty`."""
        self._url = settings.url
        self._trial = trial
        self._hide = secrets.hide
        self._secrets: dict[str, Secret] = {}
        for key, value in (("url", settings.url), ("password", settings.password)):
            if value and (key == "password" or value.startswith(_REFERENCES)):
                self._secrets[key] = secret = secrets.find(value)
                secret.on_change(self._trying(key), _adopted)

    async def current(self) -> tuple[str, str]:
        """Return address and password, "" where there is none, read anew; raises the secrets' errors.

        While a new value is refused, or cannot be read, it is the old one that is used.
        """
        for secret in self._secrets.values():
            with suppress(AgentError):
                await secret.refresh()
        return await asyncio.to_thread(self._values)

    def _trying(self, key: str) -> Callable[[str], Awaitable[None]]:
        async def trial(new: str) -> None:
            url, password = await asyncio.to_thread(self._values)
            await self._trial(new if key == "url" else url, new if key == "password" else password)

        return trial

    def _values(self) -> tuple[str, str]:
        found = {key: secret.get() for key, secret in self._secrets.items()}
        url = found.get("url", self._url)
        if within := url.partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")[2]:
            self._hide(unquote(within))
        return url, found.get("password", "")


async def _adopted(_: str) -> None:
    """Do nothing more: a run that is under way asks with the old value as long as it may, the next with the new one."""
