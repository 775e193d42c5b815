"""Reads the configuration: the file where it is found, the environment over it, every fault at once."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from homelab_agent.config import environment, faults, profile, tidying
from homelab_agent.config.faults import ConfigurationFaulty, Fault, Source
from homelab_agent.config.keys import KeyPath

PLACES = (Path("/etc/homelab-agent/config.toml"), Path("config.toml"))
"""Where the file is looked for when neither `--config` nor `$HOMELAB_AGENT_CONFIG` names one."""
VARIABLE = "HOMELAB_AGENT_CONFIG"
LARGEST_BYTES = 1024 * 1024

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """Valid settings, the file they came from (None: defaults only), and what the operator should be told."""

    settings: M
    source: Source
    warnings: tuple[str, ...] = ()

    @property
    def path(self) -> Path | None:
        """Return the file that was read, if any."""
        return self.source.path


def find(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file: `given` (`--config`), else $HOMELAB_AGENT_CONFIG, else the first there is of `PLACES`.

    One that was named is returned whether it is there or not; None when nothing was named and none is there.
    """
    if given is not None:
        return given
    if named := environ.get(VARIABLE):
        return Path(named)
    return next((place for place in PLACES if _is_there(place)), None)


def load(model: type[M], given: Path | None = None, environ: Mapping[str, str] = os.environ) -> Loaded[M]:
    """Read and validate the configuration; raises `ConfigurationFaulty` with every fault there is."""
    path = find(given, environ)
    if path is None:
        looked = ", ".join(str(place) for place in PLACES)
        loaded = interpret(model, "", None, environ)
        said = f"no configuration file ({looked}): every key has its default or comes from the environment"
        return Loaded(loaded.settings, loaded.source, (said, *loaded.warnings))
    return interpret(model, read(path), path, environ)


def read(path: Path) -> str:
    """Return the file's text; raises `ConfigurationFaulty` with the repair when it cannot be read."""
    try:
        content = _content(path)
    except OSError as error:
        raise ConfigurationFaulty([_unreadable(path, error)]) from error
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"not UTF-8: byte 0x{content[error.start]:02x}"
        repair = f"iconv -f latin1 -t utf-8 {path}, or save it as UTF-8 in your editor"
        raise ConfigurationFaulty([Fault("", f"{path}:{line}", problem, repair=repair)]) from error


def interpret(
    model: type[M],
    text: str,
    path: Path | None,
    environ: Mapping[str, str],
    given: Mapping[KeyPath, str] | None = None,
) -> Loaded[M]:
    """Validate a file's text with the environment over it; raises `ConfigurationFaulty`.

    `given` names who gave keys that are in the text but not in the file yet.
    """
    source = Source(path, text, dict(given or {}))
    data, found = parse(source)
    broken = bool(found)
    overrides, unknown = environment.overrides(environ, model)
    found += unknown
    for one in overrides:
        tidying.put(data, one.path, one.value)
        source.given[one.path] = f"${one.variable}"
    found += tidying.remove_outlandish(data, source)
    warnings, doubled = tidying.adopt_old_names(data, model, source)
    found += doubled
    tidying.drop_empty(data, model)
    profile.apply(data, source)
    try:
        settings = _validate(model, data)
    except ValidationError as error:
        invalid = error.errors(include_url=False)
        if broken:  # of a file that could not be read, nothing else can be said
            invalid = [one for one in invalid if source.is_given(one["loc"])]
        found += faults.from_validation(invalid, data, model, source)
    if found:
        raise ConfigurationFaulty(sorted(found, key=faults.place))
    return Loaded(settings, source, tuple(warnings))


def parse(source: Source) -> tuple[dict[str, Any], list[Fault]]:
    """Return what the text says as TOML, or the fault that it is none."""
    try:
        return tomllib.loads(source.text), []
    except RecursionError:
        return {}, [Fault("", str(source.path), "not TOML that anyone means: nested too deep")]
    except ValueError as error:
        return {}, [faults.from_toml(error, source)]


def _validate(model: type[M], data: Mapping[str, Any]) -> M:
    """Validate as JSON, which knows the types that TOML knows, and strictly: "10" is not a number."""
    return model.model_validate_json(json.dumps(data, default=str), strict=True)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return True  # it will be read, and the fault says who may not
    except OSError:
        return False
    return True


def _content(path: Path) -> bytes:
    if not stat.S_ISREG(mode := path.stat().st_mode):
        raise IsADirectoryError if stat.S_ISDIR(mode) else OSError("is not a regular file")
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise OSError(f"is larger than {LARGEST_BYTES} bytes")
    return content


def _unreadable(path: Path, error: OSError) -> Fault:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return Fault("", str(path), "no such file", repair=f"homelab-agent config sample > {path}")
        case IsADirectoryError():
            return Fault("", str(path), "is a directory", repair=f"--config {path / 'config.toml'}")
        case PermissionError():
            repair = f"run the command with sudo, or: sudo chgrp $(id -gn) {path}; sudo chmod g+r {path}"
            return Fault("", str(path), f"user id {os.geteuid()} may not read it", repair=repair)
    return Fault("", str(path), error.strerror or str(error), repair="--config FILE names another")
