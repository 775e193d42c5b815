"""What the stack's Compose file says of each service, as `docker compose config` has resolved it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROJECT = "homelab"
"""What the Compose file calls it."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its image, the ports of this host (`127.0.0.1:5432`), its volumes, and the hash of all it says."""

    name: str
    image: str
    ports: frozenset[str]
    volumes: frozenset[str]
    digest: str


def services(config: Mapping[str, Any], hashes: str) -> dict[str, Service]:
    """Return them by name, from the answers of `config --format json` and `config --hash '*'`.

    Raises KeyError, TypeError for what is no such answer.
    """
    digests = dict(line.split() for line in hashes.splitlines() if line.strip())
    names = {key: said.get("name", key) for key, said in (config.get("volumes") or {}).items()}
    return {
        name: Service(name, said["image"], _ports(said), _volumes(said, names), digests.get(name, ""))
        for name, said in config["services"].items()
    }


def _ports(said: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(f"{port.get('host_ip', '0.0.0.0')}:{port['published']}" for port in said.get("ports") or ())  # noqa: S104


def _volumes(said: Mapping[str, Any], names: Mapping[str, str]) -> frozenset[str]:
    mounts = said.get("volumes") or ()
    return frozenset(names.get(mount["source"], mount["source"]) for mount in mounts if mount["type"] == "volume")
