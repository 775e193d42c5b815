"""What a body says: the shapes that are known, and everything else."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.gitops.event import NotJson, Origin, Other, Ping, PullRequest, Push, understand
from tests import payloads

ORIGIN = Origin(payloads.FULL_NAME, payloads.NUMBER)
AFTER = payloads.sha("after")


def read(name: str, payload: payloads.Payload) -> object:
    return understand(name, payloads.encode(payload))


def why(name: str, payload: payloads.Payload) -> str:
    event = read(name, payload)
    assert isinstance(event, Other)
    return event.why


def test_a_push_says_which_ref_is_where_now() -> None:
    assert read("push", payloads.push(after=AFTER)) == Push(ORIGIN, "refs/heads/main", AFTER)
    longer = AFTER + AFTER[:24]
    assert read("push", payloads.push(after=longer)) == Push(ORIGIN, "refs/heads/main", longer)


def test_a_deleted_branch_is_nowhere() -> None:
    assert read("push", payloads.deletion()) == Push(ORIGIN, "refs/heads/main", "")
    assert read("push", payloads.push(after="0" * 40)) == Push(ORIGIN, "refs/heads/main", "")


def test_a_pull_request_says_what_its_merge_made() -> None:
    merge = payloads.sha("merge")
    assert read("pull_request", payloads.pull_request()) == PullRequest(ORIGIN, "closed", "refs/heads/main", merge)
    unmerged = read("pull_request", payloads.pull_request(merged=False))
    assert unmerged == PullRequest(ORIGIN, "closed", "refs/heads/main", "")


def test_a_ping_says_how_the_hook_is_set_up() -> None:
    assert read("ping", payloads.ping()) == Ping(ORIGIN, active=True, events=("push",), verifies_tls=True)
    badly = payloads.ping(events=("issues",), active=False, insecure_ssl="1")
    assert read("ping", badly) == Ping(ORIGIN, active=False, events=("issues",), verifies_tls=False)


def test_a_ping_of_an_organisations_hook_names_no_repository() -> None:
    payload = payloads.ping()
    del payload["repository"]
    assert read("ping", payload) == Ping(None, active=True, events=("push",), verifies_tls=True)


@pytest.mark.parametrize("name", ["issues", "create", "workflow_run", "push_", "delete", "star"])
def test_other_events_are_named_and_not_acted_upon(name: str) -> None:
    assert why(name, payloads.push()) == f"the event {name} is not acted upon"


def test_the_name_of_an_event_is_believed_only_if_its_body_has_the_shape() -> None:
    bodies = {"push": payloads.push(), "pull_request": payloads.pull_request(), "ping": payloads.ping()}
    for name in bodies:
        for of, payload in bodies.items():
            assert isinstance(read(name, payload), Other) == (name != of), (name, of)
    assert why("ping", payloads.push()) == "it came as ping, and its body is not that of one"


@pytest.mark.parametrize(
    "changes",
    [
        {"ref": "main"},
        {"ref": 7},
        {"ref": None},
        {"after": "HEAD"},
        {"after": "--upload-pack=touch /tmp/x"},
        {"after": payloads.sha("x")[:39]},
        {"after": payloads.sha("x").upper()},
        {"after": payloads.sha("x") + "\n"},
        {"before": ""},
        {"commits": None},
        {"commits": {}},
        {"action": "closed"},
        {"repository": None},
        {"repository": {"full_name": "octo/homelab"}},
        {"repository": {"full_name": "octo/homelab", "id": "4242"}},
        {"repository": {"full_name": "octo/homelab", "id": True}},
        {"repository": {"full_name": "octo/homelab", "id": -1}},
        {"repository": {"full_name": "octo/homelab", "id": 2**63}},
        {"repository": {"full_name": "homelab", "id": 1}},
        {"repository": {"full_name": "../../etc", "id": 1}},
        {"repository": {"full_name": "octo/home lab", "id": 1}},
        {"repository": {"full_name": "octo/homelab\n", "id": 1}},
        {"repository": {"full_name": ["octo/homelab"], "id": 1}},
        {"repository": "octo/homelab"},
    ],
)
def test_a_push_of_another_shape_is_none(changes: payloads.Payload) -> None:
    assert isinstance(read("push", payloads.push(**changes)), Other)


def test_what_is_shown_later_is_bounded_and_printable() -> None:
    ref = "refs/heads/a\x1b[31m\n\u202e\ud800" + "x" * 5000
    event = understand("push", json.dumps(payloads.push(ref=ref)).encode())
    assert isinstance(event, Push)
    assert event.ref.startswith("refs/heads/a?[31m???xxx")
    assert len(event.ref) == 300


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe{}", b"null", b"[]", b'"push"', b"1", b"[" * 100_000, b"9" * 10_000, b"payload=%7B%7D"],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(NotJson):
        understand("push", body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=4,
)
WHOLE = {"push": payloads.push(), "pull_request": payloads.pull_request(), "ping": payloads.ping(), "other": {}}
FIELDS = st.sampled_from([(name, field) for name, payload in WHOLE.items() for field in payload] + [("other", "x")])


@settings(max_examples=2000, deadline=None)
@given(FIELDS, JSON)
def test_whatever_a_field_holds_it_is_understood_or_not_and_raises_nothing(field: tuple[str, str], by: object) -> None:
    name, spoilt = field
    event = understand(name, json.dumps(WHOLE[name] | {spoilt: by}).encode())
    match event:
        case Push(ref=ref, after=commit) | PullRequest(ref=ref, merged=commit):
            assert ref.startswith("refs/")
            assert commit == "" or re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit)
        case Ping() | Other():
            pass


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_no_json(body: bytes) -> None:
    with suppress(NotJson):
        assert isinstance(understand("push", body), Other)
