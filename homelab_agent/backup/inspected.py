"""What a Docker engine says of itself, its volumes and containers, made into the values of `inventory.py`; pure.

Keys are those of the Engine API's /info, /volumes and /containers/ID/json, the same from 1.41 on; labels are Compose's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homelab_agent.backup.inventory import Container, Identity, Mount, Volume
from homelab_agent.core import compose

_DEPENDS_ON = "com.docker.compose.depends_on"
_HASH = "com.docker.compose.config-hash"
_FILES = ("com.docker.compose.project.config_files", "com.docker.compose.project.environment_file")
_VARIABLE = re.compile(r"(POSTGRES(QL)?|MARIADB|MYSQL|MONGO(DB)?|PG)_?[A-Z0-9_]*$")
_HARMLESS = re.compile(
    r"(PGDATA|PGUSER|PGPORT|PGDATABASE|[A-Z]+_(USER|USERNAME|DB|DATABASE|INITDB_ROOT_USERNAME|PORT))$|[A-Z_]+_FILE$"
)
_STARTERS = frozenset({"tini", "dumb-init", "docker-init", "gosu", "su-exec", "s6-setuidgid"})
_STOP_SECONDS = 10.0
"""What Docker waits where the container does not say."""


def refused(info: Mapping[str, Any]) -> str:
    """Return why volumes of the engine that says this of itself cannot be read from here; "" where they can."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    root = str(info.get("DockerRootDir", ""))
    if any(option.startswith("name=rootless") for option in options):
        return "Docker runs rootless: owners in its volumes are not those of this host"
    if any(option.startswith("name=userns") for option in options):
        return "Docker maps users (userns-remap): owners in its volumes are not those of its containers"
    if "/snap/" in f"{root}/":
        return f"Docker is a snap (its data is at {root}): its files are confined, and move with each new revision"
    if str(info.get("OSType", "linux")) != "linux" or "Docker Desktop" in str(info.get("OperatingSystem", "")):
        return "Docker runs in a virtual machine: its volumes are not on this host"
    return ""


def volume(said: Mapping[str, Any]) -> Volume:
    """Return a volume; one that only binds a directory of the host is at that directory."""
    options = dict(said.get("Options") or {})
    path = Path(said.get("Mountpoint") or "/")
    if said.get("Driver") == "local" and is_bind(options):
        path = Path(options["device"])
    return Volume(said["Name"], path, said.get("Driver") or "", options, dict(said.get("Labels") or {}))


def is_bind(options: Mapping[str, str]) -> bool:
    """Return whether these options of the driver `local` bind a directory of the host."""
    words = options.get("o", "").split(",")
    return options.get("device", "").startswith("/") and ("bind" in words or "rbind" in words)


def identity(said: Mapping[str, Any]) -> Identity:
    """Return by what a container is found again; `said` is an answer to inspect."""
    labels = said["Config"].get("Labels") or {}
    name = said["Name"].removeprefix("/")
    return Identity(
        labels.get(compose.PROJECT, ""), labels.get(compose.SERVICE, ""), labels.get(compose.NUMBER, ""), name
    )


def container(said: Mapping[str, Any], volumes: Mapping[str, Volume]) -> Container:
    """Return a container; `volumes` say where each of its volumes is."""
    config, state, network = said["Config"], said["State"], said.get("NetworkSettings") or {}
    labels = dict(config.get("Labels") or {})
    stop = config.get("StopTimeout")
    return Container(
        said["Id"],
        identity(said),
        image=config.get("Image", ""),
        image_id=said.get("Image", ""),
        state=state["Status"],
        health=_health(state),
        exit_code=state.get("ExitCode", 0),
        started_at=state.get("StartedAt", ""),
        mounts=tuple(_mounts(said.get("Mounts") or (), volumes)),
        labels=labels,
        depends_on=depends_on(labels.get(_DEPENDS_ON, "")),
        ports=frozenset({*(config.get("ExposedPorts") or ()), *(network.get("Ports") or ())}),
        variables=_variables(config.get("Env") or ()),
        compose_files=compose_files(labels),
        compose_hash=labels.get(_HASH, ""),
        stop_seconds=_STOP_SECONDS if stop is None else float(stop),
        auto_remove=bool((said.get("HostConfig") or {}).get("AutoRemove")),
        networks=tuple(sorted(network.get("Networks") or ())),
        programs=_programs(said),
    )


def likeness(config: Mapping[str, Any], name: str) -> Container:
    """Return what is known of a container of which only its image is there; `config` is the image's."""
    variables, ports = _variables(config.get("Env") or ()), frozenset(config.get("ExposedPorts") or ())
    return Container("", Identity("", "", "", name), "", "", "created", ports=ports, variables=variables)


def depends_on(label: str) -> Mapping[str, str]:
    """Return the services of Compose's label `db:service_healthy:false,cache:service_started:true`, with conditions."""
    found = {}
    for one in filter(None, label.split(",")):
        service, _, rest = one.partition(":")
        found[service] = rest.partition(":")[0] or "service_started"
    return found


def compose_files(labels: Mapping[str, str]) -> Sequence[Path]:
    """Return a project's files, as Compose knew them: the configuration, then the environment."""
    named = [path for label in _FILES for path in labels.get(label, "").split(",")]
    return tuple(dict.fromkeys(Path(path) for path in named if path.startswith("/")))


def _mounts(said: Sequence[Mapping[str, Any]], volumes: Mapping[str, Volume]) -> list[Mount]:
    found = []
    for one in said:
        name, source, writable = one.get("Name") or "", Path(one.get("Source") or "/"), bool(one.get("RW"))
        match one.get("Type"):
            case "volume":
                path = volumes[name].path if name in volumes else source
                found.append(Mount("volume", name, path, one["Destination"], writable))
            case "bind":
                found.append(Mount("bind", "", source, one["Destination"], writable))
            case _:
                pass  # a tmpfs is memory, and a pipe of Windows is not here
    return found


def _health(state: Mapping[str, Any]) -> str:
    said = str((state.get("Health") or {}).get("Status", ""))
    return "" if said == "none" else said


def _variables(env: Sequence[str]) -> Mapping[str, str]:
    """Return what tells a database and how it is reached; what may be a password stays behind, its name does not."""
    found = {}
    for one in env:
        name, _, value = one.partition("=")
        if _VARIABLE.match(name):
            found[name] = value if is_harmless(name) else ""
    return found


def is_harmless(name: str) -> bool:
    """Return whether a variable of this name holds no secret."""
    return bool(_HARMLESS.match(name))


def _programs(said: Mapping[str, Any]) -> Sequence[str]:
    """Return the main program's name, and the next word's where the first is known to start another."""
    first = Path(said.get("Path") or "").name
    arguments = said.get("Args") or ()
    starts = first.endswith("entrypoint.sh") or first in _STARTERS
    words = [first, *(arguments[:1] if starts else ())]
    return tuple(name for word in words if (name := Path(word).name) and not word.startswith("-"))
