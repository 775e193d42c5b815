"""The engine of a name, as the configuration describes it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.point import Engine
from homelab_agent.backup.restic.engine import ResticEngine
from homelab_agent.backup.restic.program import Access
from homelab_agent.backup.settings import ARCHIVE, BackupSettings, Repository
from homelab_agent.core.clock import SystemClock

Tell: TypeAlias = Callable[[str], None]

_SECRETS_MAX = 64 * 1024


def no_one(_: str) -> None:
    """Tell nobody."""


def make(settings: BackupSettings, name: str, secrets: Mapping[str, Any], tell: Tell = no_one) -> Engine:
    """Return an engine; `secrets` has a repository's `password` and `variables`, `tell` is told what it waits for."""
    if name == ARCHIVE:
        return ArchiveEngine(settings.directory, level=settings.level)
    return repository(settings, next(one for one in settings.repository if one.name == name), secrets, tell)


def repository(
    settings: BackupSettings, one: Repository, secrets: Mapping[str, Any], tell: Tell = no_one
) -> ResticEngine:
    """Return the engine of a repository."""
    access = Access(one.name, one.url, str(secrets["password"]), secrets["variables"], limit_upload=one.limit_upload)
    return ResticEngine(access, settings.records, host=os.uname().nodename, clock=SystemClock(), tell=tell)


def secrets_in(descriptors: Sequence[int]) -> Mapping[str, Any]:
    """Return what came with a call by its first descriptor."""
    if not descriptors:
        return {}
    found: Mapping[str, Any] = json.loads(os.pread(descriptors[0], _SECRETS_MAX, 0))
    return found
