"""journalctl's lines become events again: by the journal's own fields, else by the JSON of the message."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.journal import entries, journalctl
from homelab_agent.core.journal.entries import Wanted
from homelab_agent.core.journal.line import as_text
from homelab_agent.core.journal.sink import PRIORITY, with_priority

LEVELS = frozenset(PRIORITY)
AT = {"__REALTIME_TIMESTAMP": "1796040000000000"}
SAID = {"level": "warning", "component": "gate", "event": "gate.shut", "host": "nas", "why": "held", "run_id": "r1"}


def line(**fields: Any) -> str:
    return json.dumps({**AT, **fields})


def read(**fields: Any) -> dict[str, Any]:
    found = entries.event(line(**fields))
    assert found is not None
    return found


@pytest.mark.parametrize("message", [json.dumps(SAID), with_priority(SAID), list(json.dumps(SAID).encode())])
def test_an_event_is_known_by_its_json_alone(message: object) -> None:
    assert read(MESSAGE=message, PRIORITY="4") == {**SAID, "time": "2026-11-30T12:00:00.000Z"}


def test_the_journals_own_fields_count_more() -> None:
    found = read(MESSAGE=json.dumps(SAID), HOMELAB_RUN_ID="r2", HOMELAB_EVENT="gate.opened", HOMELAB_COMPONENT="gate")
    assert (found["run_id"], found["event"], found["why"]) == ("r2", "gate.opened", "held")


def test_what_somebody_else_says_is_told_with_the_name_it_goes_by() -> None:
    found = read(MESSAGE="Started \x1b[31mthe_agent\n.", PRIORITY="6", SYSLOG_IDENTIFIER="systemd", _HOSTNAME="nas")
    assert (found["component"], found["level"], found["host"]) == ("systemd", "info", "nas")
    shown = as_text(found, colours=False)
    assert "the_agent" in shown
    assert "\x1b" not in shown


@given(
    st.dictionaries(
        st.sampled_from([*entries.FIELDS, *AT]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_no_entry_keeps_the_others_from_being_read(fields: dict[str, Any]) -> None:
    found = entries.event(json.dumps(fields))
    if found is not None:
        assert Wanted().has(found)
        assert as_text(found, colours=False)


@pytest.mark.parametrize("strange", [[], {}, [{}], None, 7, "loud", "\ud800"])
@pytest.mark.parametrize("name", ["level", "component", "event", "run_id", "host", "time", "traceback"])
def test_whoever_writes_json_under_the_agents_name_keeps_nobody_from_the_rest(name: str, strange: Any) -> None:
    found = read(MESSAGE=json.dumps({**SAID, name: strange}))
    for wanted in (Wanted(), Wanted("gate", "r1", "gate.*", "error"), Wanted(run_id="r1")):
        assert wanted.has(found) in {True, False}
    assert found["level"] in LEVELS
    assert as_text(found, colours=False).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
)
NAMES = ("level", "component", "event", "run_id", "host", "time", "traceback", "message")


@given(st.text(), st.dictionaries(st.sampled_from(NAMES), JSON), JSON)
def test_no_message_does_either(text: str, said: dict[str, Any], others: Any) -> None:
    for message in (text, json.dumps({**SAID, **said}), json.dumps({**SAID, "more": others}), json.dumps(others)):
        found = read(MESSAGE=message)
        Wanted("x", "y", "z", "error").has(found)
        Wanted(run_id="r1", level="info").has(found)
        assert found["level"] in LEVELS
        assert as_text(found, colours=False).encode()
        assert json.dumps(found)
    assert entries.event(text) is None or text.strip().startswith("{")


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        (Wanted(), True),
        (Wanted(component="gate", run_id="r1", event="gate.shut", level="warning"), True),
        (Wanted(event="gate.*"), True),
        (Wanted(event="gate"), False),
        (Wanted(component="gitops"), False),
        (Wanted(run_id="r"), False),
        (Wanted(level="error"), False),
        (Wanted(level="debug"), True),
    ],
)
def test_what_is_wanted(wanted: Wanted, *, has: bool) -> None:
    assert wanted.has({**SAID}) is has


def test_a_time_before_journalctls_first_is_its_first() -> None:
    moon, later = datetime(1969, 7, 20, tzinfo=UTC), datetime(2026, 7, 4, tzinfo=UTC)
    assert "--since=@0.000000" in journalctl.arguments(moon, None, follow=False)
    words = journalctl.arguments(moon, moon, follow=False)
    assert [word for word in words if word.startswith("--until")] == ["--until=@0.000000"]
    assert "--since=@1783123200.000000" in journalctl.arguments(later, None, follow=False)
