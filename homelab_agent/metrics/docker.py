"""A Docker engine, as far as it is asked what its containers are called (Docker Engine API, ContainerList).

One question with the standard library: the root half need not load an HTTP client for it.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from homelab_agent.core.client import UnixConnection
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.metrics.roster import Container, of_docker

PATIENCE_SECONDS = 20.0
"""An engine under load may take a while; beyond this it hangs."""


class DockerSilent(AgentError):
    """Docker does not answer at {socket}."""

    repair = "systemctl status docker; or set metrics.docker to its socket"
    exit_code = Exit.UNREACHABLE


def containers(socket: Path, *, patience: float = PATIENCE_SECONDS) -> Sequence[Container]:
    """Return all containers, also those that do not run: one that is just restarted does not. Blocking.

    Raises `DockerSilent`.
    """
    try:
        with closing(UnixConnection(socket, patience)) as connection:
            connection.request("GET", "/containers/json?all=1")
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != http.client.OK:
            raise DockerSilent(socket=socket, cause=f"{answer.status} {body[:200].decode(errors='replace')}")
        return [of_docker(one) for one in json.loads(body)]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise DockerSilent(socket=socket, cause=error) from error
