"""The globs of actions mean what git's own do, over an index that git holds them against."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from homelab_agent.gitops.actions import matches

FOLDERS = ("a1", "b1", ".c", "a1/b1", "a1/b1/a1", "b1/a1/b1")
PATHS = [
    *("a", "b", ".env", "ab.txt", "b-a", "A", "Straße"),
    *(f"{folder}/{name}" for folder in FOLDERS for name in ("a", "ab", ".x", "a.b")),
]
NAMES = st.lists(
    st.sampled_from(["a", "b", "1", ".", "-", "*", "?", "[ab]", "[!a]", "[^b]", "[a-z]"]), min_size=1, max_size=4
).map("".join)
PARTS = st.one_of(st.just("**"), st.just("*"), NAMES)
GLOBS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose index has all the paths; there are no files."""
    directory = tmp_path_factory.mktemp("globs")
    subprocess.run(["git", "init", "--quiet", str(directory)], check=True)
    empty = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=directory, input=b"", check=True, capture_output=True
    ).stdout.decode()
    lines = "".join(f"100644 {empty.strip()}\t{path}\0" for path in PATHS)
    subprocess.run(["git", "update-index", "-z", "--index-info"], cwd=directory, input=lines.encode(), check=True)
    assert listed(directory) == sorted(PATHS)
    return directory


def listed(directory: Path, *pathspecs: str) -> list[str]:
    """Return what git lists."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *pathspecs], cwd=directory, check=True, capture_output=True
    )
    return sorted(listing.stdout.decode().split("\0")[:-1])


def names_a_folder(glob: str) -> bool:
    """Say whether a glob without magic names a folder, which to git is all that is in it, and to us a file."""
    return not set("*?[") & set(glob) and glob not in PATHS


@settings(max_examples=150, deadline=None)
@given(GLOBS.filter(lambda glob: "***" not in glob and "." not in glob.split("/")))
def test_a_glob_stands_for_what_git_says(index: Path, glob: str) -> None:
    assume(not names_a_folder(glob))
    assert sorted(path for path in PATHS if matches(path, glob)) == listed(index, f":(top,glob){glob}")
