"""The section `[gate]`: what it accepts, and what it says of what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from homelab_agent.gate.settings import GateSettings


def test_without_a_word_no_door_is_opened() -> None:
    section = GateSettings()
    assert (section.funnel, section.tailnet, section.grafana, section.resolver) == (False, False, "", "")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"funnel": True, "tailnet": True, "port": 443}, "`port` and `tailnet_port` are the same"),
        (
            {"tailnet": True, "grafana": "http://127.0.0.1:3000", "grafana_port": 443},
            "`tailnet_port` and `grafana_port` are the same",
        ),
        (
            {"funnel": True, "tailnet": True, "grafana": "http://127.0.0.1:3000", "grafana_port": 8443},
            "`port` and `grafana_port` are the same",
        ),
        ({"safe_versions": ["1.102"]}, "'1.102' is no range of versions"),
        ({"safe_versions": [">=1.102 or so"]}, "'>=1.102 or so' is no range of versions"),
        ({"safe_versions": [">=1.102", "<="]}, "'<=' is no range of versions"),
        ({"safe_versions": []}, "at least 1 item"),
        ({"in_doubt": 9.0}, "`in_doubt` (9 s) is longer than `every` (5 s)"),
        ({"rise": 0}, "greater than or equal to 1"),
        ({"fall": 0}, "greater than or equal to 1"),
        ({"every": 0}, "greater than 0"),
        ({"port": 65536}, "less than or equal to 65535"),
        ({"resolver": "http://192.0.2.1/dns-query"}, "should match pattern"),
        ({"grafana": "127.0.0.1:3000"}, "should match pattern"),
        ({"grafana": "http://127.0.0.1:3000/x"}, "should match pattern"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GateSettings(**section)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "section",
    [
        {"tailnet": True, "port": 443},
        {"funnel": True, "port": 443},
        {"funnel": True, "tailnet": True, "port": 3443},
        {"safe_versions": ["<1.50", ">= 1.98.9,< 1.99", ">=1.102"]},
        {"every": 1.0, "in_doubt": 1.0},
        {"resolver": "https://dns.quad9.net/dns-query"},
    ],
)
def test_what_can_be_is_taken(section: dict[str, Any]) -> None:
    assert {name: getattr(GateSettings(**section), name) for name in section} == section
