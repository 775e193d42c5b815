"""A container for a trial: an image that is here, places of the host in it, no network and bounds; pure.

It is started as a living one is: with what that has beside its image (variables, command, user), never with what would
let it reach the host (privileges, devices, namespaces, capabilities). An image's labels are blanked, or whoever goes by
labels (Compose, a proxy) would take the trial for the living one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from homelab_agent.backup import inspected
from homelab_agent.backup.inventory import Mount
from homelab_agent.core.journal.redaction import Redactor

SCRATCH: Mapping[str, str] = MappingProxyType({"homelab-agent.scratch": "true"})
"""The label of a container that is ours, and may be removed whatever it does."""
CPUS = 1.0
PIDS = 1024
_LOOK_NANOSECONDS = 2_000_000_000
_STARTING_NANOSECONDS = 3600 * 1_000_000_000
_NO_CHECK = ["NONE"]
_OF_HOST = ("Tmpfs", "ShmSize", "Ulimits", "GroupAdd", "Init")
"""What of HostConfig a program may need, and that reaches nothing outside the container."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here: its id, and what it says of the containers made of it (`Config` of its inspection)."""

    id: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> Sequence[str]:
        """The names of its labels."""
        return tuple(self.config.get("Labels") or ())

    @property
    def user(self) -> int:
        """The number of whom its program runs as; 0 where it begins as root, or has a name that only it knows."""
        name = str(self.config.get("User") or "").partition(":")[0]
        return int(name) if name.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Boot:
    """What a living container is started with beside its image: parts of /containers/create, and of its HostConfig.

    It is never shown: a variable or an argument may be a password.
    """

    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    host: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def has_check(self) -> bool:
        """Whether it has a check of its own; that of the image only where `looked_at` has said it."""
        test = (self.config.get("Healthcheck") or {}).get("Test")
        return bool(test) and test != _NO_CHECK

    def hidden(self, text: str) -> str:
        """Return a text without the values of its variables, which a program may have written."""
        redactor = Redactor()
        for name, _, value in (one.partition("=") for one in self.config.get("Env", ())):
            if not inspected.is_harmless(name):
                redactor.add(value)
        return redactor.mask(text)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A trial; `variables` come after those of `boot`, `memory_bytes` 0 is no bound."""

    name: str
    image: str
    mounts: Sequence[Mount] = ()
    command: Sequence[str] = ()
    variables: Sequence[str] = field(default=(), repr=False)
    labels: Mapping[str, str] | None = None
    user: str = ""
    boot: Boot = field(default_factory=Boot)
    memory_bytes: int = 0

    def config(self) -> dict[str, Any]:
        """Return it as the API's /containers/create takes it."""
        mounts = [
            {"Type": "bind", "Source": str(one.source), "Target": one.target, "ReadOnly": not one.writable}
            for one in self.mounts
        ]
        host: dict[str, Any] = {
            **self.boot.host,
            "NetworkMode": "none",  # not NetworkDisabled: then there would be no /etc/hosts, and no localhost
            "Mounts": mounts,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "NanoCpus": round(CPUS * 1e9),
            "PidsLimit": PIDS,
        }
        if self.memory_bytes:
            host |= {"Memory": self.memory_bytes, "MemorySwap": self.memory_bytes}
        config: dict[str, Any] = {
            **self.boot.config,
            "Image": self.image,
            "Labels": {**(self.labels or {}), **SCRATCH},
            "Env": [*self.boot.config.get("Env", ()), *self.variables],
            "HostConfig": host,
        }
        optional = {"Cmd": list(self.command), "User": self.user}
        return config | {key: value for key, value in optional.items() if value}


def image(said: Mapping[str, Any]) -> Image:
    """Return an image; `said` is the answer to its inspection."""
    return Image(str(said["Id"]), said.get("Config") or {})


def boot(said: Mapping[str, Any], of: Image) -> Boot:
    """Return what a container has beside its image; `said` is the answer to its inspection."""
    own, base = said["Config"], of.config
    known = set(base.get("Env") or ())
    config: dict[str, Any] = {"Env": [one for one in own.get("Env") or () if one not in known]}
    words = ("Entrypoint", "Cmd")
    if (own.get("Entrypoint") or []) != (base.get("Entrypoint") or []):  # with another one the image's Cmd is none
        config |= {name: own.get(name) for name in words}
    elif (own.get("Cmd") or []) != (base.get("Cmd") or []):
        config["Cmd"] = own.get("Cmd")
    config |= {name: own[name] for name in ("User", "WorkingDir") if own.get(name) not in {"", base.get(name)}}
    if own.get("Hostname") and not str(said["Id"]).startswith(own["Hostname"]):
        config["Hostname"] = own["Hostname"]
    config |= {name: own[name] for name in ("Tty", "OpenStdin", "ExposedPorts", "Healthcheck") if own.get(name)}
    settings = said.get("HostConfig") or {}
    return Boot(config, {name: settings[name] for name in _OF_HOST if settings.get(name)})


def looked_at(started: Boot, of: Image) -> Boot:
    """Return the same with its check asked every two seconds, and for an hour not given up; without one as it is."""
    check = started.config.get("Healthcheck") or of.config.get("Healthcheck") or {}
    if not check.get("Test") or check["Test"] == _NO_CHECK:
        return started
    often = {"Interval": _LOOK_NANOSECONDS, "StartPeriod": _STARTING_NANOSECONDS}
    timeout = {"Timeout": check["Timeout"]} if check.get("Timeout") else {}
    return Boot({**started.config, "Healthcheck": {"Test": check["Test"], **often, **timeout}}, started.host)
