"""Where things are: the configuration, the state directory, the agent's socket (design 4.16)."""

from __future__ import annotations

import os
from pathlib import Path

from homelab_agent import config
from homelab_agent.core.settings import AgentSettings

SERVICE_SOCKET = Path("/run/homelab-agent/agent.sock")
"""Made by the .socket unit, kept over restarts."""


def settings(path: Path | None) -> config.Settings:
    """Load the configuration from `path` or where it is found; raises `ConfigurationFaulty`."""
    return config.load(path).settings


def state_directory(agent: AgentSettings) -> Path:
    """Return where the agent keeps its state: the key, systemd's, or the user's own place."""
    if agent.state is not None:
        return agent.state.expanduser().absolute()
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/homelab-agent")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "homelab-agent"


def socket(config_path: Path | None) -> Path:
    """Return the socket to ask the agent on: the service's if it is there, else the state directory's."""
    if SERVICE_SOCKET.exists():
        return SERVICE_SOCKET
    return state_directory(settings(config_path).agent) / "agent.sock"
