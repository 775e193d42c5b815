"""The one way to change the configuration file: comments kept, validated first, replaced at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from homelab_agent.config import edit, faults, keys, loading
from homelab_agent.config.faults import ConfigurationFaulty
from homelab_agent.config.keys import KeyPath, Model
from homelab_agent.config.settings import Settings
from homelab_agent.core.errors import AgentError

NEW_FILE_MODE = 0o640
"""A configuration may come to hold a password."""

GIVEN = "given"
"""Where a fault stands whose value is not in the file yet."""


class ConfigurationNotWritable(AgentError):
    """{path} may not be written by this user. It should hold:{text}"""  # noqa: D400, D415 - ends with the text

    repair = "{command}"


class ConfigurationNotWritten(AgentError):
    """{path} could not be written; it is as it was."""


class ConfigurationNotEditable(AgentError):
    """{path} is written in a way that cannot be changed safely. This belongs in it:{text}"""  # noqa: D400, D415

    repair = "edit {path}, then: homelab-agent config check"


def target(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file to change: the one in force, else the one to begin with."""
    begin_with = loading.PLACES[0 if os.geteuid() == 0 else -1]
    return loading.find(given, environ) or begin_with


def set_values(
    path: Path,
    values: Mapping[str, Any],
    *,
    again: Sequence[str],
    model: Model = Settings,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Set keys, named with dots, to plain values (text, numbers, lists); the file is made if it is missing.

    `again` is the command, without the program's name, that root would run for the same effect. Raises
    `ConfigurationFaulty` when a key does not exist or the outcome is not valid, `ConfigurationNotWritable`,
    `ConfigurationNotWritten` and `ConfigurationNotEditable`; in each case the file is as it was.
    """
    wanted = {tuple(name.split(".")): value for name, value in values.items()}
    unknown = [
        faults.unknown(key, value, model, GIVEN) for key, value in wanted.items() if keys.find(model, key) is None
    ]
    if unknown:
        raise ConfigurationFaulty(unknown)

    def change(text: str) -> str | None:
        for key, value in wanted.items():
            changed = edit.assign(text, key, value)
            if changed is None:
                return None
            text = changed
        return text

    _change(path, change, dict.fromkeys(wanted, GIVEN), again, model, environ)


def add_entry(
    path: Path,
    name: str,
    entry: Mapping[str, Any],
    *,
    again: Sequence[str],
    model: Model = Settings,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Add one entry of an array of tables (`gitops.repository`); raises as `set_values` does."""
    key = tuple(name.split("."))
    _change(path, lambda text: edit.append(text, key, entry), {}, again, model, environ)


def _change(
    path: Path,
    change: Callable[[str], str | None],
    given: Mapping[KeyPath, str],
    again: Sequence[str],
    model: Model,
    environ: Mapping[str, str],
) -> None:
    try:
        with _alone(path.resolve().parent):
            before = loading.read(path) if path.exists() else ""
            if found := loading.parse(faults.Source(path, before))[1]:  # no TOML to begin with
                raise ConfigurationFaulty(found)
            after = change(before)
            if after is None:
                raise ConfigurationNotEditable(path=path, text=f"\n\n{change('')}")
            loading.interpret(model, after, path, environ, given)
            if after != before:
                _replace(path.resolve(), after.encode())
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            command = _as_root(path, again)
            raise ConfigurationNotWritable(path=path, text=f"\n\n{change('')}", command=command, cause="") from error
        raise ConfigurationNotWritten(path=path, cause=error) from error


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other writers waiting; the lock is the directory's, for the file is replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, content: bytes) -> None:
    """Put `content` in the place of the file: on disk, with its mode and owner, or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            if path.exists():
                status = path.stat()
                os.fchown(handle, status.st_uid, status.st_gid)
                os.fchmod(handle, status.st_mode & 0o7777)
            else:
                os.fchmod(handle, NEW_FILE_MODE)
            file.write(content)
            file.flush()
            os.fsync(handle)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _as_root(path: Path, again: Sequence[str]) -> str:
    """Return the command for sudo, which keeps neither PATH nor $HOMELAB_AGENT_CONFIG."""
    program = Path(sys.argv[0])
    started = [str(program.absolute())] if program.name == "homelab-agent" else [sys.executable, "-m", "homelab_agent"]
    return shlex.join(["sudo", *started, "--config", str(path.absolute()), *again])
