"""What Tailscale's command says becomes a cause with a repair, and what it only chats does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gate.cause import Heard, understood

BANNER = [
    "Available on the internet:",
    "https://home.a.ts.net:8443/",
    "|-- proxy http://127.0.0.1:8085",
    "Press Ctrl+C to exit.",
]


@pytest.mark.parametrize(
    ("line", "what", "repair"),
    [
        (
            "updating config: listener already exists for port 8443",
            "something else is published on port 8443",
            "tailscale funnel status --json",
        ),
        (
            "Funnel not available; HTTPS must be enabled. See https://tailscale.com/s/https.",
            "the tailnet gives this node no certificate",
            "Enable MagicDNS and HTTPS certificates: https://login.tailscale.com/admin/dns",
        ),
        (
            "port 443 is not allowed for funnel; allowed ports are: 8443,10000",
            "the tailnet's policy has to allow Funnel on port 443, whichever is used (it allows: 8443,10000)",
            "https://login.tailscale.com/admin/acls",
        ),
        ("unexpected state: NoState", "tailscaled is not ready yet", "systemctl status tailscaled"),
        ("unexpected state: Starting", "tailscaled is not ready yet", "systemctl status tailscaled"),
        ("updating config: netMap is nil", "tailscaled is not ready yet", "systemctl status tailscaled"),
        (
            "Another client is changing the serve config; please try again.",
            "somebody else changed what tailscaled publishes at the same time",
            "",
        ),
        (
            "updating config: can't reconfigure tailscaled when using a config file; config file is locked",
            "tailscaled takes what it publishes from a file, and from nobody else",
            "start tailscaled without --config",
        ),
        (
            "         https://login.tailscale.com/f/funnel?node=n123",
            "the tailnet's owner has to allow this first",
            "Allow it: https://login.tailscale.com/f/funnel?node=n123",
        ),
    ],
)
def test_what_it_says_against_a_door(line: str, what: str, repair: str) -> None:
    found = understood(line)
    assert found is not None
    assert (found.what, found.repair, found.blocks) == (what, repair, True)


@pytest.mark.parametrize(
    "line",
    [*BANNER, "", 'Warning: client version "1.102.3" != tailscaled server version "1.98.9"', "Available within your"],
)
def test_what_says_nothing_against_it(line: str) -> None:
    assert understood(line) is None


def test_the_first_cause_counts() -> None:
    heard = Heard()
    heard.take("stderr", "Another client is changing the serve config; please try again.")
    heard.take("stderr", "error: unexpected EOF")
    assert heard.cause is not None
    assert heard.cause.what.startswith("somebody else changed")
    assert heard.end(1) == heard.cause


def test_what_has_come_is_not_waited_for() -> None:
    heard = Heard()
    causes = []
    for line in ["         https://login.tailscale.com/f/funnel", *BANNER]:
        heard.take("stdout", line)
        causes.append(heard.cause is not None)
    assert causes == [True, *[False] * len(BANNER)]
    assert heard.end(0).what == "tailscale ended (exit code 0) without a word"


@pytest.mark.parametrize(
    ("stream", "said", "code", "what"),
    [
        ("stderr", ["flag provided but not defined: -https"], 2, "(exit code 2) and said: flag provided but not"),
        ("stdout", ["Not on Sundays.", ""], 0, "(exit code 0) and said: Not on Sundays."),
        ("stdout", BANNER, -9, "(signal 9) without a word"),
        ("stderr", [*BANNER, "something new"], 1, "(exit code 1) and said: something new"),
    ],
)
def test_what_is_not_known_is_told_in_its_own_words(stream: str, said: list[str], code: int, what: str) -> None:
    heard = Heard()
    for line in said:
        heard.take("stdout" if line in BANNER or stream == "stdout" else "stderr", line)
    assert what in heard.end(code).what
    assert heard.end(code).repair == "systemctl status tailscaled"


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text())), st.integers(-64, 255))
def test_whatever_it_says_its_end_has_a_cause(lines: list[tuple[str, str]], code: int) -> None:
    heard = Heard()
    for stream, line in lines:
        heard.take("stderr" if stream == "stderr" else "stdout", line)
    assert heard.end(code).what
