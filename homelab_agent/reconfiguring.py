"""The configuration as the running agent changes it, where a room has it do so: where PostgreSQL is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from homelab_agent import config
from homelab_agent.config import environment, writer
from homelab_agent.core.errors import AgentError


class Configuration:
    """The file that the agent was started with; `on_adopted` is told which keys it follows."""

    def __init__(self, path: Path | None) -> None:
        self.on_adopted: Callable[[Mapping[str, str]], None] = lambda _: None
        self._path = path

    def fixed_by(self) -> str:
        """Return the variable of the environment that says where PostgreSQL is; "" where none does."""
        names = (environment.variable_of(("database", key)) for key in ("url", "password"))
        return next((name for name in names if name in os.environ), "")

    async def write(self, values: Mapping[str, str]) -> None:
        """Set keys of the file, named with dots; raises an `AgentError` where that cannot be."""
        path = writer.target(self._path)
        await asyncio.to_thread(writer.set_values, path, values, again=())

    async def says(self, values: Mapping[str, str]) -> bool:
        """Return whether the file says so; one that cannot be read just now does not."""
        try:
            loaded = await asyncio.to_thread(config.load, self._path)
        except (AgentError, OSError):
            return False
        section = loaded.settings.database.model_dump()
        return all(section[key.removeprefix("database.")] == value for key, value in values.items())

    def adopted(self, values: Mapping[str, str]) -> None:
        """Take note that the running agent does as these keys of the file say."""
        self.on_adopted(values)
