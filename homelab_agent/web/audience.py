"""Who is calling, and whether they may: decided from the connection and the headers alone, by pure functions.

The order is that of the design, least trusted first wherever two readings are possible. A forwarding proxy's
words can only take trust away: no header makes a caller more trusted than its connection is.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from email.header import decode_header, make_header

from homelab_agent.core.door import FUNNEL_HEADER, PROBE_HEADER, PUBLIC_PATH, TAILNET_RANGES
from homelab_agent.core.http import Audience, Caller, Route

Headers = Sequence[tuple[str, str]]

SAFE_METHODS = frozenset({"GET", "HEAD"})

_FUNNEL_MARK = FUNNEL_HEADER.lower()
_ADDRESS_HEADERS = ("x-forwarded-for", "x-real-ip", "cf-connecting-ip", "true-client-ip")
_FORWARDING = re.compile(r"^(x-forwarded-.*|forwarded|via|x-real-ip|cf-.*|true-client-ip|tailscale-.*)$")
_KNOWN = 1024
"""How many hosts and addresses are remembered as they were read: the same few come again and again."""
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Connection:
    """How a request came: over the unix socket, or by TCP from `peer` to `local` (addresses without port)."""

    unix: bool
    peer: str = ""
    local: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served; `close` ends its connection as well."""

    status: int
    title: str
    detail: str = ""
    repair: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False


SHUT = Refusal(503, "Not open.", headers={"Retry-After": "60"}, close=True)
"""What the public hears while its door is shut, whatever it asks for."""

_OTHER_SITE = Refusal(403, "Another site may not send this.", "Its origin is not this page.", close=True)


