"""The root half as its systemd unit provides it: systemd listens, and starts it with the first call."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from homelab_agent.core.privilege import PrivilegedUnavailable
from homelab_agent.privileged import frames


class Unit:
    """A way to the root half, where there is such a unit and it is there for us."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def is_there(self) -> bool:
        """Return whether we may connect; does not, for that would start the half."""
        return await asyncio.to_thread(os.access, self.path, os.R_OK | os.W_OK)

    async def connect(self) -> socket.socket | None:
        """Return a new connection, None where there is no such unit for us; raises `PrivilegedUnavailable`."""
        try:
            return await frames.connected(self.path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as error:
            repair = "systemctl restart homelab-agent-privileged.socket"
            raise PrivilegedUnavailable(cause=error, repair=repair) from error

    def lost(self) -> PrivilegedUnavailable:
        """Return why a connection ended before anything was begun."""
        repair = "journalctl -e -u homelab-agent-privileged"
        return PrivilegedUnavailable(cause="its service ended before it began", repair=repair)
