"""The secrets that this host keeps itself: variables, files, and systemd's credentials."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from homelab_agent.core import systemd
from homelab_agent.core.secret.errors import SecretExposed, SecretMissing, SecretOfAnother, SecretUnreadable
from homelab_agent.core.secret.origin import Origin, Reading

Source: TypeAlias = Callable[[str], str]
"""Reads what a reference names after its scheme; may block, raises AgentError."""

BYTES_MAX = 64 * 1024


class Local:
    """An `Origin` of which each value stands alone, and is good until it is read again."""

    __slots__ = ("_source",)

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, names: Sequence[str], since: float) -> Sequence[Reading]:  # noqa: ARG002 - it is always read anew
        """Return what each name holds now."""
        return [Reading(self._source(name)) for name in names]

    def group(self, name: str) -> str:
        """Return the name itself: it changes alone."""
        return name

    def good_until(self, group: str) -> float | None:  # noqa: ARG002 - an `Origin`
        """Return None: for ever."""
        return None


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SecretMissing(reference=f"env:{name}", repair=f"set {name} in the agent's environment")
    return value


def files_of(reader: int) -> Source:
    """Return the source of files that the user of that number is to read, for who is root and asks on its behalf.

    Whether the directories above let that user through is not asked.
    """
    return lambda name: _from_file(name, reader)


def _from_file(name: str, reader: int | None = None) -> str:
    reference, path = f"file:{name}", Path(name)
    status, data = _read(path, reference, repair=f"write the value into {path}, chmod 600 {path}")
    ourselves = os.geteuid()
    user = ourselves if reader is None else reader
    if status.st_uid not in ({0, user} if user == ourselves else {user}):  # what only root can read, nobody else can
        raise SecretOfAnother(reference=reference, owner=status.st_uid, user=user, path=path)
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise SecretExposed(reference=reference, path=path)
    return _value(data, reference, repair=f"write the value into {path}")


def _from_credentials(name: str) -> str:
    reference = f"credential:{name}"
    repair = f"LoadCredential={name}:PATH in the agent's unit (systemctl edit homelab-agent)"
    directory = systemd.credentials_directory()
    if directory is None or "/" in name or name in {".", ".."}:
        raise SecretMissing(reference=reference, repair=repair, cause="" if directory else "no credentials were given")
    _, data = _read(directory / name, reference, repair=repair)
    return _value(data, reference, repair=repair)


def _read(path: Path, reference: str, *, repair: str) -> tuple[os.stat_result, bytes]:
    """Return the status and the content of one and the same regular file, however its name is moved meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise SecretMissing(reference=reference, cause=error, repair=repair) from error
    except OSError as error:
        raise SecretUnreadable(
            reference=reference, cause=error, repair=f"chown {os.geteuid()} {path}; chmod 600 {path}"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretUnreadable(reference=reference, cause="it is not a regular file", repair=repair)
        return status, os.read(descriptor, BYTES_MAX + 1)
    except OSError as error:
        raise SecretUnreadable(reference=reference, cause=error, repair=f"cat {path} > /dev/null") from error
    finally:
        os.close(descriptor)


def _value(data: bytes, reference: str, *, repair: str) -> str:
    if len(data) > BYTES_MAX:
        raise SecretUnreadable(reference=reference, cause=f"it is longer than {BYTES_MAX} bytes", repair=repair)
    try:
        value = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnreadable(reference=reference, cause="it is not text in UTF-8", repair=repair) from None
    if not value:
        raise SecretMissing(reference=reference, cause="it is empty", repair=repair)
    return value


ORIGINS: Mapping[str, Origin] = MappingProxyType(
    {"env": Local(_from_environment), "file": Local(_from_file), "credential": Local(_from_credentials)}
)
"""The schemes that need nothing but the host."""
