"""What can be said of the targets from outside, while no agent runs: nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.notify import sender
from homelab_agent.notify.settings import NotifySettings

_SECONDS = 15.0
_OPENBAO = "openbao:"


def checks(settings: NotifySettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return a check of each target."""
    if not settings.target and settings.heartbeat is None:
        return [Check("notify.targets", _nothing)]
    return beside(settings, directory, secrets)


def beside(settings: NotifySettings, directory: Path, secrets: Secrets) -> Sequence[Check]:  # noqa: ARG001
    """Return those that a running agent does not ask itself: whether each address can be read and is understood.

    Where some are in OpenBao, also whether anybody is told while it is sealed.
    """
    sealed = [one.name for one in settings.target if one.url.startswith(_OPENBAO)]
    others = [one.name for one in settings.target if one.name not in sealed]
    found = [Check("notify.sealed", partial(_told_while_sealed, others))] if sealed else []
    return found + [
        Check(f"notify.address.{one.name}", partial(_readable, one.url, one.name, secrets), deadline=_SECONDS)
        for one in settings.target
    ]


async def _nothing() -> Finding:
    return Finding.degraded("there is nobody to tell", "add a [[notify.target]]")


async def _told_while_sealed(others: Sequence[str]) -> Finding:
    if others:
        return Finding.ok(f"who is told while OpenBao is sealed: {', '.join(others)}")
    return Finding.degraded(
        "every target's address is in OpenBao: nobody is told after a start while OpenBao is sealed, as it is after "
        "each boot of its host",
        "give a [[notify.target]] its `url` by file:, credential: or env:",
    )


async def _readable(reference: str, name: str, secrets: Secrets) -> Finding:
    try:
        url = await secrets.find(reference).latest()
        wrong = await asyncio.to_thread(sender.understood, url)
    except AgentError as error:
        return Finding.of(error)
    if wrong:
        return Finding.failed(f"{reference}: {wrong}", "see https://github.com/caronc/apprise/wiki for its form")
    return Finding.ok(f"its address is understood; `homelab-agent notify test {name}` sends a test")
