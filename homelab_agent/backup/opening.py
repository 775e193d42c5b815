"""What opens a repository, wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homelab_agent.backup.settings import Repository
from homelab_agent.core.secret import Secret


async def secrets_of(repository: Repository, find: Callable[[str], Secret]) -> Mapping[str, Any]:
    """Return what opens a repository: its `password`, and the `variables` that its storage reads."""
    password = await find(repository.password).latest()
    variables = {one.name: await find(one.value).latest() for one in repository.variable}
    return {"password": password, "variables": variables}
