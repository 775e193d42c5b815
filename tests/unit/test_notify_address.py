"""What is secret in an address is masked, and nothing that a message needs: hosts, names, commands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.notify import address
from homelab_agent.notify.address import heartbeat_parts, secret_parts

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhYmMxMjM0NTYifQ.c2lnbmF0dXJlMTIzNDU2"
UUID = "0f0f0f0f-1111-4222-8333-444444444444"
KEY = "fqOOd6-F4MMNuCEnzTU01w"


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("ntfy://me:pass%20word@ntfy.example.net/alerts", ["pass word", "pass%20word"]),
        ("tgram://123456789:AAF-token_of_the_bot/12315544/", ["12315544", "123456789", "AAF-token_of_the_bot"]),
        ("json://localhost/hook?token=t0k3n0f0it", ["t0k3n0f0it"]),
        (f"hassio://ha.local:8123/{JWT}", [JWT]),
        ("pbul://o.gn5kj6nfhv736I7jC3cj3QLRiyhgl98b", ["o.gn5kj6nfhv736I7jC3cj3QLRiyhgl98b"]),
        ("mailtos://example.com?user=me&pass=hunter&smtp=smtp2.example.com", ["hunter"]),
        ("mailtos://hunter@example.com?user=me", ["hunter"]),
        (
            "jsons://web1.example.net/x?+Authorization=Bearer%20canary.abc",
            ["Bearer canary.abc", "Bearer%20canary.abc", "canary.abc"],
        ),
        ("mailtos://me:p[ss@example.net?to=me1@example.net", ["p[ss"]),
        ("ntfy://raspberrypi4:8080/alerts", []),
        ("ntfys://ntfy7.tailnet-1234.ts.net/homelab-agent", []),
        ("ntfy://topic-of-2026", ["topic-of-2026"]),
        ("https://discord.com/api/webhooks/123456789012/AbC-dEf0123456789", ["123456789012", "AbC-dEf0123456789"]),
    ],
)
def test_of_a_target(url: str, secret: list[str]) -> None:
    assert secret_parts(url) == secret


def test_a_name_that_all_may_know_is_none_wherever_it_stands() -> None:
    assert secret_parts("ntfy://ntfy.sh/raspberrypi4", {"raspberrypi4"}) == []
    assert heartbeat_parts(f"https://hc-ping.com/{KEY}/raspberrypi4", {"raspberrypi4"}) == [KEY]


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        (f"https://hc-ping.com/{UUID}", [UUID]),
        (f"https://hc.example.net/ping/{UUID}/start", [UUID]),
        (f"https://hc-ping.com/{KEY}/homelab-agent", [KEY]),
        (f"https://hc-ping.com/{KEY}/homelab-agent-backup-1", [KEY]),
        ("https://kuma/api/push/canary7Kuma?status=up&msg=OK&ping=", ["canary7Kuma"]),
        ("https://me:word@hc.example.net/ping/abcdefghijk/homelab-agent", ["word"]),
        ("https://elsewhere.example.net/p/0123456789abcdef/homelab-agent", ["0123456789abcdef"]),
        ("http://[bad/homelab-agent", []),
    ],
)
def test_of_a_heartbeat(url: str, secret: list[str]) -> None:
    assert heartbeat_parts(url) == secret


@given(st.text())
def test_whatever_stands_where_an_address_should_is_taken_apart(url: str) -> None:
    assert all(secret_parts(url))
    assert all(heartbeat_parts(url))


def test_what_stands_where_others_have_a_host_is_known_of_each_service() -> None:
    from apprise.manager_plugins import NotificationManager

    manager: Any = NotificationManager()  # type: ignore[no-untyped-call]
    manager.load_modules()
    always, some, schemes = set(), set(), {"http", "https"}
    for plugin in manager.plugins():
        known = {
            scheme
            for said in (plugin.protocol, plugin.secure_protocol)
            for scheme in ([said] if isinstance(said, str) else said or ())
        }
        schemes |= known
        having = ["{host}" in template for template in plugin.templates]
        always |= known if having and all(having) else set()
        some |= known if any(having) and not all(having) else set()
    before_paths = {scheme for scheme in schemes if address.HOSTS_BEFORE_PATHS.fullmatch(scheme)}
    tokens = {"betterstack", "fluxer", "fluxers", "lametric", "lametrics", "notifico", "notificos", "trigv", "trigvs"}
    assert {scheme for scheme in schemes if address.HOSTS.fullmatch(scheme)} == always | {"http", "https"}
    assert before_paths == some - tokens
