"""Who is calling: the table of the design, and every combination of forged headers against it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.http import Audience, Caller, Json, Request, Route
from homelab_agent.web import audience
from homelab_agent.web.audience import Connection, Refusal

HOSTS = frozenset({"server.tail1234.ts.net", "192.168.1.10"})
LOOPBACK = Connection(unix=False, peer="127.0.0.1", local="127.0.0.1")
LAN = Connection(unix=False, peer="192.168.1.77", local="192.168.1.10")
UNIX = Connection(unix=True)
HERE = ("Host", "127.0.0.1:8085")
THERE = ("Host", "server.tail1234.ts.net")
TAILNET_PEER = ("X-Forwarded-For", "100.101.102.103")

PUBLIC, TAILNET, LOOP, LOCAL = Audience.PUBLIC, Audience.TAILNET, Audience.LOOPBACK, Audience.LOCAL


def decide(connection: Connection, *headers: tuple[str, str], method: str = "GET") -> Caller | Refusal:
    caller, refusal = audience.decide(connection, method, audience.without_underscores(headers), HOSTS)
    return refusal or caller


async def handler(_request: Request) -> Json:
    return Json({})


@pytest.mark.parametrize(
    ("connection", "headers", "expected"),
    [
        (UNIX, [], LOCAL),
        (UNIX, [("Host", "anything"), ("Tailscale-Funnel-Request", "?1")], LOCAL),
        (LOOPBACK, [HERE], LOOP),
        (LOOPBACK, [("Host", "localhost")], LOOP),
        (LOOPBACK, [("Host", "LOCALHOST.:8085")], LOOP),
        (LOOPBACK, [("Host", "[::1]:8085")], LOOP),
        (Connection(unix=False, peer="::1", local="::1"), [("Host", "[::1]")], LOOP),
        (Connection(unix=False, peer="::ffff:127.0.0.1", local="::"), [HERE], LOOP),
        (LOOPBACK, [THERE], TAILNET),
        (LOOPBACK, [HERE, TAILNET_PEER], TAILNET),
        (LOOPBACK, [HERE, ("X-Forwarded-For", "fd7a:115c:a1e0::1")], TAILNET),
        (LOOPBACK, [HERE, ("Forwarded", 'for="[fd7a:115c:a1e0::5]:4711";proto=https')], TAILNET),
        (LOOPBACK, [HERE, ("X-Forwarded-Proto", "https")], TAILNET),
        (LOOPBACK, [HERE, ("Via", "1.1 proxy")], TAILNET),
        (LOOPBACK, [HERE, ("Tailscale-User-Login", "root@example.org")], TAILNET),
        (LOOPBACK, [THERE, TAILNET_PEER, ("Tailscale-Funnel-Request", "?1")], PUBLIC),
        (LOOPBACK, [THERE, ("Tailscale-Funnel-Request", "?0")], PUBLIC),
        (LOOPBACK, [THERE, ("X-Forwarded-For", "198.51.100.7")], PUBLIC),
        (LOOPBACK, [THERE, ("X-Forwarded-For", "198.51.100.7, 100.101.102.103")], PUBLIC),
        (LOOPBACK, [THERE, TAILNET_PEER, ("X-Forwarded-For", "198.51.100.7")], PUBLIC),
        (LOOPBACK, [THERE, ("X-Forwarded-For", "127.0.0.1")], PUBLIC),
        (LOOPBACK, [THERE, ("X-Forwarded-For", "")], PUBLIC),
        (LOOPBACK, [THERE, ("X-Forwarded-For", "unknown")], PUBLIC),
        (LOOPBACK, [THERE, ("Forwarded", "for=198.51.100.7")], PUBLIC),
        (LOOPBACK, [THERE, ("X-Real-IP", "198.51.100.7")], PUBLIC),
        (LOOPBACK, [HERE, ("X_Forwarded_For", "198.51.100.7")], LOOP),
        (LOOPBACK, [HERE, ("Tailscale_User_Login", "x")], LOOP),
        (LAN, [("Host", "192.168.1.10:8085")], TAILNET),
        (LAN, [HERE], TAILNET),
        (LAN, [("Host", "192.168.1.10"), TAILNET_PEER], TAILNET),
        (LAN, [("Host", "192.168.1.10"), ("X-Forwarded-For", "198.51.100.7")], PUBLIC),
    ],
)
def test_each_way_to_come_has_its_audience(
    connection: Connection, headers: list[tuple[str, str]], expected: Audience
) -> None:
    decided = decide(connection, *headers)
    assert isinstance(decided, Caller), decided
    assert decided.audience is expected


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", [], 400),
        ("GET", [HERE, HERE], 400),
        ("GET", [("Host", "a b")], 400),
        ("GET", [("Host", "")], 400),
        ("GET", [("Host", "user@127.0.0.1")], 400),
        ("GET", [("Host", "rebound.example")], 421),
        ("GET", [("Host", "127.0.0.1.example")], 421),
        ("GET", [("Host", "localhost.example:8085")], 421),
        ("GET", [("Host", "192.0.2.1")], 421),
        ("POST", [HERE, ("Origin", "null")], 403),
        ("POST", [HERE, ("Origin", "")], 403),
        ("POST", [HERE, ("Origin", "http://evil.example")], 403),
        ("POST", [HERE, ("Origin", "http://127.0.0.1:3000")], 403),
        ("POST", [HERE, ("Origin", "http://localhost:8085")], 403),
        ("POST", [HERE, ("Origin", "file://127.0.0.1:8085")], 403),
        ("POST", [HERE, ("Origin", "http://127.0.0.1:8085"), ("Origin", "null")], 403),
        ("POST", [THERE, ("Origin", "https://other.tail1234.ts.net")], 403),
        ("POST", [HERE, ("Sec-Fetch-Site", "cross-site")], 403),
        ("POST", [HERE, ("Sec-Fetch-Site", "same-site")], 403),
        ("GET", [HERE, ("Sec-Fetch-Site", "cross-site")], 403),
        ("GET", [HERE, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], 403),
        (
            "GET",
            [
                HERE,
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "iframe"),
            ],
            403,
        ),
        ("POST", [HERE, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")], 403),
    ],
)
def test_a_foreign_host_or_another_site_is_refused(method: str, headers: list[tuple[str, str]], status: int) -> None:
    decided = decide(LOOPBACK, *headers, method=method)
    assert isinstance(decided, Refusal)
    assert decided.status == status
    assert decided.close


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", [HERE, ("Origin", "http://127.0.0.1:8085"), ("Sec-Fetch-Site", "same-origin")]),
        ("POST", [THERE, TAILNET_PEER, ("Origin", "https://server.tail1234.ts.net")]),
        (
            "POST",
            [("Host", "server.tail1234.ts.net:8443"), ("Origin", "https://server.tail1234.ts.net:8443")],
        ),
        ("POST", [("Host", "server.tail1234.ts.net:443"), ("Origin", "https://server.tail1234.ts.net")]),
        ("GET", [HERE, ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")]),
        (
            "GET",
            [
                HERE,
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "document"),
            ],
        ),
    ],
)
def test_our_own_page_and_a_followed_link_are_not_refused(method: str, headers: list[tuple[str, str]]) -> None:
    assert isinstance(decide(LOOPBACK, *headers, method=method), Caller)


def test_a_cross_site_request_is_refused_over_the_unix_socket_too() -> None:
    refusal = decide(UNIX, ("Host", "localhost"), ("Origin", "http://localhost"), method="POST")
    assert isinstance(refusal, Refusal)


def test_a_name_from_the_proxy_is_only_a_name() -> None:
    decided = decide(LOOPBACK, THERE, TAILNET_PEER, ("Tailscale-User-Login", "=?utf-8?q?J=C3=BCrgen=0A?="))
    assert decided == Caller(TAILNET, "100.101.102.103", login="", name="Jürgen")


def test_a_stranger_on_the_lan_cannot_choose_the_address_it_is_known_by() -> None:
    decided = decide(LAN, ("Host", "192.168.1.10"), ("X-Forwarded-For", "100.64.0.1"))
    assert isinstance(decided, Caller)
    assert decided.address == "192.168.1.77"


ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["100.64.0.1", "fd7a:115c:a1e0::1", "127.0.0.1", "::1", "unknown", "", "[::1]:1", "10.0.0.1:80"]),
)
FORGED = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([
                "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Via",
                "Tailscale-User-Login", "Tailscale-User-Name", "Tailscale-Funnel-Request", "Tailscale-Ingress-Src",
                "X_Forwarded_For", "Tailscale_User_Login", "Tailscale-App-Capabilities", "CF-Connecting-IP",
            ]),
            st.one_of(ADDRESSES, st.lists(ADDRESSES, max_size=3).map(", ".join), st.text(max_size=20)),
        ),
        st.tuples(
            st.just("Host"),
            st.sampled_from(["127.0.0.1:8085", "localhost", "server.tail1234.ts.net", "evil.example", "", "[::1]"]),
        ),
        st.tuples(
            st.just("Origin"),
            st.sampled_from(["null", "http://evil.example", "http://127.0.0.1:8085", "https://server.tail1234.ts.net"]),
        ),
        st.tuples(st.just("Sec-Fetch-Site"), st.sampled_from(["cross-site", "same-site", "same-origin", "none"])),
        st.tuples(st.just("Sec-Fetch-Mode"), st.sampled_from(["navigate", "cors", "no-cors"])),
    ),
    max_size=6,
)  # fmt: skip
CONNECTIONS = st.sampled_from([LOOPBACK, LAN, UNIX, Connection(unix=False, peer="::1", local="::1")])


@given(CONNECTIONS, FORGED, st.sampled_from(["GET", "POST"]))
def test_no_combination_of_headers_gains_trust(
    connection: Connection, forged: list[tuple[str, str]], method: str
) -> None:
    decided = decide(connection, *forged, method=method)
    if isinstance(decided, Refusal):
        assert decided.status in {400, 403, 421}
        return
    names = {name.lower() for name, _ in audience.without_underscores(forged)}
    if connection.unix:
        assert decided.audience is LOCAL
        return
    assert decided.audience < LOCAL
    assert decided.login == ""
    assert sum(name.lower() == "host" for name, _ in forged) == 1
    host = next(value for name, value in forged if name.lower() == "host")
    assert host not in {"evil.example", ""}
    if decided.audience is LOOP:
        assert connection is not LAN
        assert host != "server.tail1234.ts.net"
        assert not any(name.startswith(("tailscale-", "x-forwarded-")) for name in names)
        assert not names & {"forwarded", "via", "x-real-ip", "cf-connecting-ip"}
    if "tailscale-funnel-request" in names:
        assert decided.audience is PUBLIC
    if ("Origin", "null") in forged or ("Origin", "http://evil.example") in forged:
        pytest.fail("a foreign origin got through")
    if method == "POST" and {"cross-site", "same-site"} & {v for n, v in forged if n == "Sec-Fetch-Site"}:
        pytest.fail("a cross-site change got through")


@given(CONNECTIONS, FORGED, FORGED)
def test_more_forwarding_headers_never_make_a_caller_more_trusted(
    connection: Connection, some: list[tuple[str, str]], more: list[tuple[str, str]]
) -> None:
    extra = [pair for pair in more if pair[0].lower() not in {"host", "origin", "sec-fetch-site", "sec-fetch-mode"}]
    before, after = decide(connection, *some), decide(connection, *some, *extra)
    if isinstance(before, Caller) and isinstance(after, Caller):
        assert after.audience <= before.audience


@given(CONNECTIONS, FORGED)
def test_what_the_funnel_marks_is_the_publics_also_when_it_is_refused(
    connection: Connection, forged: list[tuple[str, str]]
) -> None:
    marked = [*forged, ("tailscale-funnel-request", "?1")]
    caller, _ = audience.decide(connection, "GET", audience.without_underscores(marked), HOSTS)
    assert caller.audience is (LOCAL if connection.unix else PUBLIC)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/webhook/gitops", None),
        ("GET", "/api/webhook/gitops", 405),
        ("HEAD", "/api/webhook/gitops", 405),
        ("POST", "/api/webhook/gitops/", 404),
        ("POST", "/api/webhook/%67itops", 404),
        ("GET", "/", 404),
        ("GET", "/api/health/live", 404),
        ("POST", "/login", 404),
    ],
)
def test_the_public_reaches_the_webhook_alone(method: str, path: str, status: int | None) -> None:
    for nonce in ("", "n0nce"):
        refusal = audience.public_rule(method, path, nonce=nonce)
        assert (refusal and refusal.status) == status
        echoed = nonce if status == 405 else ""
        assert refusal is None or refusal.headers.get("X-Homelab-Probe", "") == echoed


@pytest.mark.parametrize(
    ("caller", "login", "route", "always", "status"),
    [
        (LOOP, "", Route("GET", "/x", handler), False, None),
        (LOOP, "", Route("POST", "/x", handler), False, 401),
        (LOOP, "token", Route("POST", "/x", handler), False, None),
        (LOOP, "", Route("GET", "/x", handler), True, 401),
        (LOOP, "", Route("GET", "/x", handler, login=False), True, None),
        (TAILNET, "", Route("GET", "/x", handler), False, 401),
        (TAILNET, "cookie", Route("POST", "/x", handler), False, None),
        (TAILNET, "", Route("GET", "/x", handler, login=False), False, None),
        (TAILNET, "cookie", Route("POST", "/x", handler, audience=LOCAL), False, 403),
        (LOOP, "token", Route("POST", "/x", handler, audience=LOCAL), False, 403),
        (LOCAL, "socket", Route("POST", "/x", handler, audience=LOCAL), True, None),
        (PUBLIC, "", Route("POST", "/x", handler), False, 403),
        (PUBLIC, "", Route("POST", "/x", handler, audience=PUBLIC, login=False), False, None),
        (PUBLIC, "", Route("POST", "/x", handler, audience=PUBLIC), False, 401),
    ],
)
def test_a_route_admits_whom_it_names(
    caller: Audience, login: str, route: Route, *, always: bool, status: int | None
) -> None:
    refusal = audience.permit(route, Caller(caller, "x", login), login_always=always)
    assert (refusal and refusal.status) == status
