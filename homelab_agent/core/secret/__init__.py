"""Secrets are references, resolved late, held in memory, and never shown.

`env:NAME` is a variable, `file:PATH` a file that only its owner can read, `credential:NAME` one of systemd's
credentials, `openbao:PATH#KEY` what the room `secrets` reads. `Secrets.find` makes a `Secret` of each.
"""

from __future__ import annotations

from homelab_agent.core.secret.errors import (
    AdoptionIncomplete,
    ReferenceFaulty,
    SecretExposed,
    SecretMissing,
    SecretOfAnother,
    SecretRefused,
    SecretStale,
    SecretUnreadable,
)
from homelab_agent.core.secret.group import Change, Outcome, in_a_thread
from homelab_agent.core.secret.origin import Origin, Reading
from homelab_agent.core.secret.registry import OVERLAP_SECONDS, Secrets, Standing
from homelab_agent.core.secret.secret import Secret, Step
from homelab_agent.core.secret.sources import ORIGINS, Local, files_of

__all__ = [
    "ORIGINS",
    "OVERLAP_SECONDS",
    "AdoptionIncomplete",
    "Change",
    "Local",
    "Origin",
    "Outcome",
    "Reading",
    "ReferenceFaulty",
    "Secret",
    "SecretExposed",
    "SecretMissing",
    "SecretOfAnother",
    "SecretRefused",
    "SecretStale",
    "SecretUnreadable",
    "Secrets",
    "Standing",
    "Step",
    "files_of",
    "in_a_thread",
]
