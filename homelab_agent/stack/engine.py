"""Docker, asked by its own command: it knows contexts, and Compose resolves its files itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homelab_agent.core import compose, process
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.stack import running, wanted
from homelab_agent.stack.running import Container
from homelab_agent.stack.wanted import PROJECT, Service

SECONDS = 20.0
"""For one question; an engine under load may take a while, beyond this it hangs."""
_KEEP = (*process.KEPT, "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR")
_ROOT = "sudo homelab-agent doctor stack"


class DockerForbidden(AgentError):
    """Only root, or who is in the group `docker`, may ask Docker."""

    repair = _ROOT
    exit_code = Exit.UNREACHABLE


class DockerSilent(AgentError):
    """Docker does not answer."""

    repair = "systemctl status docker"
    exit_code = Exit.UNREACHABLE


class ComposeRefuses(AgentError):
    """Docker Compose cannot read {file}."""

    repair = "docker compose --file {file} config"


@dataclass(frozen=True, slots=True)
class Stack:
    """What is here: Docker's version, the stack's containers, all volumes' names."""

    docker: str
    containers: Sequence[Container]
    volumes: Sequence[str]


async def look() -> Stack:
    """Return what is here; raises `DockerForbidden`, `DockerSilent`, `ProgramMissing`."""
    version = (await _ask("version", "--format", "{{.Server.Version}}")).strip()
    ids = (await _ask("ps", "--all", "--quiet", "--filter", f"label={compose.PROJECT}={PROJECT}")).split()
    said = json.loads(await _ask("inspect", *ids)) if ids else []
    volumes = (await _ask("volume", "ls", "--quiet")).split()
    return Stack(version, running.containers(said), volumes)


async def read(container: Container) -> Mapping[str, Service]:
    """Return what the Compose file says now that this container was made from; raises `ComposeRefuses`."""
    words = ("compose", "--project-directory", container.directory, "--file", container.file, "config")
    try:
        config: Mapping[str, Any] = json.loads(await _ask(*words, "--format", "json"))
        return wanted.services(config, await _ask(*words, "--hash", "*"))
    except (DockerSilent, ValueError, KeyError, TypeError) as error:
        raise ComposeRefuses(file=container.file, cause=error) from error


async def identity(container: Container) -> str:
    """Return which database Grafana reads, as `IDENTITY` has it; raises `DockerSilent`."""
    words = ("psql", "--no-psqlrc", "-At", "--username=postgres", f"--dbname={PROJECT}", "-c", IDENTITY)
    return (await _ask("exec", container.name, *words)).strip()


IDENTITY = "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
"""One and the same for whoever is connected to it, by whatever address."""


async def _ask(*words: str) -> str:
    done = await process.run(["docker", *words], deadline=SECONDS, keep=_KEEP)
    if done.code == 0:
        return done.stdout.decode()
    said = done.stderr.decode(errors="replace").strip()
    if "permission denied" in said.lower():
        raise DockerForbidden
    raise DockerSilent(cause=said[-300:])
