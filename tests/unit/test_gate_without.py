"""Of a serve configuration only what leads to us on our port is taken out; all else stays, understood or not."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gate.reading import Entry, ServeConfig
from homelab_agent.gate.tailscale import without

PORT, TARGET = 8443, "http://127.0.0.1:8085"

words = st.text("ab:/", max_size=3)
opaque = st.none() | st.booleans() | st.integers() | words | st.lists(words, max_size=1) | st.dictionaries(words, words)
ports = st.sampled_from(["443", "8443", "18443", "10000"])
names = st.builds("{}:{}".format, st.sampled_from(["home.a.ts.net", "other.a.ts.net", "svc"]), ports)
targets = st.sampled_from(
    [TARGET, "http://localhost:8085", "http://127.0.0.1:8085/", "http://127.0.0.1:9000", "https+insecure://h:1", "8085"]
)
mounts = st.dictionaries(st.sampled_from(["/", "/more"]), st.builds(dict, Proxy=targets) | opaque, max_size=2)
webs = st.dictionaries(names, st.builds(dict, Handlers=mounts) | opaque, max_size=3)
tcps = st.dictionaries(ports, st.just({"HTTPS": True}) | st.just({"TCPForward": "127.0.0.1:8085"}) | opaque, max_size=3)
funnels = st.dictionaries(names, st.booleans(), max_size=3)


def layers() -> st.SearchStrategy[dict[str, Any]]:
    known = {"TCP": tcps | st.none(), "Web": webs | st.none(), "AllowFunnel": funnels | st.none()}
    return st.builds(
        lambda known, unknown: {**unknown, **known},
        st.fixed_dictionaries({}, optional=known),
        st.dictionaries(st.sampled_from(["Services", "New", "ETag"]), opaque, max_size=2),
    )


configs = st.builds(
    lambda layer, sessions: {**layer, **({} if sessions is None else {"Foreground": sessions})},
    layers(),
    st.none() | st.dictionaries(st.sampled_from(["s1", "s2"]), layers(), max_size=2),
)


def published(config: ServeConfig) -> list[tuple[str, str, int, str]]:
    found = [entry for port in (443, 8443, 18443, 10000) for entry in config.entries(port)]
    return [(one.session, one.host, one.port, one.target) for one in found]


def key(entry: Entry) -> tuple[str, str, int, str]:
    return (entry.session, entry.host, entry.port, entry.target)


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return all that is in a configuration, by where it is; tables that are empty are nothing."""
    if isinstance(value, dict):
        return {where: leaf for name, one in value.items() for where, leaf in leaves(one, (*path, name)).items()}
    return {path: value}


@given(configs, st.booleans())
def test_what_leads_to_us_is_gone_and_the_rest_is_as_it_was(raw: dict[str, Any], sessions: bool) -> None:  # noqa: FBT001
    before = copy.deepcopy(raw)
    config = ServeConfig(raw)
    left, gone = without(config, PORT, TARGET, sessions=sessions)
    assert raw == before
    assert all(one.aims_at(TARGET) and one.port == PORT and (sessions or not one.session) for one in gone)
    still = ServeConfig(left)
    assert published(still) == [one for one in published(config) if one not in [key(entry) for entry in gone]]
    assert not [one for one in still.entries(PORT) if one.aims_at(TARGET) and (sessions or not one.session)]
    assert without(still, PORT, TARGET, sessions=sessions) == (left, [])


@given(configs, st.booleans())
def test_nothing_is_taken_out_but_keys_of_our_port(raw: dict[str, Any], sessions: bool) -> None:  # noqa: FBT001
    left, gone = without(ServeConfig(raw), PORT, TARGET, sessions=sessions)
    if not gone:
        assert left == raw
    before, after = leaves(raw), leaves(left)
    assert after.items() <= before.items() or all(before[where] == leaf for where, leaf in after.items())
    for path in before.keys() - after.keys():
        depth = 2 if path[0] == "Foreground" else 0
        assert path[depth] in {"TCP", "Web", "AllowFunnel"}
        assert path[depth + 1] == "8443" or path[depth + 1].endswith(":8443")
        assert sessions or depth == 0


def test_the_last_of_it_leaves_nothing_behind() -> None:
    name = f"home.a.ts.net:{PORT}"
    layer = {
        "TCP": {str(PORT): {"HTTPS": True}},
        "Web": {name: {"Handlers": {"/": {"Proxy": TARGET}}}},
        "AllowFunnel": {name: True},
    }
    assert without(ServeConfig(layer), PORT, TARGET)[0] == {}
    in_session = {"Foreground": {"s1": layer}}
    assert without(ServeConfig(in_session), PORT, TARGET)[0] == in_session
    assert without(ServeConfig(in_session), PORT, TARGET, sessions=True)[0] == {}


def test_a_session_that_publishes_more_goes_on_with_the_rest() -> None:
    def web(port: int) -> dict[str, Any]:
        return {f"home.a.ts.net:{port}": {"Handlers": {"/": {"Proxy": TARGET}}}}

    https = {"HTTPS": True}
    raw = {"Foreground": {"s1": {"TCP": {"443": https, "8443": https}, "Web": {**web(443), **web(8443)}}}}
    left, _ = without(ServeConfig(raw), PORT, TARGET, sessions=True)
    assert left == {"Foreground": {"s1": {"TCP": {"443": https}, "Web": web(443)}}}


def test_another_name_on_the_same_port_keeps_it() -> None:
    others = {"other.a.ts.net:8443": {"Handlers": {"/": {"Proxy": "http://127.0.0.1:9000"}}}}
    raw = {
        "TCP": {"8443": {"HTTPS": True}},
        "Web": {"old.a.ts.net:8443": {"Handlers": {"/": {"Proxy": TARGET}}}, **others},
        "AllowFunnel": {"old.a.ts.net:8443": True, "other.a.ts.net:8443": True},
    }
    left, gone = without(ServeConfig(raw), PORT, TARGET)
    assert [one.host for one in gone] == ["old.a.ts.net"]
    assert left == {"TCP": raw["TCP"], "Web": others, "AllowFunnel": {"other.a.ts.net:8443": True}}
