"""The section `[gate]`: which doors there are, what they need, and how long they take to open and to shut."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from homelab_agent.core.settings import Section, setting
from homelab_agent.gate import version

FUNNEL = "funnel"
"""The door to the internet; the others lead no further than the tailnet."""

_PORTS = {FUNNEL: "port", "tailnet": "tailnet_port", "grafana": "grafana_port"}
"""Keys of the doors' ports."""


class GateSettings(Section):
    """The doors that the agent opens while it is well, and shuts when it is not: to the internet, and in the tailnet.

    Both are sessions of Tailscale's that end with the agent. It must run as root or be the tailnet's operator on this
    host; `homelab-agent doctor gate` says what is missing.
    """

    funnel: bool = setting(
        default=False, doc="Whether the webhook's address is opened to the internet, by Tailscale Funnel."
    )
    port: int = setting(8443, "Its public port; the tailnet's policy must allow Funnel on it.", ge=1, le=65535)
    tailnet: bool = setting(
        default=False,
        doc="Whether the page is opened to the tailnet, by Tailscale Serve; a log-in is needed all the same.",
    )
    tailnet_port: int = setting(443, "The page's port in the tailnet.", ge=1, le=65535)
    grafana: str = setting(
        "",
        "Where Grafana listens, to open it to the tailnet beside the page; empty: it is not.",
        example="http://127.0.0.1:3000",
        pattern=r"^(https?://[^\s/]+)?$",
    )
    grafana_port: int = setting(3443, "Grafana's port in the tailnet.", ge=1, le=65535)
    socket: Path = setting(Path("/var/run/tailscale/tailscaled.sock"), "Where tailscaled listens.")
    program: str = setting("tailscale", "Tailscale's command, by name or path.", min_length=1)
    safe_versions: list[str] = setting(
        [">=1.98.9, <1.99", ">=1.102"],
        "Versions of tailscaled that a door is opened with. In others a request from the internet can keep a core of "
        "this host busy for ever. A range is `>=` and a version, `<` and one, or both with a comma between.",
        min_length=1,
    )
    resolver: str = setting(
        "",
        "A DNS-over-HTTPS resolver (RFC 8484) outside the tailnet; where set, the agent visits its own public address "
        "by it, to see whether the internet reaches it.",
        example="https://dns.quad9.net/dns-query",
        pattern=r"^(https://\S+)?$",
    )
    rise: int = setting(3, "So many looks in a row must find the agent ready before a door opens.", ge=1, le=100)
    fall: int = setting(3, "So many looks in a row must find it not ready before a door shuts.", ge=1, le=100)
    every: float = setting(5.0, "Time between two looks.", unit="s", gt=0, le=60)
    in_doubt: float = setting(
        1.0, "Time between two looks while they differ, and while a door is opening or shutting.", unit="s", gt=0, le=60
    )
    open_at_least: float = setting(
        30.0,
        "How long a session of Tailscale's lives at least when the agent is only not ready; visitors are refused at "
        "once, and let in again without a new session when it is ready before that.",
        unit="s",
        ge=0,
        le=3600,
    )
    closed_at_least: float = setting(
        60.0,
        "How long a door that has shut stays so, but for the first opening after a start.",
        unit="s",
        ge=0,
        le=3600,
    )
    tell_open_after: float = setting(
        0.0,
        "How long the door to the internet may be open at a stretch before you are told, where it is meant to be open "
        "for a while only; it stays open. 0: never, as it is meant to be open while all is well.",
        unit="s",
        reload=True,
        ge=0,
        le=366 * 86400,
    )
    opening_at_most: float = setting(
        15.0, "How long tailscaled may take to publish a door before it is shut again.", unit="s", gt=0, le=600
    )
    path_every: float = setting(
        300.0, "Time between two visits from outside; needs `resolver`.", unit="s", ge=1, le=86400
    )
    path_repair_wait: float = setting(
        60.0,
        "How long the door stays shut when it is opened anew because the internet does not reach it.",
        unit="s",
        ge=1,
        le=3600,
    )
    path_repairs: int = setting(
        3, "How often in a row that is tried; 0: never. After that the operator is told.", ge=0, le=100
    )

    @field_validator("safe_versions")
    @classmethod
    def _versions_are_ranges(cls, value: list[str]) -> list[str]:
        for range_ in value:
            if not version.is_range(range_):
                message = f"{range_!r} is no range of versions, such as '>=1.98.9, <1.99' or '>=1.102'"
                raise ValueError(message)
        return value

    def doors(self) -> dict[str, int]:
        """Return the doors that are to be kept, by name, with their ports."""
        is_on = {FUNNEL: self.funnel, "tailnet": self.tailnet, "grafana": self.tailnet and self.grafana}
        return {name: getattr(self, key) for name, key in _PORTS.items() if is_on[name]}

    @model_validator(mode="after")
    def _doors_have_ports_of_their_own(self) -> Self:
        taken: dict[int, str] = {}
        for name, port in self.doors().items():
            other = taken.setdefault(port, _PORTS[name])
            if other != _PORTS[name]:
                message = f"`{other}` and `{_PORTS[name]}` are the same: each door needs a port of its own"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _doubt_is_shorter(self) -> Self:
        if self.in_doubt > self.every:
            message = f"`in_doubt` ({self.in_doubt:g} s) is longer than `every` ({self.every:g} s)"
            raise ValueError(message)
        return self
