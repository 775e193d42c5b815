"""Where an agent is, for who is not that agent: the root half, and commands that work without either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What an agent of this configuration lives from.

    `directory` is its state directory, `configuration` its file where there is one; `command` runs `homelab-agent` with
    that very file, and from nowhere but where this program is; `secret_files` are those that the configuration refers
    to, `secrets_elsewhere` its other references to secrets; `has_embedded` says that its database is its own;
    `variables` names those by which keys are given beside the file.
    """

    directory: Path
    configuration: Path | None
    command: Sequence[str | Path]
    secret_files: Sequence[Path] = ()
    secrets_elsewhere: Sequence[str] = ()
    has_embedded: bool = True
    variables: Sequence[str] = ()
