"""What `secrets` contributes: the references to OpenBao, what becomes of each new value, and their checks."""

from __future__ import annotations

from pathlib import Path

from homelab_agent.core.capability import Capability
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets.settings import SecretsSettings


def build(openbao: None, base: Foundation) -> Capability:  # noqa: ARG001 - a moment
    """Return what the room contributes."""
    return Capability(name="secrets")


def add_openbao(settings: SecretsSettings, secrets: Secrets, directory: Path) -> None:
    """Have `secrets` understand references to OpenBao, where it is configured."""
