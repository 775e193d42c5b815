"""Is what runs what the file says? Pure: values in, a finding out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from homelab_agent.core.health import Finding, State
from homelab_agent.core.journal import journalctl
from homelab_agent.stack.running import Container
from homelab_agent.stack.wanted import Service

UP = "make up"
LOGS = "make stack-logs SERVICE="
AGAIN = "homelab-agent doctor stack"
LEAST_DOCKER = 28
"""Before it, a host of the same network could reach what is published on 127.0.0.1 (Docker Engine 28 release notes)."""


def of_services(wanted: Mapping[str, Service], found: Sequence[Container], where: str) -> Finding:
    """Say of each service whether it runs, is well, and is what the file at `where` says."""
    running = {one.service: one for one in found}
    missing = sorted(set(wanted) - set(running))
    ill = [one for one in found if one.service in wanted and not (one.runs or one.starts)]
    if missing or ill:
        words = [f"{name} is not there" for name in missing]
        words += [f"{one.service} is {one.health if one.status == 'running' else one.status}" for one in ill]
        repair = f"{LOGS}{ill[0].service}" if ill else UP
        return Finding.failed("; ".join(words), _there(where, repair))
    if starting := [one.service for one in found if one.service in wanted and one.starts]:
        return Finding.degraded(f"still starting: {', '.join(starting)}", AGAIN)
    changed = [f"{name}: {what}" for name, one in sorted(wanted.items()) for what in _differences(one, running[name])]
    extra = sorted({one.service for one in found if one.service not in wanted and one.status == "running"})
    changed += [f"{name} runs, which the profile has not" for name in extra]
    if changed:
        return Finding.degraded(f"not what {where} says: {'; '.join(changed)}", _there(where, UP))
    images = ", ".join(f"{name} {one.image.rpartition(':')[2]}" for name, one in sorted(wanted.items()))
    return Finding.ok(f"as {where} says: {images}")


def of_ports(wanted: Mapping[str, Service], found: Sequence[Container], docker: str, where: str) -> Finding:
    """Say whether any port leads further than this host."""
    stated = frozenset[str]().union(*(one.ports for one in wanted.values()))
    open_ = sorted(port for one in found for port in one.ports if not _is_loopback(port))
    if open_:
        return Finding.failed(
            f"{', '.join(open_)} can be reached from other hosts; Loki asks nobody who he is", _there(where, UP)
        )
    listed = ", ".join(sorted(stated)) or "no port"
    if stated and (_major(docker) or LEAST_DOCKER) < LEAST_DOCKER:
        return Finding.degraded(
            f"{listed}; but Docker {docker} lets hosts of the same network reach ports of 127.0.0.1",
            "upgrade to Docker 28 (https://docs.docker.com/engine/install/), or let no such packets in: sudo iptables"
            " -t raw -I PREROUTING ! -i lo -d 127.0.0.0/8 -j DROP",
        )
    return Finding.ok(listed)


def of_volumes(wanted: Mapping[str, Service], existing: Sequence[str], where: str) -> Finding:
    """Say whether the volumes are there that hold the data."""
    names = frozenset[str]().union(*(one.volumes for one in wanted.values()))
    if missing := sorted(names - set(existing)):
        return Finding.failed(f"missing: {', '.join(missing)}", _there(where, UP))
    return Finding.ok(", ".join(sorted(names)))


def of_journal(journal: Path, *, there: bool, volatile: bool) -> Finding:
    """Say whether the host's journal is where the shipper reads it; `volatile` is whether it is in memory only."""
    if there and not (volatile and journal == journalctl.PERSISTENT):
        return Finding.ok(f"{journal}")
    what = f"nothing new comes to {journal}" if there else f"there is no {journal}"
    return Finding.failed(f"{what}: the journal is in memory only, and none of it reaches Loki", journalctl.KEEP)


def of_host(agent: str, shipper: Container) -> Finding:
    """Say whether this host is called the same in Loki as in the database, by whose names Grafana asks for logs."""
    if agent == shipper.host:
        return Finding.ok(f"the agent and {shipper.service} call this host {agent}")
    return Finding.degraded(
        f"the agent calls this host {agent}, and {shipper.service} calls it {shipper.host or 'nothing'}: Grafana finds"
        " none of its logs",
        _there(shipper.file, UP),
    )


def of_databases(agent: str, stack: str, *, shown: str, move: str) -> Finding:
    """Say whether the agent writes where Grafana reads; each is known by its cluster's number and its name."""
    if agent == stack:
        return Finding.ok(f"the agent and Grafana use the same: {shown}")
    return Finding.degraded(
        f"the agent writes to {shown}, Grafana reads the stack's own: it shows nothing of this host", move
    )


def of_nothing() -> Finding:
    """Say that no stack runs here."""
    return Finding(State.NOT_AVAILABLE, "no container of the stack is on this host", UP)


def _differences(wanted: Service, found: Container) -> list[str]:
    said = []
    if wanted.image != found.image:
        said.append(f"{found.image} instead of {wanted.image}")
    if wanted.ports != found.ports:
        said.append(f"ports {', '.join(sorted(found.ports)) or 'none'}")
    if wanted.volumes != found.volumes:
        said.append(f"volumes {', '.join(sorted(found.volumes)) or 'none'}")
    if not said and wanted.digest and wanted.digest != found.digest:
        said.append("the file was changed since it was started")
    return said


def _is_loopback(port: str) -> bool:
    address = port.rpartition(":")[0].strip("[]")
    return address.startswith("127.") or address == "::1"


def _major(version: str) -> int | None:
    word = version.partition(".")[0]
    return int(word) if word.isdigit() else None


def _there(where: str, repair: str) -> str:
    """Return a make command as it is typed where the Makefile is."""
    return repair.replace("make ", f"make -C {Path(where).parent.parent} ", 1)
