"""What a person needs on paper to restore without this machine and without this program: only tar, zstd and restic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from homelab_agent.backup.settings import AGENT_SET, ARCHIVE, BackupSettings
from homelab_agent.core import statefile

_BLANK = "_" * 40
_KEPT = "kit.json"


def keep(records: Path, repository: str, at: datetime) -> None:
    """Note that a person has said that they keep a repository's kit elsewhere; blocking, raises OSError."""
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    statefile.write_durably(records / _KEPT, json.dumps({**kept(records), repository: at.isoformat()}))


def kept(records: Path) -> Mapping[str, str]:
    """Return since when somebody keeps the kit of which repositories; blocking."""
    try:
        found = json.loads((records / _KEPT).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(at) for name, at in found.items()} if isinstance(found, dict) else {}


def text(settings: BackupSettings, host: str, secrets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return it; a repository whose secrets are not given has a line to write its password on."""
    return "\n".join(_lines(settings, host, secrets)) + "\n"


def _lines(settings: BackupSettings, host: str, secrets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"BACKUPS OF {host}: how to restore without it. Keep this on paper, in another place."
    for one in settings.covered:
        yield f"  {one.name}: to {', '.join(one.engines)}"
    if any(ARCHIVE in one.engines for one in settings.set):
        yield ""
        yield f"ARCHIVES are files of {settings.directory}/SET. As root, with GNU tar and zstd:"
        yield "  zstd -dc ARCHIVE.tar.zst | tar -xO restore.sh > restore.sh"
        yield "  sh restore.sh ARCHIVE.tar.zst              # says what is in it"
        yield "  sh restore.sh ARCHIVE.tar.zst DIRECTORY    # unpacks it there"
    for repository in settings.repository:
        known = secrets.get(repository.name, {})
        yield ""
        yield f"REPOSITORY {repository.name}, with restic:"
        yield f"  export RESTIC_REPOSITORY='{repository.url}'"
        yield f"  export RESTIC_PASSWORD='{known.get('password', _BLANK)}'"
        for variable in repository.variable:
            yield f"  export {variable.name}='{known.get('variables', {}).get(variable.name, _BLANK)}'"
        yield "  restic snapshots                           # about.json says what belongs together"
        yield "  restic restore SNAPSHOT --target DIRECTORY"
    yield ""
    yield "A set's about.json names images, mounts and compose files. Put the files where the volumes are, then start."
    if settings.covered:
        yield f"Of the set {AGENT_SET}, state.sqlite is the agent's state.db, and homelab.pgdump for pg_restore."
