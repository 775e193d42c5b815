"""Which actions follow: globs mean what is documented, for every path, and the order is the configuration's."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homelab_agent.gitops.actions import chosen, matches
from homelab_agent.gitops.settings import Action

NAMES = st.text("ab.-[*?", min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
PARTS = st.one_of(
    st.just("**"),
    st.lists(
        st.sampled_from(["a", "b", ".", "-", "*", "?", "[ab]", "[!a]", "[^b]", "[a-b]"]), min_size=1, max_size=4
    ).map("".join),
)
GLOBS = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(lambda glob: "***" not in glob)


def documented(names: list[str], parts: list[str]) -> bool:
    """Say whether a glob stands for a path, word for word as the documentation has it."""
    if not parts:
        return not names
    first, *rest = parts
    if first == "**":
        if not rest:
            return bool(names)
        return any(documented(names[taken:], rest) for taken in range(len(names) + 1))
    return bool(names) and one_name(names[0], first) and documented(names[1:], rest)


def one_name(name: str, part: str) -> bool:
    """The same for one name, by a regular expression made in the plainest way."""
    pieces = re.findall(r"\[[!^]?[^]]+\]|.", part)
    pattern = "".join(
        ".*"
        if piece == "*"
        else "."
        if piece == "?"
        else piece.replace("[!", "[^")
        if len(piece) > 1
        else re.escape(piece)
        for piece in pieces
    )
    return re.fullmatch(pattern, name, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("glob", "stands_for", "not_for"),
    [
        ("**", ["a", "a/b", ".env", "a/.b/c"], []),
        ("*", ["a", ".env"], ["a/b"]),
        ("Makefile", ["Makefile"], ["a/Makefile", "Makefile2", "makefile", "Makefile/x"]),
        ("/Makefile", ["Makefile"], ["a/Makefile"]),
        ("**/Makefile", ["Makefile", "a/Makefile", "a/b/Makefile"], ["a/Makefile/b"]),
        ("compose/*/compose.yml", ["compose/loki/compose.yml"], ["compose/compose.yml", "compose/a/b/compose.yml"]),
        ("compose/**/compose.yml", ["compose/compose.yml", "compose/a/b/compose.yml"], ["compose.yml", "x/compose/a"]),
        ("docs/**", ["docs/a", "docs/a/b"], ["docs", "docs2/a", "a/docs/b"]),
        ("docs/", ["docs/a", "docs/a/b"], ["docs", "docs2/a"]),
        ("/", ["a", "a/b"], []),
        ("a**", ["a", "ab"], ["a/b"]),
        ("?.[ch]", ["a.c", "b.h"], ["ab.c", "a.o", ".c"]),
        ("[!a-m]*", ["n", "z.txt"], ["a", "monday"]),
        ("[^a-m]*", ["n", "z.txt"], ["a", "monday"]),
        ("a[", ["a["], ["a"]),
        ("", [], ["a", "a/b"]),
        ("Straße/*", ["Straße/ä"], ["strasse/a"]),
        ("*\n*", ["a\nb"], ["ab"]),
    ],
)
def test_a_glob_stands_for_what_the_documentation_says(glob: str, stands_for: list[str], not_for: list[str]) -> None:
    assert [path for path in [*stands_for, *not_for] if matches(path, glob)] == stands_for


@given(PATHS, GLOBS)
@example("a/b/a/b/a", "**/a/**/b/*")
def test_every_glob_and_path_are_as_documented(path: str, glob: str) -> None:
    assert matches(path, glob) == documented(path.split("/"), glob.split("/"))


def test_a_glob_made_to_be_slow_is_not() -> None:
    """Tried in every way it would take longer than the universe has: that this returns at all is the test."""
    assert not matches("/".join(["a"] * 400), "/".join(["**", "a"] * 100 + ["b"]))
    assert not matches("a" * 20_000, "*a" * 50 + "b")


def action(name: str, *paths: str) -> Action:
    return Action(name=name, paths=list(paths), command=["true"])


def test_actions_follow_in_the_order_of_the_file_and_only_those_that_are_meant() -> None:
    actions = [action("stacks", "compose/**"), action("docs", "docs/", "*.md"), action("all", "**")]
    assert chosen(actions, ["docs/a", "compose/loki/compose.yml"]) == [0, 1, 2]
    assert chosen(actions, ["README.md"]) == [1, 2]
    assert chosen(actions[:2], ["deploy/unit"]) == []
    assert chosen(actions, []) == []
    assert chosen(actions, None) == [0, 1, 2]


@given(st.lists(st.lists(GLOBS, min_size=1, max_size=3), max_size=4), st.lists(PATHS, max_size=6))
def test_an_action_follows_exactly_if_one_of_its_globs_stands_for_one_of_the_files(
    globs: list[list[str]], paths: list[str]
) -> None:
    actions = [action(f"a{number}", *each) for number, each in enumerate(globs)]
    expected = [n for n, each in enumerate(globs) if any(matches(path, glob) for path in paths for glob in each)]
    assert chosen(actions, paths) == expected
