"""What receives webhooks, put together on a foundation as the capability's service does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab_agent.core.capability import Capability
from homelab_agent.core.foundation import Foundation
from homelab_agent.gitops.identity import Identities
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.keyring import Keyring
from homelab_agent.gitops.receiver import Receiver
from homelab_agent.gitops.routes import Api
from homelab_agent.gitops.settings import GitopsSettings
from homelab_agent.gitops.verifier import Verifier
from tests import payloads


@dataclass(slots=True)
class Hooks:
    """The parts; `woken` are the repositories that something was to be done for, in order."""

    keyring: Keyring
    verifier: Verifier
    inbox: Inbox
    receiver: Receiver
    woken: list[str]

    def capability(self) -> Capability:
        """Return it as the web room is given it."""
        return Capability(name="gitops", routes=Api(self.receiver, self.inbox).routes())


def settings(*repositories: dict[str, Any], **more: Any) -> GitopsSettings:
    """Return the section; without repositories, with the one that `payloads` tells of."""
    return GitopsSettings(repository=[*(repositories or [repository()])], **more)


def repository(name: str = "homelab", *, secrets: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """Return a repository's section."""
    known = {"name": name, "full_name": payloads.FULL_NAME, "id": payloads.NUMBER, "directory": "/srv/homelab"}
    return {**known, "secret": list(secrets), **more}


def secret_in(directory: Path, value: str = payloads.SECRET, *, name: str = "main", **more: Any) -> dict[str, Any]:
    """Return a secret's section, with its value in a file."""
    file = directory / f"secret-{name}"
    file.write_text(value)
    file.chmod(0o600)
    return {"name": name, "secret": f"file:{file}", **more}


def assemble(base: Foundation, section: GitopsSettings, wake: Callable[[str], None] | None = None) -> Hooks:
    """Put the parts together."""
    woken: list[str] = []
    keyring = Keyring(section.repository, base.secret, base.clock)
    verifier = Verifier(keyring, base.clock, networks=section.networks, refusals_per_minute=section.failures_per_minute)
    inbox = Inbox(base.state, base.spool, base.clock, host=base.host, max_bytes=section.inbox_max_bytes)
    receiver = Receiver(
        section.repository,
        verifier,
        inbox,
        Identities(section.repository, base.state, base.clock),
        base.clock,
        wake=wake or woken.append,
        registry=base.registry,
    )
    return Hooks(keyring, verifier, inbox, receiver, woken)
