"""What a door needs of tailscaled, the tailnet and this host, each with the command or the place that mends it.

The command line checks less: it lets a port be opened that the tailnet's policy does not allow, and says that it is
on the internet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from homelab_agent.gate import version
from homelab_agent.gate.reading import Entry, Reading, ServeConfig

KEY_EXPIRY_WARNING = timedelta(days=14)

_ADMIN = "https://login.tailscale.com/admin"
_ASKED_FOR = 443
_HTTPS, _FUNNEL, _FUNNEL_PORTS = "https", "funnel", "https://tailscale.com/cap/funnel-ports"
"""Keys of a node's CapMap (tailscaled's tailcfg: CapabilityHTTPS, NodeAttrFunnel, CapabilityFunnelPorts)."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands in a door's way, in words; `repair` mends it. One that does not block will, before long.

    One that `has_check` is a need by a check of its own, and not the door's.
    """

    what: str
    repair: str
    blocks: bool = True
    has_check: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """The door that is to be opened, to the internet or to the tailnet, and the `user` who is to open it."""

    port: int
    is_funnel: bool
    user: str
    safe_versions: Sequence[str]


_STARTING = Obstacle("tailscaled is starting", "If it stays so: journalctl -u tailscaled -n 50")
_DISCONNECTED = {
    "NeedsLogin": Obstacle("this node is logged out of its tailnet", "sudo tailscale up"),
    "NeedsMachineAuth": Obstacle("this node waits to be approved", f"Approve it: {_ADMIN}/machines"),
    "Stopped": Obstacle("Tailscale is stopped", "sudo tailscale up"),
    "NoState": _STARTING,
    "Starting": _STARTING,
}
"""States of tailscaled (ipn.State) in which it publishes nothing."""


def obstacles(reading: Reading, door: Door, now: datetime) -> list[Obstacle]:
    """Return what is missing, what blocks first.

    A node that is not connected has no capabilities and no certificates: then that alone is told.
    """
    if away := disconnected(reading, now):
        return [away]
    found = [*_of_the_daemon(reading, door), *_of_the_tailnet(reading, door)]
    soon = expires_soon(reading, now)
    return sorted(found, key=lambda one: not one.blocks) + ([soon] if soon is not None else [])


def conflict(entries: Sequence[Entry], port: int) -> Obstacle:
    """Return in words that a port is somebody else's: `entries` is what is published there."""
    stays = [one for one in entries if not one.session]
    what = "; ".join(dict.fromkeys(f"{one.target} {_reach(one)}" for one in stays or entries))
    if not stays:
        repair = f"End the program that does: pgrep -af 'tailscale.*{port}'"
        return Obstacle(f"another program publishes on port {port}: {what}", repair)
    kind = "tcp" if stays[0].target.startswith("tcp:") else "https"
    repair = f"sudo tailscale serve --{kind}={port} off"
    return Obstacle(f"port {port} is taken, also when no program runs: {what}", repair)


def bypasses(config: ServeConfig, target: str) -> list[Obstacle]:
    """Return what leads to `target` as bare TCP: nothing marks who comes that way, so they pass for this host's own."""
    web = urlsplit(target)
    found = [one for port in config.ports() for one in config.entries(port) if one.target.startswith("tcp:")]
    return [
        Obstacle(
            f"port {one.port} leads {_reach(one)} to the agent as bare TCP: who comes that way passes for this host",
            f"sudo tailscale serve --tcp={one.port} off",
            blocks=False,
        )
        for one in found
        if one.aims_at(f"tcp://{web.hostname}:{web.port}")
    ]


def disconnected(reading: Reading, now: datetime) -> Obstacle | None:
    """Return why tailscaled publishes nothing; None where it may."""
    if reading.backend == "Running":
        return None
    if (gone := expired(reading, now)) is not None:
        return gone
    other = Obstacle(f"tailscaled is in the state {reading.backend}", "tailscale status")
    return _DISCONNECTED.get(reading.backend, other)


