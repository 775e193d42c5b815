"""How the server says that it stands, whoever asks: `GET sys/health` (https://openbao.org/api-docs/system/health/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from homelab_agent.secrets.errors import CannotAsk

INLINE_SINCE = (2, 4)
"""The version from which on OpenBao takes a log-in with the request itself."""


class State(StrEnum):
    """What a server can do for us."""

    ACTIVE = "active"
    STANDBY = "standby"
    SEALED = "sealed"
    UNINITIALIZED = "uninitialized"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Server:
    """A server: its state, its version ("" where it did not say), and in words what is wrong, with the repair."""

    state: State
    version: str
    detail: str
    repair: str = ""
    is_openbao: bool = True

    @property
    def takes_inline(self) -> bool:
        """Return whether it takes a log-in with the request itself."""
        numbers = tuple(int(part) for part in self.version.split("-")[0].split(".")[:2] if part.isdigit())
        return self.is_openbao and numbers >= INLINE_SINCE


def told(health: Mapping[str, Any]) -> Server:
    """Return the server that gave this answer."""
    match health:
        case {"initialized": False}:
            state = State.UNINITIALIZED
        case {"sealed": True}:
            state = State.SEALED
        case {"standby": True}:
            state = State.STANDBY
        case _:
            state = State.ACTIVE
    version = str(health.get("version", ""))
    is_openbao = "enterprise" not in health  # a word of Vault's, which has a 2.x, too
    name = "OpenBao" if is_openbao else "Vault"
    return Server(state, version, f"{name} {version} is {state}", is_openbao=is_openbao)


def away(error: CannotAsk) -> Server:
    """Return the server of which nothing was heard but this error."""
    return Server(State.UNREACHABLE, "", str(error), error.repair)
