"""What GitHub is told is public: which verdict it was, in words of ours, short enough and for every verdict."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gitops import github
from homelab_agent.gitops.delivery import GOOD, Verdict, Word
from homelab_agent.gitops.github import DESCRIPTION_MAX, said

WORDS = get_args(Word)
REACHED = "ab12cd3" + "0" * 33


@given(st.sampled_from(WORDS), st.text(max_size=500), st.text(max_size=500))
def test_nothing_of_detail_and_repair_is_told(word: Word, detail: str, repair: str) -> None:
    assert said(Verdict(word, detail, repair, sha_reached=REACHED)) == said(Verdict(word, sha_reached=REACHED))


@pytest.mark.parametrize("word", WORDS)
def test_every_verdict_has_words_that_fit_and_the_right_state(word: Word) -> None:
    state, description = said(Verdict(word, sha_reached=REACHED))
    assert state == ("success" if word in GOOD else "failure")
    assert 0 < len(description) <= DESCRIPTION_MAX
    pushed = set(WORDS) - {"pong", "ignored", "duplicate"}  # those never come to a commit's status
    assert word not in pushed or description != word


def test_a_superseded_commit_says_where_it_is_and_a_bad_one_where_it_went() -> None:
    assert said(Verdict("included", sha_reached=REACHED)) == ("success", "included in ab12cd3")
    assert said(Verdict("rolled_back", sha_reached=REACHED)) == ("failure", "rolled back to ab12cd3")
    assert github.said(Verdict("rolled_back"))[1] == "rolled back to nothing"