def _of_the_daemon(reading: Reading, door: Door) -> Iterator[Obstacle]:
    if not version.is_in(version.parse(reading.version), door.safe_versions):
        known = " or ".join(door.safe_versions)
        yield Obstacle(
            f"tailscaled {reading.version} is not among the versions known to be safe ({known})",
            "sudo tailscale update",
        )
    if reading.shields_up:
        yield Obstacle("this node takes no connections (shields-up)", "sudo tailscale set --shields-up=false")
    if door.user not in {"root", reading.operator}:
        place = f": that is {reading.operator}, whose place it would take" if reading.operator else ""
        yield Obstacle(
            f"the agent's user {door.user} is not Tailscale's operator on this host{place}",
            f"sudo homelab-agent gate operator {door.user}",
        )


def _of_the_tailnet(reading: Reading, door: Door) -> Iterator[Obstacle]:
    if _HTTPS not in reading.capabilities or reading.name not in reading.cert_domains:
        yield Obstacle(
            "the tailnet gives this node no certificate", f"Enable MagicDNS and HTTPS certificates: {_ADMIN}/dns"
        )
    if not door.is_funnel:
        return
    if _FUNNEL not in reading.capabilities:
        yield Obstacle(
            "the tailnet's policy does not let this node use Funnel",
            f'Add {{"target": ["autogroup:member"], "attr": ["funnel"]}} (for a tagged node its tag) to "nodeAttrs": '
            f"{_ADMIN}/acls",
        )
        return
    allowed = _funnel_ports(reading)
    if not any(first <= door.port <= last for first, last in allowed):
        ports = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in allowed)
        yield Obstacle(
            f"the tailnet's policy does not allow Funnel on port {door.port}, only on {ports or 'none'}",
            f"homelab-agent config set gate.port {allowed[0][0]}" if allowed else f"{_ADMIN}/acls",
        )
    elif not any(first <= _ASKED_FOR <= last for first, last in allowed):
        yield Obstacle(
            f"the tailnet's policy does not allow Funnel on port {_ASKED_FOR}, which Tailscale's command asks for "
            "whichever port is used",
            f"{_ADMIN}/acls",
        )


def expired(reading: Reading, now: datetime) -> Obstacle | None:
    """Return that the key has expired, as tailscaled thinks by its own clock: it wants a log-in."""
    if reading.backend == "NeedsLogin" and reading.key_expiry is not None and reading.key_expiry <= now:
        return Obstacle("this node's key has expired", "sudo tailscale up")
    return None


def expires_soon(reading: Reading, now: datetime) -> Obstacle | None:
    """Return that the key is about to expire."""
    if reading.key_expiry is None or reading.key_expiry - now >= KEY_EXPIRY_WARNING:
        return None
    return Obstacle(
        f"this node's key expires on {reading.key_expiry:%Y-%m-%d %H:%M} UTC; "
        "then nobody reaches it through the tailnet",
        f"Renew it: sudo tailscale up --force-reauth; or let it not expire: {_ADMIN}/machines",
        blocks=False,
        has_check=True,
    )


def _funnel_ports(reading: Reading) -> list[tuple[int, int]]:
    """Return the ranges of ports that Funnel may use, from ".../funnel-ports?ports=443,8000-9000"."""
    found = []
    for capability in sorted(reading.capabilities):
        parts = urlsplit(capability)
        if f"{parts.scheme}://{parts.netloc}{parts.path}" != _FUNNEL_PORTS:
            continue
        for item in ",".join(parse_qs(parts.query).get("ports", [])).split(","):
            first, dash, last = item.partition("-")
            if first.isdecimal() and (last.isdecimal() or not dash):
                found.append((int(first), int(last if dash else first)))
    return found


def _reach(entry: Entry) -> str:
    return "for the internet" if entry.is_funnel else "for the tailnet"
