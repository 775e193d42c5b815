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
from homelab_agent.core.privilege import VerbRefused

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


def secrets_in(settings: BackupSettings, name: str, descriptors: Sequence[int]) -> Mapping[str, Any]:
    """Return what came with a call by its first descriptor, for the engine of that name; blocking.

    restic is run as root with the variables: a PATH or LD_PRELOAD would be as good as root. So there are none but those
    that the configuration names. Raises `VerbRefused` for any other, and for what `opening.secrets_of` does not return.
    """
    if name == ARCHIVE:
        return {}
    repository = next(one for one in settings.repository if one.name == name)
    try:
        found = json.loads(os.pread(descriptors[0], _SECRETS_MAX, 0)) if descriptors else None
    except (OSError, ValueError, RecursionError):
        found = None
    match found:
        case {"password": str(password), "variables": {**variables}} if _are_of(repository, variables):
            return {"password": password, "variables": variables}
    raise VerbRefused(reason=f"{name} takes its password, and no variables but those that the configuration names")


def _are_of(repository: Repository, variables: Mapping[Any, object]) -> bool:
    """Return whether these are a repository's variables, or some of them, with what can be the value of one."""
    known = {one.name for one in repository.variable}
    return variables.keys() <= known and all(isinstance(one, str) and "\0" not in one for one in variables.values())
