"""How a section of `config.toml` is described: one field is its default, its bounds, its unit and its documentation.

The same description validates the file, writes the commented sample and the reference, and says which keys apply
without a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
"""What a thing may be called that commands, checks and files are called after."""


class Section(BaseModel):
    """One section of the configuration; unknown keys are faults, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False)


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    reload: bool = False,
    renamed_from: str = "",
    example: Any = None,
    secret: bool = False,
    **bounds: Any,
) -> Any:
    """Describe one key.

    `unit` is shown beside the value ("s", "bytes"); `reload` says that a running agent takes a new value without a
    restart; `renamed_from` is the key's old name, which works for two releases; `example` is what the sample shows,
    commented out, where the default is empty; `secret` says that it holds a secret or a reference to one; `bounds` are
    pydantic's (`ge`, `le`, `min_length`, `pattern`).
    """
    extra = {"unit": unit, "reload": reload, "renamed_from": renamed_from, "example": example, "secret": secret}
    if isinstance(default, list | dict):
        return Field(default_factory=default.copy, description=doc, json_schema_extra=extra, **bounds)
    return Field(default=default, description=doc, json_schema_extra=extra, **bounds)


def check_unique(names: Sequence[str], what: str) -> None:
    """Raise ValueError where two of the `names` are the same; `what` they are is in the plural."""
    for name in names:
        if names.count(name) > 1:
            message = f"two {what} are called {name}"
            raise ValueError(message)


def check_absolute(path: Path) -> Path:
    """Return the path; raise ValueError for one that is not absolute."""
    if not path.is_absolute():
        message = f"{path} is not an absolute path"
        raise ValueError(message)
    return path


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AgentSettings(Section):
    """The agent as a whole."""

    host: str = setting(
        "", "Name of this host in every row and log line; empty: the system's host name.", max_length=63
    )
    state: Path | None = setting(
        None,
        "Directory of the agent's state; empty: $STATE_DIRECTORY, else /var/lib/homelab-agent for root, "
        "$XDG_STATE_HOME/homelab-agent for a user.",
        example="/var/lib/homelab-agent",
    )
    profile: str = setting(
        "none",
        "sdcard: this host's disk wears out by being written to, so fewer samples are taken, and what is written is "
        "gathered; a power cut takes the samples of up to five minutes with it. Nothing that was promised is lost. "
        "It sets other defaults, so a key that is set itself stays as it is; `homelab-agent config show` tells which "
        "those are, docs/guide.md what it saves.",
        reload=True,
        pattern="^(none|sdcard)$",
    )
    shutdown_deadline: float = setting(
        20.0, "How long an orderly stop may take before what is left is cut.", unit="s", ge=1, le=600
    )
    spool_max_bytes: int = setting(
        128 * 1024 * 1024,
        "Bound of the rows waiting for PostgreSQL; full, the oldest samples are thinned first.",
        unit="bytes",
        ge=1024 * 1024,
    )
    spool_max_age: float = setting(
        7 * 86400.0, "How long a sample waits for PostgreSQL before it is thinned away.", unit="s", ge=60
    )


class LogSettings(Section):
    """What is written to the journal."""

    level: Level = setting(Level.INFO, "Least severe level that is written.", reload=True)
    format: str = setting(
        "auto",
        "auto: native journal fields under systemd, readable lines on a terminal, JSON lines elsewhere; "
        "or one of journal, terminal, json.",
        pattern="^(auto|journal|terminal|json)$",
    )
