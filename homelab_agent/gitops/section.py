"""What both halves mean by a repository's name: its section of the configuration, as a digest that goes with each call.

Each half reads the file for itself: the agent when it starts, the root half whenever it has changed. After an edit the
same name may stand for another directory, another action's program or another probe, until the agent is started again.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from homelab_agent.gitops.settings import Repository

_FORM = re.compile(r"[0-9a-f]{64}")


def digest(repository: Repository) -> str:
    """Return 64 hexadecimal digits, which are others when any of its keys has another value."""
    told = json.dumps(repository.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Digest:
    """An argument of a verb (`core.privilege.Argument`): what `digest` returns."""

    def check(self, value: object) -> object:
        """Return the digits."""
        if isinstance(value, str) and _FORM.fullmatch(value):
            return value
        message = "64 hexadecimal digits"
        raise ValueError(message)
