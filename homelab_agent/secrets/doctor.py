"""What can be said of the secrets from outside: each is read, and what is in the configuration itself is named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.secret import SecretMissing, Secrets, SecretUnreadable
from homelab_agent.secrets import bao, openbao
from homelab_agent.secrets.settings import SecretsSettings

_SECONDS = 20.0
"""How long one secret may take: OpenBao is asked again before it is given up."""


def checks(settings: SecretsSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return the checks that need no agent; `directory` is its state directory, `secrets` reads as the agent does."""
    server = openbao.add(settings, secrets, directory, SystemClock())
    of_server = [Check("secrets.openbao", server.probe, deadline=_SECONDS)] if server is not None else []
    return [*of_server, *beside(settings, directory, secrets)]


def beside(settings: SecretsSettings, _directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return a check for each secret that the configuration names, and of OpenBao's program where it is used."""
    if not secrets.uses:
        return [Check("secrets.references", _none)]
    program = [Check("secrets.bao", _program, deadline=_SECONDS)] if settings.url else []
    return program + [
        Check(f"secrets.{keys[0]}", partial(_read, secrets, reference, keys), deadline=_SECONDS)
        for reference, keys in secrets.uses.items()
    ]


async def _none() -> Finding:
    return Finding.ok("the configuration names no secret")


async def _program() -> Finding:
    """Say whether this host has a program `bao` that `secrets bootstrap` and the snapshots' restore can use."""
    try:
        found = await bao.find()
    except bao.BaoMissing as error:
        return Finding(State.NOT_AVAILABLE, f"{error} OpenBao is elsewhere, or in a container.", error.repair)
    except AgentError as error:
        return Finding.degraded(str(error), error.repair)
    return Finding.ok(f"OpenBao {found.version}: {found.path}")


async def _read(secrets: Secrets, reference: str, keys: Sequence[str]) -> Finding:
    """Say whether a secret can be read; what it is stays untold."""
    try:
        secret = secrets.find(reference)
        await secret.refresh()
    except (SecretMissing, SecretUnreadable) as error:
        needed = str(error.fields.get("reference", reference))  # it may be what OpenBao is logged in to with
        if needed.startswith(("env:", "credential:")):
            said = f"{needed} is for the agent's process alone: whether {reference} can be read only that can tell"
            return Finding(State.NOT_AVAILABLE, said, "start the agent, then: homelab-agent secrets list")
        if isinstance(error.__cause__, PermissionError):
            said = f"{needed} is for the agent's user and root alone"
            return Finding(State.NOT_AVAILABLE, said, "sudo homelab-agent doctor secrets")
        return Finding.of(error)
    except AgentError as error:
        return Finding.of(error)
    if secret.is_literal:
        said = f"{', '.join(keys)}: the secret stands in the configuration itself"
        return Finding.degraded(said, "write it into a file, chmod 600, and set the key to file:PATH")
    return Finding.ok(f"{reference} is there" + (f", for {', '.join(keys)}" if len(keys) > 1 else ""))
