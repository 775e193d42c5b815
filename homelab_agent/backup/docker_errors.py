"""What a Docker engine may say no to, and that it may say nothing."""

from __future__ import annotations

from homelab_agent.core.errors import AgentError, Exit


class DockerUnreachable(AgentError):
    """Docker does not answer at {socket}."""

    repair = "systemctl status docker; it may hang: systemctl restart docker; or set backup.docker to its socket"
    exit_code = Exit.UNREACHABLE


class DockerTooOld(AgentError):
    """Docker {version} speaks its API up to {api} only; 1.41 (Docker 20.10) is the least."""

    repair = "apt install docker.io, or another newer Docker"


class DockerRefuses(AgentError):
    """Docker does not {action}."""

    repair = "docker events --since 10m; journalctl -u docker --since -10m"


class ContainerGone(AgentError):
    """There is no container {container} (any more)."""

    repair = "docker ps --all"


class ContainerNotSo(AgentError):
    """Docker cannot {action} {container} as it stands."""

    repair = "docker inspect --format '{{{{.State.Status}}}}' {container}"


class ImageGone(AgentError):
    """There is no image {image} here, and nothing is pulled."""

    repair = "docker pull {image}"


class CommandFailed(AgentError):
    """The command {program} in the container {container} ended with {code}."""

    repair = "docker logs {container}; docker exec {container} {program} ..."


class CommandCutShort(AgentError):
    """The output of {program} in the container {container} ended before the command did."""

    repair = "docker ps --all; systemctl status docker"


class CommandTooSlow(AgentError):
    """The command {program} in the container {container} did not end within {seconds:g} s."""

    repair = "give it more with its `timeout` in [[backup.set.dump]], or see: docker top {container}"


def last_words(error: AgentError) -> str:
    """Return what a program in a container said last; where it said nothing, what became of it.

    That it was a shell that ran it, in a container of which there is only the number, tells a person nothing.
    """
    said = error.cause if isinstance(error, CommandFailed) else ""
    return said or str(error)


def repair_of(error: AgentError, container: str) -> str:
    """Return what may mend it."""
    return f"docker logs {container}" if isinstance(error, CommandFailed) else error.repair
