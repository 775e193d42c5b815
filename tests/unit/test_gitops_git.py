"""What the sync script prints is believed only where it is what the script says it prints."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gitops.delivery import Word
from homelab_agent.gitops.execution import commands
from homelab_agent.gitops.git import SCRIPT, VERDICTS, understood
from homelab_agent.gitops.settings import Action

LINE: dict[str, Any] = {
    "verdict": "ok", "detail": "main moved on by 1 commit", "repair": [], "branch": "main", "asked": "",
    "head_before": "0" * 40, "head": "1" * 40, "target": "1" * 40, "commits": 1, "plan": False,
}  # fmt: skip


def test_a_line_of_the_script_is_taken_as_it_is() -> None:
    assert understood(json.dumps(LINE).encode() + b"\n") == LINE


@pytest.mark.parametrize(
    "wrong",
    [{"verdict": "fine"}, {"verdict": None}, {"verdict": ["ok"]}, {"detail": 1}, {"repair": "git status"},
     {"repair": [1]}, {"head": None}, {"commits": "1"}],
)  # fmt: skip
def test_a_line_with_something_else_in_it_is_not(wrong: dict[str, Any]) -> None:
    assert understood(json.dumps({**LINE, **wrong}).encode()) is None


@pytest.mark.parametrize("missing", ["verdict", "detail", "repair", "head_before", "head", "target", "commits"])
def test_a_line_that_lacks_something_is_not(missing: str) -> None:
    assert understood(json.dumps({key: value for key, value in LINE.items() if key != missing}).encode()) is None


@given(printed=st.binary() | st.text().map(str.encode) | st.just(json.dumps(LINE).encode() * 2) | st.just(b"[" * 9000))
def test_anything_else_is_not(printed: bytes) -> None:
    assert understood(printed) is None


def test_the_verdicts_are_those_of_the_script_and_a_delivery_can_have_each() -> None:
    codes = SCRIPT.read_text().split("codes='")[1].split("'")[0]
    assert {code.partition(":")[0] for code in codes.split()} == VERDICTS
    assert set(get_args(Word)) >= VERDICTS


@pytest.mark.parametrize(
    ("action", "argv"),
    [
        ({"command": ["./deploy.sh", "-x"]}, [["sh", "-c", 'exec "$@"', "sh", "./deploy.sh", "-x"]]),
        ({"command": ["bin/a=b"]}, [["sh", "-c", 'exec "$@"', "sh", "bin/a=b"]]),
        ({"command": ["/bin/true"]}, [["/bin/true"]]),
        ({"command": ["rsync", "-a", "."]}, [["rsync", "-a", "."]]),
        ({"kind": "compose"}, [["docker", "compose", "up", "--detach", "--quiet-pull"]]),
        ({"kind": "make"}, [["make"]]),
        ({"kind": "make", "target": "-f"}, [["make", "--", "-f"]]),
        (
            {"kind": "systemctl", "units": ["a.service", "--force"]},
            [["systemctl", "restart", "--", "a.service"], ["systemctl", "restart", "--", "--force"]],
        ),
    ],
)
def test_an_action_is_these_words_and_no_others(action: dict[str, Any], argv: list[list[str]]) -> None:
    assert commands(Action(name="x", **action)) == argv
