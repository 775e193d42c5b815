"""The configuration: `config.load(path).settings`, and what else the agent asks of it.

`settings` lists the sections; `loading` reads them (file, environment, old names) and `faults` says what is
wrong; `writer` is the only one that changes the file; `sample`, `reference` and `show` tell a person what
there is; `difference` compares what is in force with what was read anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from homelab_agent.config import loading
from homelab_agent.config.difference import Changed, changes
from homelab_agent.config.faults import ConfigurationFaulty, Fault
from homelab_agent.config.loading import Loaded, find
from homelab_agent.config.settings import Settings

__all__ = ["Changed", "ConfigurationFaulty", "Fault", "Loaded", "Settings", "changes", "find", "load"]


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Loaded[Settings]:
    """Read and validate the configuration from `path`, or where it is found.

    Raises `ConfigurationFaulty` (exit 78) with every fault there is.
    """
    return loading.load(Settings, path, environ)
