"""What is read back of a port: tailscaled's own shapes, as it writes them, and what each means for a door of ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gate.reading import Entry, Presence, ServeConfig, presence

NAME = "homelab.tail-test.ts.net"
US = "http://127.0.0.1:8085"
SESSION = "5d2f0c3a"


def web(target: str = US, *, name: str = NAME, port: int = 8443, funnel: bool = True) -> dict[str, Any]:
    """Return what `tailscale funnel` or `serve --https=PORT TARGET` writes."""
    layer: dict[str, Any] = {
        "TCP": {str(port): {"HTTPS": True}},
        "Web": {f"{name}:{port}": {"Handlers": {"/": {"Proxy": target}}}},
    }
    return {**layer, "AllowFunnel": {f"{name}:{port}": True}} if funnel else layer


def foreground(*layers: dict[str, Any], background: dict[str, Any] | None = None) -> dict[str, Any]:
    sessions = {f"{SESSION}{number or ''}": layer for number, layer in enumerate(layers)}
    return {**(background or {}), "Foreground": sessions}


def test_an_entry_says_where_it_goes_for_how_long_and_for_whom() -> None:
    raw = foreground(web(), background=web("http://127.0.0.1:3000", port=443, funnel=False))
    config = ServeConfig(raw, "etag")
    assert config.entries(8443) == [Entry(SESSION, NAME, 8443, US, is_funnel=True)]
    assert config.entries(443) == [Entry("", NAME, 443, "http://127.0.0.1:3000", is_funnel=False)]
    assert config.entries(80) == config.entries(43) == []


@pytest.mark.parametrize(
    ("layer", "host", "target"),
    [
        ({"TCP": {"8443": {"TCPForward": "127.0.0.1:22"}}}, "", "tcp://127.0.0.1:22"),
        ({"TCP": {"8443": {"TCPForward": "127.0.0.1:22", "TerminateTLS": NAME}}}, NAME, "tcp://127.0.0.1:22"),
        ({"TCP": {"8443": {"HTTPS": True}}}, "", "nothing"),
        ({"Web": {f"{NAME}:8443": {"Handlers": {"/": {"Text": "hi"}}}}}, NAME, "/ by Text"),
        ({"Web": {f"{NAME}:8443": {"Handlers": {"/hook": {"Proxy": US}}}}}, NAME, "/hook by Proxy"),
        (
            {"Web": {f"{NAME}:8443": {"Handlers": {"/": {"Proxy": US}, "/x": {"Path": "/srv"}}}}},
            NAME,
            "/ by Proxy; /x by Path",
        ),
        ({"Web": {f"{NAME}:8443": None}}, NAME, "nothing"),
    ],
)
def test_what_is_no_proxy_for_everything_is_told_in_words(layer: dict[str, Any], host: str, target: str) -> None:
    assert ServeConfig(layer).entries(8443) == [Entry("", host, 8443, target, is_funnel=False)]
    assert presence(ServeConfig(layer), 8443, name=NAME, target=US, is_funnel=True, child_runs=True) == "foreign"


def test_the_internet_is_let_in_when_any_layer_allows_it() -> None:
    """As tailscaled itself decides: a left-over permission makes another session's entry public."""
    raw = foreground(web(funnel=False), background={"AllowFunnel": {f"{NAME}:8443": True}})
    assert [entry.is_funnel for entry in ServeConfig(raw).entries(8443)] == [True]
    denied = foreground(web(funnel=False), background={"AllowFunnel": {f"{NAME}:8443": False, f"{NAME}:443": True}})
    assert [entry.is_funnel for entry in ServeConfig(denied).entries(8443)] == [False]
    bare = {"TCP": {"8443": {"TCPForward": "127.0.0.1:22"}}, "AllowFunnel": {f"{NAME}:8443": True}}
    assert [entry.is_funnel for entry in ServeConfig(bare).entries(8443)] == [True]


@pytest.mark.parametrize(
    ("raw", "child_runs", "expected"),
    [
        ({}, True, "none"),
        ({"Foreground": None, "TCP": None, "Web": None}, True, "none"),
        (foreground(web(port=443)), True, "none"),
        (foreground(web()), True, "ours"),
        (foreground(web("http://localhost:8085/")), True, "ours"),
        (foreground(web(), background=web("http://127.0.0.1:1", port=10000)), True, "ours"),
        (foreground(web()), False, "leftover"),
        (foreground(web(), web()), False, "leftover"),
        (foreground(web(), background=web()), False, "leftover"),
        (foreground(web("http://127.0.0.1:3000")), False, "foreign"),
        (foreground(web("http://127.0.0.1:3000")), True, "foreign"),
        (foreground(web("https://127.0.0.1:8085")), True, "foreign"),
        (foreground(web("http://127.0.0.1:8085/other")), True, "foreign"),
        (web("http://127.0.0.1:3000"), False, "foreign"),
        (foreground(web(), web("http://127.0.0.1:3000", name="other.ts.net")), True, "foreign"),
        (web(), False, "stale"),
        (web("http://localhost:8085"), False, "stale"),
        (web(), True, "stale"),
        (foreground(web(), background=web()), True, "stale"),
        (foreground(web(name="old.tail-test.ts.net")), True, "stale"),
        (foreground(web(funnel=False)), True, "stale"),
        ({"Services": {"svc:x": web()}}, True, "none"),
    ],
)
def test_what_a_configuration_means_for_the_public_door(
    raw: dict[str, Any],
    child_runs: bool,  # noqa: FBT001
    expected: Presence,
) -> None:
    config = ServeConfig(raw)
    assert presence(config, 8443, name=NAME, target=US, is_funnel=True, child_runs=child_runs) == expected


def test_the_tailnets_door_is_not_as_it_should_be_when_the_internet_reaches_it() -> None:
    private, public = ServeConfig(foreground(web(funnel=False))), ServeConfig(foreground(web()))
    for config, expected in ((private, "ours"), (public, "stale")):
        assert presence(config, 8443, name=NAME, target=US, is_funnel=False, child_runs=True) == expected


odd: list[Any] = [
    None, True, 1, "", US, [US], {}, {"HTTPS": True}, {"TCPForward": US}, {"TCPForward": 1}, {"Handlers": None},
    {"Handlers": {"/": US}}, {"Handlers": {"/": {"Proxy": 1}}}, {"Handlers": {"/": {"Proxy": US}}},
    {"Handlers": {"/": {"Proxy": "http://["}}},
]  # fmt: skip
values = st.sampled_from(odd)
tables = st.dictionaries(st.sampled_from(["8443", f"{NAME}:8443", ":8443", "x"]), values, max_size=3)
layers = st.dictionaries(st.sampled_from(["TCP", "Web", "AllowFunnel", "Services"]), tables | values)
sessions = st.dictionaries(st.sampled_from(["a", "b"]), layers | values)


@given(layers, sessions | values)
def test_whatever_tailscaled_writes_is_read_and_what_is_not_understood_is_not_ours(
    background: dict[str, Any], sessions: object
) -> None:
    config = ServeConfig({**background, "Foreground": sessions})
    found = presence(config, 8443, name=NAME, target=US, is_funnel=True, child_runs=True)
    assert (found == "none") == (not config.entries(8443))
    if found == "ours":
        [entry] = config.entries(8443)
        assert entry.session
        assert (entry.host, entry.target, entry.is_funnel) == (NAME, US, True)
