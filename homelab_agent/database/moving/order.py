"""What is asked of a move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from homelab_agent.core.errors import AgentError
from homelab_agent.core.http import BadRequest

JOB = "database.move"

TO_BE_WRITTEN = "the configuration is to name the new database now; the agent waits for it"
"""Said by a run where the agent may not write its configuration: who follows the run may be allowed to."""


class Configuration(Protocol):
    """The agent's configuration, as far as it says where PostgreSQL is."""

    def fixed_by(self) -> str:
        """Return the variable of the environment that says it, whatever the file does; "" where none does."""

    async def write(self, values: Mapping[str, str]) -> None:
        """Set keys of the file, named with dots; raises an `AgentError` where that cannot be."""

    async def says(self, values: Mapping[str, str]) -> bool:
        """Return whether the file says so."""

    def adopted(self, values: Mapping[str, str]) -> None:
        """Take note that the running agent does as these keys of the file say."""


class FixedElsewhere(AgentError):
    """Where PostgreSQL is, is said by ${variable}, whatever the configuration says."""

    repair = "unset it where the agent is started, put the key into the configuration, and restart the agent"


@dataclass(frozen=True, slots=True)
class Order:
    """Where to, as `[database] url` and `password` take it; only `plan`, or also `switch`."""

    to: str = field(repr=False)
    password: str = field(default="", repr=False)
    plan: bool = False
    switch: bool = False

    @classmethod
    def asked(cls, body: Mapping[str, Any]) -> Order:
        """Return what a request asks; raises `BadRequest`, which repeats nothing of it."""
        to, password = body.get("to"), body.get("password", "")
        if not (isinstance(to, str) and to and isinstance(password, str)):
            raise BadRequest(cause="to and password are texts")
        return cls(to, password, body.get("plan") is True, body.get("switch") is True)

    @property
    def values(self) -> Mapping[str, str]:
        """Return the keys of the configuration that name it."""
        return {"database.url": self.to, "database.password": self.password}
