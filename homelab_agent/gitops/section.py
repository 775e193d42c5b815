"""What both halves mean by a repository's name: its section of the configuration, as a digest that goes with each call.

Each half reads the file for itself: the agent when it starts, the root half whenever it has changed. After an edit the
same name may stand for another directory, another action's program or another probe, until the agent is started again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from homelab_agent.core.arguments import Digits
from homelab_agent.gitops.settings import Repository


def digest(repository: Repository) -> str:
    """Return 64 hexadecimal digits, which are others when any of its keys has another value."""
    told = json.dumps(repository.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Digest(Digits):
    """An argument of a verb: what `digest` returns."""

    lengths: tuple[int, ...] = (64,)
