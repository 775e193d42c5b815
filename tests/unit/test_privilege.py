"""What a verb takes is what it says, and nothing else."""

from __future__ import annotations

import os
import pwd
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.arguments import SHAS_MAX, Flag, Name, Number, Sha, Shas
from homelab_agent.core.errors import Exit
from homelab_agent.core.privilege import (
    Answer,
    Call,
    NoSuchUser,
    NotThatUser,
    PrivilegedUnavailable,
    Unprivileged,
    Verb,
    VerbFailed,
    VerbRefused,
    user,
)


async def nothing(call: Call) -> Answer:
    return {}


VERB = Verb("move", nothing, {"what": Name({"chair", "table"}), "sha": Sha(), "far": Number(1, 9)}, frozenset({"far"}))
SHA = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.from_regex("[0-9a-f]{39,65}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("given_arguments", "reason"),
    [
        ({"sha": "0" * 40}, "move needs what"),
        ({"what": "chair", "sha": "0" * 40, "whom": "me"}, "move has no argument 'whom'"),
        ({"what": "bed", "sha": "0" * 40}, "what of move must be a name in the configuration"),
        ({"what": "chair", "sha": "0" * 41}, "sha of move must be 40 or 64 hexadecimal digits"),
        ({"what": "chair", "sha": "0" * 40, "far": 10}, "far of move must be a whole number from 1 to 9"),
        ({"what": "chair", "sha": "0" * 40, "far": True}, "far of move must be a whole number"),
        ({"what": "chair", "sha": "0" * 40, "far": 1.0}, "far of move must be a whole number"),
    ],
)
def test_what_is_wrong_with_an_argument_is_told(given_arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(VerbRefused, match=f"does not do that: {reason}") as caught:
        VERB.check(given_arguments)
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("sha", ["0" * 40, "0123456789abcdef" * 4])
def test_what_may_be_left_out_may_be_given(sha: str) -> None:
    assert VERB.check({"what": "table", "sha": sha}) == {"what": "table", "sha": sha}
    assert VERB.check({"what": "table", "sha": sha, "far": 9}) == {"what": "table", "sha": sha, "far": 9}


@given(ANYTHING)
def test_a_sha_is_nothing_but_digits(value: object) -> None:
    try:
        checked = Sha().check(value)
    except ValueError:
        assert not (isinstance(value, str) and SHA.fullmatch(value))
    else:
        assert isinstance(checked, str)
        assert len(checked) in {40, 64}
        assert not checked.strip("0123456789abcdef")


@given(st.lists(st.from_regex("[0-9a-f]{40}", fullmatch=True) | ANYTHING, max_size=5) | ANYTHING)
def test_many_shas_are_a_list_of_them(value: object) -> None:
    try:
        checked = Shas().check(value)
    except ValueError:
        assert not (isinstance(value, list) and all(isinstance(one, str) and SHA.fullmatch(one) for one in value))
    else:
        assert checked == value
        assert isinstance(checked, list)


def test_more_shas_than_fit_are_refused() -> None:
    assert Shas().check(["0" * 40] * SHAS_MAX)
    with pytest.raises(ValueError, match="at most"):
        Shas().check(["0" * 40] * (SHAS_MAX + 1))


@given(ANYTHING)
def test_a_flag_is_yes_or_no(value: object) -> None:
    try:
        assert Flag().check(value) in {True, False}
        assert isinstance(value, bool)
    except ValueError:
        assert not isinstance(value, bool)


@given(st.dictionaries(st.sampled_from(["what", "sha", "far", "whom", ""]), ANYTHING, max_size=4))
def test_rubbish_is_refused_and_never_anything_else(arguments: dict[str, Any]) -> None:
    try:
        checked = VERB.check(arguments)
    except VerbRefused:
        return
    assert checked == arguments
    assert arguments["what"] in {"chair", "table"}


@pytest.mark.parametrize(
    ("code", "exit_code"), [(75, Exit.BUSY), (1, Exit.FAILED), (-3, Exit.FAILED), (99, Exit.FAILED)]
)
def test_a_failure_keeps_its_words_and_an_exit_code_that_there_is(code: int, exit_code: Exit) -> None:
    error = VerbFailed(message="The {wood} is wet.", cause="rain", repair="dry {it}", code=code)
    assert str(error) == "The {wood} is wet. (rain)"
    assert (error.repair, error.exit_code) == ("dry {it}", exit_code)


async def test_without_a_root_half_that_is_said() -> None:
    half = Unprivileged()
    with pytest.raises(PrivilegedUnavailable, match="none here for move"):
        await half.call("move", deadline=1)
    with pytest.raises(PrivilegedUnavailable, match="none here for move"):
        half.lease("move", deadline=1)


def test_a_user_is_found_by_name_and_number_and_is_who_we_are_or_we_are_root() -> None:
    us = pwd.getpwuid(os.geteuid())
    for who in (us.pw_name, us.pw_uid):
        found = user(who)
        assert (found.name, found.uid, found.home, found.switch) == (us.pw_name, us.pw_uid, us.pw_dir, None)
        assert found.environment == {"HOME": us.pw_dir, "USER": us.pw_name, "LOGNAME": us.pw_name}
    with pytest.raises(NoSuchUser):
        user("nobody-at-all")
    if os.geteuid() == 0:
        assert user("nobody").switch is not None
    else:
        with pytest.raises(NotThatUser):
            user("root")
