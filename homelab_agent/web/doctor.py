"""What `homelab-agent doctor` asks about the web server when no agent runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.web import sockets
from homelab_agent.web.settings import WebSettings, split_address


def checks(settings: WebSettings, _directory: Path, _secrets: Secrets) -> Sequence[Check]:
    """Return the check whether the address can be listened on."""

    async def probe() -> Finding:
        return await asyncio.to_thread(_try_to_listen, settings.listen)

    return [Check("web.listen", probe)]


def _try_to_listen(address: str) -> Finding:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return Finding.of(sockets.cannot_listen(host, port, error))
    return Finding.ok(f"{address} is free")
