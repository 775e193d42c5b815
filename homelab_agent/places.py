"""Where things are: the configuration, the state directory, the agent's socket (design 4.16)."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from homelab_agent import config
from homelab_agent.config import environment, references, secrecy
from homelab_agent.core import privilege, secret, systemd
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.settings import AgentSettings
from homelab_agent.core.whereabouts import Whereabouts
from homelab_agent.database.settings import EMBEDDED
from homelab_agent.secrets import openbao

SERVICE_SOCKET = Path("/run/homelab-agent/agent.sock")
"""Made by the .socket unit, kept over restarts."""
_PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from homelab_agent.cli import main; main()"
"""Run as root, too, so from nowhere but where this file is: `-m` would look into the working directory first."""
_FILE = "file:"


def settings(path: Path | None) -> config.Settings:
    """Load the configuration from `path` or where it is found; raises `ConfigurationFaulty`."""
    return config.load(path).settings


def state_directory(agent: AgentSettings) -> Path:
    """Return where the agent keeps its state: the key, systemd's, or the user's own place."""
    if agent.state is not None:
        return agent.state.expanduser().absolute()
    if given := systemd.state_directory():
        return given
    if os.geteuid() == 0:
        return Path("/var/lib/homelab-agent")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "homelab-agent"


def secrets(settings: config.Settings) -> Secrets:
    """Return what reads the secrets as the agent does, for who is not the agent: files as those of its user."""
    directory = state_directory(settings.agent)
    files = secret.Local(secret.files_of(privilege.owner(directory)))
    found = Secrets(Redactor(), origins={**secret.ORIGINS, "file": files}, uses=references.uses(settings))
    openbao.add(settings.secrets, found, directory, SystemClock())
    return found


def whereabouts(config_path: Path | None, settings: config.Settings) -> Whereabouts:
    """Return what the agent of this configuration lives from; `config_path` is what `--config` was."""
    found = config.find(config_path)
    path = None if found is None else found.absolute()
    known = [one for one in references.uses(settings) if secrecy.is_reference(one)]
    return Whereabouts(
        state_directory(settings.agent),
        path,
        command(path),
        [Path(one.removeprefix(_FILE)) for one in known if one.startswith(_FILE)],
        [one for one in known if not one.startswith(_FILE)],
        has_embedded=settings.database.url == EMBEDDED,
        variables=[name for name in os.environ if name.startswith(environment.PREFIX)],
    )


def command(config_path: Path | None) -> Sequence[str | Path]:
    """Return what starts this very program, with this very configuration."""
    given = ("--config", config_path.absolute()) if config_path else ()
    return [sys.executable, "-P", "-c", _PROGRAM, Path(__file__).parents[1], *given]


def host(agent: AgentSettings) -> str:
    """Return this host's name in every row and log line."""
    return agent.host or os.uname().nodename


def socket(config_path: Path | None) -> Path:
    """Return the socket to ask the agent on: the service's if it is there, else the state directory's.

    A running agent is found also when the configuration has become faulty.
    """
    if SERVICE_SOCKET.exists():
        return SERVICE_SOCKET
    try:
        agent = settings(config_path).agent
    except config.ConfigurationFaulty:
        agent = _as_far_as_legible(config_path)
    return state_directory(agent) / "agent.sock"


def _as_far_as_legible(config_path: Path | None) -> AgentSettings:
    path = config.find(config_path)
    with suppress(OSError, ValueError):
        if path is not None:
            state = tomllib.loads(path.read_text()).get("agent", {}).get("state")
            return AgentSettings(state=Path(str(state)) if state else None)
    return AgentSettings()
