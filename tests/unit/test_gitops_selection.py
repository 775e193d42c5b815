"""What follows from an event: a closed table of event, action and ref, for the configured repositories only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gitops.event import Event, Origin, Other, Ping, PullRequest, Push
from homelab_agent.gitops.selection import Accepted, Decision, Ignored, Pong, select
from homelab_agent.gitops.settings import Repository
from tests import hooks, payloads

ORIGIN = Origin(payloads.FULL_NAME, payloads.NUMBER)
SHA = payloads.sha("x")
MAIN = "refs/heads/main"


def configured(*more: Repository) -> list[Repository]:
    return [Repository.model_validate(hooks.repository()), *more]


def other(name: str, **changes: Any) -> Repository:
    return Repository.model_validate(hooks.repository(name, **changes))


def decide(
    event: Event,
    repositories: Sequence[Repository] = (),
    *,
    signers: frozenset[str] = frozenset({"homelab"}),
    ids: Mapping[str, int] | None = None,
) -> Decision:
    known = {"homelab": payloads.NUMBER} if ids is None else ids
    return select(event, repositories or configured(), signers=signers, ids=known)


def ignored(decision: Decision, *words: str, repository: str = "homelab") -> bool:
    return (
        isinstance(decision, Ignored)
        and decision.repository == repository
        and all(word in decision.why for word in words)
    )


TABLE: list[tuple[Event, Decision | tuple[str, ...]]] = [
    (Push(ORIGIN, MAIN, SHA), Accepted("homelab")),
    (Push(ORIGIN, MAIN, ""), (MAIN, "deleted")),
    (Push(ORIGIN, "refs/heads/topic", SHA), ("refs/heads/topic", "not", MAIN)),
    (Push(ORIGIN, "refs/heads/x/main", SHA), ("refs/heads/x/main",)),
    (Push(ORIGIN, "refs/heads/Main", SHA), ("refs/heads/Main",)),
    (Push(ORIGIN, "refs/tags/main", SHA), ("refs/tags/main",)),
    (PullRequest(ORIGIN, "closed", MAIN, SHA), Accepted("homelab")),
    (PullRequest(ORIGIN, "closed", MAIN, ""), ("without being merged",)),
    (PullRequest(ORIGIN, "closed", "refs/heads/topic", SHA), ("merged into refs/heads/topic",)),
    (PullRequest(ORIGIN, "opened", MAIN, ""), ("is opened, not closed",)),
    (PullRequest(ORIGIN, "synchronize", MAIN, SHA), ("is synchronize, not closed",)),
    (Ping(ORIGIN, active=True, events=("push",), verifies_tls=True), Pong("homelab", ())),
    (Other(ORIGIN, "the event star is not acted upon"), ("the event star is not acted upon",)),
]


@pytest.mark.parametrize(("event", "expected"), TABLE, ids=lambda value: type(value).__name__)
def test_the_table(event: Event, expected: Decision | tuple[str, ...]) -> None:
    decision = decide(event)
    if isinstance(expected, tuple):
        assert ignored(decision, *expected), decision
    else:
        assert decision == expected


def test_a_ping_says_what_the_hook_lacks() -> None:
    pong = decide(Ping(ORIGIN, active=False, events=("issues",), verifies_tls=False))
    assert isinstance(pong, Pong)
    assert [hint.partition(":")[0] for hint in pong.hints] == [
        "it does not send pushes",
        "it is not active",
        "it does not verify TLS",
    ]
    everything = decide(Ping(ORIGIN, active=True, events=("*",), verifies_tls=True))
    assert everything == Pong("homelab", ())


def test_what_names_no_repository_or_one_that_is_not_configured_is_ignored() -> None:
    hook_of_an_organisation = Ping(None, active=True, events=("push",), verifies_tls=True)
    assert ignored(decide(hook_of_an_organisation), "names no repository", repository="")
    for name in ("someone/homelab", "octo/homelab2", "octo/home", "homelab/octo"):
        assert ignored(decide(Push(Origin(name, payloads.NUMBER), MAIN, SHA)), name, repository="")
    assert ignored(decide(Push(ORIGIN, MAIN, SHA), [other("elsewhere", full_name="a/b")]), repository="")


def test_forges_write_a_name_in_any_case() -> None:
    assert decide(Push(Origin("Octo/HomeLab", payloads.NUMBER), MAIN, SHA)) == Accepted("homelab")


def test_a_valid_signature_is_not_authorisation_for_another_repository() -> None:
    both = configured(other("second", full_name="octo/second", id=7))
    second = Push(Origin("octo/second", 7), MAIN, SHA)
    decision = decide(second, both, signers=frozenset({"homelab"}), ids={"homelab": payloads.NUMBER, "second": 7})
    assert ignored(decision, "secret of another repository", repository="")
    assert decide(second, both, signers=frozenset({"second"}), ids={}) == Accepted("second")


def test_a_name_that_somebody_else_has_taken_since_is_ignored_with_what_to_do() -> None:
    stranger = Push(Origin(payloads.FULL_NAME, 666), MAIN, SHA)
    assert ignored(decide(stranger), "666", str(payloads.NUMBER), "the key id of")
    assert decide(stranger, ids={}) == Accepted("homelab"), "no number is known yet"


def test_two_working_copies_may_follow_two_branches_of_one_repository() -> None:
    both = configured(other("staging", branch="next"))
    signers = frozenset({"homelab", "staging"})
    assert decide(Push(ORIGIN, "refs/heads/next", SHA), both, signers=signers) == Accepted("staging")
    assert decide(Push(ORIGIN, MAIN, SHA), both, signers=signers) == Accepted("homelab")
    merged = PullRequest(ORIGIN, "closed", "refs/heads/next", SHA)
    assert decide(merged, both, signers=signers) == Accepted("staging")
    neither = decide(Push(ORIGIN, "refs/heads/topic", SHA), both, signers=signers)
    assert ignored(neither, "refs/heads/main or refs/heads/next")


def test_with_secrets_of_their_own_two_working_copies_may_follow_one_branch() -> None:
    both = configured(other("mirror"))
    for name in ("homelab", "mirror"):
        assert decide(Push(ORIGIN, MAIN, SHA), both, signers=frozenset({name})) == Accepted(name)


NAMES = st.sampled_from(["octo/homelab", "octo/second", "evil/homelab", "octo/x"])
REFS = st.sampled_from([MAIN, "refs/heads/next", "refs/tags/v1", "refs/heads/"])
EVENTS = st.one_of(
    st.builds(Push, st.builds(Origin, NAMES, st.integers(1, 9)), REFS, st.sampled_from(["", SHA])),
    st.builds(
        PullRequest,
        st.builds(Origin, NAMES, st.integers(1, 9)),
        st.sampled_from(["closed", "opened"]),
        REFS,
        st.sampled_from(["", SHA]),
    ),
)


@given(event=EVENTS, signers=st.frozensets(st.sampled_from(["homelab", "second"])), number=st.integers(0, 9))
def test_nothing_is_synced_that_its_signer_its_name_its_number_and_its_ref_do_not_agree_on(
    event: Push | PullRequest, signers: frozenset[str], number: int
) -> None:
    repositories = [other("homelab", id=1), other("second", full_name="octo/second", branch="next", id=number)]
    ids = {one.name: one.id for one in repositories if one.id}
    decision = select(event, repositories, signers=signers, ids=ids)
    if isinstance(decision, Accepted):
        (meant,) = [one for one in repositories if one.name == decision.repository]
        assert meant.name in signers
        assert meant.full_name == event.origin.full_name
        assert meant.id in {0, event.origin.id}
        assert event.ref == f"refs/heads/{meant.branch}"
