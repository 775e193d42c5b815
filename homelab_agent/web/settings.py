"""`[web]`: where the agent listens, and who may ask it."""

from __future__ import annotations

import ipaddress

from pydantic import field_validator

from homelab_agent.core.settings import Section, setting


class WebSettings(Section):
    """The status page, the API and the metrics exposition over HTTP."""

    listen: str = setting(
        "127.0.0.1:8085",
        "Address and port of the page and the API. With any other than a loopback address every request "
        "needs a log-in, also to read.",
        example="192.168.1.10:8085",
    )
    hosts: list[str] = setting(
        [],
        "Names, beside the loopback ones and the address itself, under which the agent may be asked, e.g. "
        "the host's name in the tailnet; a request for any other name is refused.",
        example=["server.tail1234.ts.net"],
        reload=True,
        max_length=32,
    )
    api_token: str = setting(
        "",
        "Reference to a token that is good beside those of `homelab-agent web token add` (env:NAME, file:PATH, "
        "credential:NAME, openbao:PATH#KEY); `make install` makes one and names it here.",
        example="credential:api-token",
        secret=True,
    )
    max_connections: int = setting(
        128,
        "Connections held open at once, over TCP and over the unix socket each; at most three quarters of them "
        "by the public.",
        unit="",
        ge=8,
        le=10_000,
    )
    receive_deadline: float = setting(
        15.0,
        "How long a client may take to send a request's head, to go on sending its body, or to take the "
        "answer, before it is cut; also how long an idle connection is kept.",
        unit="s",
        ge=0.1,
        le=300,
    )
    drain_deadline: float = setting(
        5.0, "How long requests under way may take to finish when the agent stops.", unit="s", ge=0, le=300
    )
    session_age: float = setting(30 * 86400.0, "How long a browser stays logged in.", unit="s", ge=60, le=366 * 86400)

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not name or not name.isascii() or any(sign in name for sign in "/:@ \t"):
                message = f"{name!r} is not a bare host name (no scheme, no port)"
                raise ValueError(message)
        return [name.lower().rstrip(".") for name in value]


def split_address(text: str) -> tuple[str, int]:
    """Return address and port of "127.0.0.1:8085" or "[::1]:8085"; raises ValueError."""
    host, _, port = text.rpartition(":")
    try:
        bracketed = host.startswith("[") and host.endswith("]")
        address = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host)
        if not (port.isascii() and port.isdecimal()) or not 0 <= int(port) <= 65535:
            raise ValueError(port)
    except ValueError:
        message = f"{text!r} is not ADDRESS:PORT, such as 127.0.0.1:8085 or [::1]:8085"
        raise ValueError(message) from None
    return str(address), int(port)