def without_underscores(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop every header with `_` in its name.

    Some proxies pass a forged `Tailscale_User_Login` on, and some programs read it as `Tailscale-User-Login`.
    """
    return [(name, value) for name, value in headers if "_" not in name]


def decide(
    connection: Connection, method: str, headers: Headers, hosts: AbstractSet[str]
) -> tuple[Caller, Refusal | None]:
    """Return who sent a request, and why it is refused whatever it asks for, None if it is not.

    `headers` without those that `without_underscores` drops; `hosts` are the configured names, lower case.
    """
    said = _by_name(headers)
    name = _one_line(said.get("tailscale-user-login", [""])[0])
    if connection.unix:
        return Caller(Audience.LOCAL, "unix", login="socket", name=name), _cross_site(method, said, None)
    host = _host(said)
    caller = Caller(_audience(connection, said, host), _source(connection, said), name=name)
    if host is None:
        return caller, Refusal(400, "The request needs exactly one valid Host header.", close=True)
    if not (_is_loopback_name(host[0]) or host[0] in hosts or host[0] == connection.local):
        return caller, Refusal(
            421,
            "This agent is not asked under that name.",
            f"The request is for {_one_line(host[0])!r}.",
            f'[web] hosts = ["{_one_line(host[0])}"] if that is a name of this host',
            close=True,
        )
    return caller, _cross_site(method, said, host)


def public_rule(method: str, path: str, *, nonce: str) -> Refusal | None:
    """Return why a PUBLIC request is refused at an open door, None for the one that the public may send: the webhook.

    The gate's own probe hears its `nonce`, and knows by it that it reached this agent; to others nothing is echoed.
    """
    if path != PUBLIC_PATH:
        return Refusal(404, "There is no such path.")
    if method != "POST":
        echo = {PROBE_HEADER: nonce} if nonce else {}
        return Refusal(405, "This path takes POST only.", headers={"Allow": "POST", **echo})
    return None


def permit(route: Route, caller: Caller, *, login_always: bool) -> Refusal | None:
    """Return why `caller` may not use `route`, None if it may.

    On loopback reading is free, unless `login_always`; all else needs a log-in that `caller.login` names.
    """
    if caller.audience < route.audience:
        if route.audience is Audience.LOCAL:
            return Refusal(403, "Only for the agent's own command line.", "It asks over the unix socket.")
        return Refusal(403, "Not from here.", f"It is for {route.audience.name.lower()} callers.")
    if not route.login or caller.login or caller.audience is Audience.LOCAL:
        return None
    if caller.audience is Audience.LOOPBACK and route.method in SAFE_METHODS and not login_always:
        return None
    return Refusal(
        401,
        "Log in first.",
        "This needs a log-in or a token.",
        "homelab-agent web login",
        headers={"WWW-Authenticate": 'Bearer realm="homelab-agent"'},
    )


def _audience(connection: Connection, said: Mapping[str, list[str]], host: tuple[str, str] | None) -> Audience:
    if _FUNNEL_MARK in said or any(not _in_tailnet(address) for address in _forwarded_for(said)):
        return Audience.PUBLIC
    if any(_FORWARDING.match(name) for name in said):
        return Audience.TAILNET
    if not _is_loopback(_parse(connection.peer)) or host is None or not _is_loopback_name(host[0]):
        return Audience.TAILNET
    return Audience.LOOPBACK


def _by_name(headers: Headers) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for name, value in headers:
        said.setdefault(name.lower(), []).append(value)
    return said


def _host(said: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """Return name and port ("" if none is given) of the one Host header; None unless there is one that is valid."""
    values = said.get("host", [])
    return _authority(values[0]) if len(values) == 1 else None


@functools.lru_cache(maxsize=_KNOWN)
def _authority(text: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?", text.strip(), re.ASCII)
    if match is None:
        return None
    return match[1].strip("[]").lower().rstrip("."), match[2] or ""


def _cross_site(method: str, said: Mapping[str, list[str]], host: tuple[str, str] | None) -> Refusal | None:
    """Refuse what a browser sends on behalf of another site.

    Following a link to a page is let through: it only reads, and without the cookie (SameSite=Strict).
    """
    for origin in said.get("origin", []):
        if host is None or not _same_origin(origin, host):
            return _OTHER_SITE
    following = (
        method in SAFE_METHODS
        and said.get("sec-fetch-mode") == ["navigate"]
        and said.get("sec-fetch-dest", ["document"]) == ["document"]
    )
    if not following and any(site not in {"same-origin", "none"} for site in said.get("sec-fetch-site", [])):
        return _OTHER_SITE
    return None


def _same_origin(origin: str, host: tuple[str, str]) -> bool:
    """Whether an Origin is that of the Host asked; a default port may be left out on either side."""
    scheme, separator, rest = origin.partition("://")
    default = {"http": "80", "https": "443"}.get(scheme)
    there = _authority(rest) if separator else None
    if default is None or there is None:
        return False
    return (there[0], there[1] or default) == (host[0], host[1] or default)


def _forwarded_for(said: Mapping[str, list[str]]) -> list[_Address | None]:
    """Return every address that a forwarding header names; None for what is no address."""
    found = [_parse(part) for header in _ADDRESS_HEADERS for value in said.get(header, []) for part in value.split(",")]
    for value in said.get("forwarded", []):
        for pair in re.split("[,;]", value):
            key, _, node = pair.partition("=")
            if key.strip().lower() == "for":
                found.append(_parse(node.strip().strip('"')))
    return found


@functools.lru_cache(maxsize=_KNOWN)
def _parse(text: str) -> _Address | None:
    """Return the address in "192.0.2.1", "192.0.2.1:443", "2001:db8::1" or "[2001:db8::1]:443"."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _in_tailnet(address: _Address | None) -> bool:
    return address is not None and any(address in network for network in TAILNET_RANGES)


def _is_loopback(address: _Address | None) -> bool:
    return address is not None and address.is_loopback


def _is_loopback_name(host: str) -> bool:
    return host == "localhost" or _is_loopback(_parse(host))


def _source(connection: Connection, said: Mapping[str, list[str]]) -> str:
    """Return the address to log and to count failed log-ins by.

    Only a proxy on this host is believed, and of what it sends the last address, which it wrote itself.
    """
    peer = _parse(connection.peer)
    forwarded = said.get("x-forwarded-for", [])
    if _is_loopback(peer) and forwarded:
        last = forwarded[-1].rpartition(",")[2]
        if _parse(last) is not None:
            return _shown(last)
    return _shown(connection.peer)


@functools.lru_cache(maxsize=_KNOWN)
def _shown(text: str) -> str:
    """Return an address in one spelling; what is none as it is."""
    return str(_parse(text) or text)


def _one_line(text: str) -> str:
    """Return at most 128 printable characters of what somebody claims, with RFC 2047 words decoded."""
    if not text:
        return ""
    with contextlib.suppress(ValueError, LookupError):
        text = str(make_header(decode_header(text)))
    return "".join(sign for sign in text[:128] if sign.isprintable() and not "\ud800" <= sign <= "\udfff")
