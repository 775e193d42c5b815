"""What of the stack there is on this host, as `docker inspect` tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homelab_agent.core import compose

DIGEST = "com.docker.compose.config-hash"
FILES = "com.docker.compose.project.config_files"
DIRECTORY = "com.docker.compose.project.working_dir"
_HOST, _JOURNAL = "HOMELAB_HOST=", "/var/log/journal"


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the stack; `health` is "" where it has no check.

    `file` is the Compose file that it was made from, `directory` that file's. A shipper has a `host`, as which it sends
    this host's logs, and a `journal`, from which it reads them; both "" for another service.
    """

    name: str
    service: str
    image: str
    status: str
    health: str
    ports: frozenset[str]
    volumes: frozenset[str]
    digest: str
    file: str
    directory: str
    host: str = ""
    journal: str = ""

    @property
    def runs(self) -> bool:
        """Whether it runs, and does not say that it is not well."""
        return self.status == "running" and self.health in {"", "healthy"}

    @property
    def starts(self) -> bool:
        """Whether it runs, and has not been asked yet how it is."""
        return self.status == "running" and self.health == "starting"


def containers(said: Sequence[Mapping[str, Any]]) -> list[Container]:
    """Return the stack's containers by service; raises KeyError, TypeError for what is no such answer."""
    found = [_container(one) for one in said if one["Config"]["Labels"].get(compose.ONE_OFF) != "True"]
    return sorted(found, key=lambda one: (one.service, one.name))


def _container(said: Mapping[str, Any]) -> Container:
    labels = said["Config"]["Labels"]
    return Container(
        name=said["Name"].lstrip("/"),
        service=labels[compose.SERVICE],
        image=said["Config"]["Image"],
        status=said["State"]["Status"],
        health=(said["State"].get("Health") or {}).get("Status", ""),
        ports=frozenset(
            f"{bound.get('HostIp') or '0.0.0.0'}:{bound['HostPort']}"  # noqa: S104 - it is Docker that listens there
            for bindings in (said["HostConfig"].get("PortBindings") or {}).values()
            for bound in bindings or ()
        ),
        volumes=frozenset(mount["Name"] for mount in said.get("Mounts") or () if mount["Type"] == "volume"),
        digest=labels.get(DIGEST, ""),
        file=labels.get(FILES, "").split(",")[0],
        directory=labels.get(DIRECTORY, ""),
        host=next((one.removeprefix(_HOST) for one in said["Config"].get("Env") or () if one.startswith(_HOST)), ""),
        journal=next((one["Source"] for one in said.get("Mounts") or () if one.get("Destination") == _JOURNAL), ""),
    )
