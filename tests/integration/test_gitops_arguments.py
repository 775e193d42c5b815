"""Whatever the agent asks for, no word reaches a program but those of the configuration, and SHAs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.privileged import frames
from tests import root_half
from tests.gitops_half import COMMAND, OWNER, section_of
from tests.neighbours import git
from tests.neighbours.git import Git

RECORDER = """\
#!/bin/sh
printf '%s\\n' "$@" '(end)' >>{log}
PATH=${{PATH#*:}}
exec {name} "$@"
"""
CONFIGURATION = """
[gitops]
[[gitops.repository]]
name = "site"
full_name = "octo/site"
directory = "{path}"
[[gitops.repository.action]]
name = "version"
command = ["git", "--version"]
[[gitops.repository.probe]]
kind = "command"
command = ["git", "rev-parse", "HEAD"]
"""
VARIES = re.compile(r"[0-9a-f]{7,64}|/dev/fd/\d+|\d{8}T\d{6}\.\d{6}Z")
TARGETS = ("git_sync", "git_plan", "git_rollback")
NOWHERE = "0" * 40


@dataclass(frozen=True, slots=True)
class Asked:
    """A root half on a socket, a working copy without a remote, and a record of what git was called with."""

    socket: Path
    log: Path
    head: str
    section: str

    def __call__(self, verb: object, arguments: object) -> dict[str, Any]:
        """Return the last frame that is said on a call."""
        with root_half.connect(self.socket) as connection:
            connection.sendall(frames.encode({"verb": verb, "arguments": arguments}) + frames.GO)
            return root_half.hear(connection)[-1]

    def words(self) -> set[str]:
        """Return the words that git has been called with, without what varies."""
        return {VARIES.sub("", line) for line in self.log.read_text().splitlines()}


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    """One that has done each verb once, as it is meant."""
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-test-"))
    directory.chmod(0o755)
    try:
        yield from serving(directory)
    finally:
        shutil.rmtree(directory)


def serving(directory: Path) -> Iterator[Asked]:
    copy, log, programs = directory / "site", directory / "log", directory / "bin"
    copy.mkdir()
    programs.mkdir()
    work = Git(copy, git.environment(directory))
    work("init", "-q", "-b", "main")
    work("commit", "-q", "--allow-empty", "-m", "x")
    head = work("rev-parse", "HEAD")
    for name in ("git", "ssh", "systemctl"):
        recorder = programs / name
        recorder.write_text(RECORDER.format(log=log, name=name))
        recorder.chmod(0o755)
    log.touch()
    log.chmod(0o666)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, OWNER, -1)
    config = directory / "config.toml"
    config.write_text(CONFIGURATION.format(path=copy))
    argv = [*COMMAND, "--config", str(config), "privileged", "serve"]
    half = root_half.Unit(directory, command=argv, env={"PATH": f"{programs}:{os.environ['PATH']}"}).start()
    try:
        yield Asked(half.path, log, head, section_of(config))
    finally:
        half.close()


@pytest.fixture(scope="module")
def meant(asked: Asked) -> set[str]:
    """The words that git is called with when each verb is done as it is meant."""
    site = {"repository": "site", "section": asked.section}
    for verb in ("git_sync", "git_plan"):
        assert "answer" in asked(verb, site)
    for sha in (asked.head, NOWHERE):
        assert all("answer" in asked(verb, {**site, "sha": sha}) for verb in TARGETS)
    for old, new in ((asked.head, asked.head), (NOWHERE, asked.head), (asked.head, NOWHERE)):
        asked("git_changed", {**site, "old": old, "new": new})
    for head, shas in ((asked.head, [asked.head, NOWHERE]), (NOWHERE, [asked.head]), (asked.head, [])):
        asked("git_contained", {**site, "head": head, "shas": shas})
    assert "answer" in asked("run_action", {**site, "action": "version"})
    assert asked("run_probe", {**site, "probe": 0})["answer"]["holds"]
    words = asked.words()
    assert {"--version", "rev-parse", "fetch", "merge-base", "diff-tree", "status"} <= words
    assert {"cat-file", "rev-list"} <= words
    return words


HOSTILE = st.sampled_from([
    "--upload-pack=touch ran", "-x", "--", "HEAD", "main", "refs/heads/main", "a" * 39, "a" * 41, "A" * 40,
    "\uff11" * 40, "0" * 40 + "\n", "\n" + "0" * 40, "0" * 39 + "\0", "$(touch ran)", "; touch ran", "../site",
    "site\0", "SITE", "version ", NOWHERE[:-1] + "g", "0" * 63, "--exec=touch ran", "ext::touch ran",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SHA = st.sampled_from([NOWHERE, NOWHERE + "0" * 24])
PROPER = {
    "repository": st.just("site"),
    "sha": SHA,
    "head": SHA,
    "shas": st.lists(SHA, max_size=3),
    "old": SHA,
    "new": SHA,
    "action": st.just("version"),
    "probe": st.just(0),
    "plan": st.booleans(),
}
VERBS = {
    **dict.fromkeys(TARGETS, ("repository", "sha")),
    "git_rollback": ("repository", "sha", "plan"),
    "git_changed": ("repository", "old", "new"),
    "git_contained": ("repository", "head", "shas"),
    "run_action": ("repository", "action"),
    "run_probe": ("repository", "probe"),
    "git_push": ("repository",),
}
CALLS = st.sampled_from(sorted(VERBS)).flatmap(
    lambda verb: st.tuples(
        st.just(verb),
        st.fixed_dictionaries({name: st.one_of(PROPER[name], PROPER[name], HOSTILE, JSON) for name in VERBS[verb]}),
    )
)
MORE = st.dictionaries(st.sampled_from(["branch", "directory", "section", *PROPER]), HOSTILE, max_size=1)


def is_proper(name: str, value: object) -> bool:
    """Whether that argument may have that value."""
    match name:
        case "repository" | "action":
            return value == {"repository": "site", "action": "version"}[name]
        case "shas":
            return isinstance(value, list) and all(is_proper("sha", one) for one in value)
        case "sha" | "head" | "old" | "new":
            return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", value, re.ASCII) is not None
        case "plan":
            return isinstance(value, bool)
        case "probe":
            return type(value) is int and value == 0
    return False


@settings(max_examples=300, deadline=None)
@given(call=CALLS, more=st.just({}) | MORE)
def test_no_word_of_a_call_reaches_a_program_but_a_sha(
    asked: Asked, meant: set[str], call: tuple[str, dict[str, Any]], more: dict[str, Any]
) -> None:
    verb, arguments = call
    said = asked(verb, {"section": asked.section} | arguments | more)
    if "answer" in said:
        assert all(is_proper(name, value) for name, value in (arguments | more).items()), said
    assert asked.words() <= meant, asked.words() - meant


@settings(max_examples=50, deadline=None)
@given(said=JSON)
def test_what_is_no_call_is_refused(asked: Asked, meant: set[str], said: Any) -> None:
    for answer in (asked(said, {"repository": "site"}), asked("git_sync", said)):
        assert "refused" in answer
    assert asked.words() <= meant
