"""deploy/gitops_sync.sh as it is called: names, SHAs, words, JSON, environments, layouts of a working copy."""

from __future__ import annotations

import http.server
import json
import shlex
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.neighbours.neighbour import program
from tests.neighbours.sshd import make_key
from tests.working_copy import FETCHED, SCRIPT, SHELLS, Snapshot, WorkingCopy, environment

USAGE = 2


@pytest.fixture
def copy(tmp_path: Path) -> WorkingCopy:
    """A clone that lacks one push."""
    copy = WorkingCopy(tmp_path, {"a.txt": "a", "b.txt": "b"})
    copy.push({"a.txt": "new"})
    return copy


def run(*words: str | bytes, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["dash", SCRIPT, *words], env=env, cwd=cwd, capture_output=True, check=False, timeout=60)


# The command line


@pytest.mark.parametrize(
    "words",
    [
        [], ["."], [".", "main", "0" * 40, "more"], ["", "main"], [".", ""], ["-C", "main"], [".", "-main"],
        [".", "main", "-x"], [".", "main", "0" * 39], [".", "main", "A" * 40], [".", "main", "g" * 40],
        [".", "main", "HEAD"], ["--force", ".", "main"], ["--ignore-dirty"], ["--ignore-dirty", "", ".", "main"],
        ["--", ".", "main"], [".", "main\nother"], [".", "main^{tree}"], [".", "a b"],
    ],
)  # fmt: skip
def test_what_it_is_not_to_be_called_with_ends_at_once(copy: WorkingCopy, words: list[str]) -> None:
    before = Snapshot.of(copy.path.parent)
    done = run("--json", *words, env=copy.env, cwd=copy.path)
    assert (done.returncode, done.stdout) == (USAGE, b"")
    assert b"usage: gitops_sync.sh" in done.stderr
    assert before.changes(Snapshot.of(copy.path.parent)) == []
    assert not copy.attempt("rev-parse", "--verify", FETCHED)


@settings(max_examples=60, deadline=None)
@given(
    name=st.text("ab/.@{}-~^:?*[\\ \x01\x7f\n\"'$;ü", min_size=1, max_size=6) | st.sampled_from(["a.lock", "a.lock/b"])
)
@example("@")
@example("a/.b")
@example("a//b")
@example("a./b")
@example("a@{b")
def test_a_branch_may_have_the_names_that_git_lets_it_have(name: str) -> None:
    env = environment(Path("/nonexistent"))
    check = subprocess.run(["git", "check-ref-format", "--branch", name], env=env, capture_output=True, check=False)
    done = run("--json", "/nonexistent", name, env=env)
    if check.returncode or name == "@":  # which is HEAD for git
        assert done.returncode == USAGE, name
    else:
        assert json.loads(done.stdout)["branch"] == name
        assert json.loads(done.stdout)["verdict"] == "not_a_repository"


@pytest.mark.parametrize(
    "branch", ["main", "größe/日本-𝄞", "it's", 'a"b', "a$(touch${IFS}ran)`touch${IFS}ran`;b", "ünïcode.x"]
)
def test_a_branch_with_such_a_name_moves_and_its_repair_repairs(tmp_path: Path, branch: str) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a"}, branch=branch)
    target = copy.push({"a.txt": "new"})
    copy.git("switch", "--quiet", "--create", "other")
    said = copy.sync()
    assert (said.verdict, said.told["branch"]) == ("wrong_branch", branch)
    copy.repair(said.repair)
    assert copy.sync(shell="bash").told["head"] == target
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize(
    "name", ["with space", 'it\'s "quoted"', "new\nline", "-dash", "ünïcode", "$(touch ran)", "a:b"]
)
def test_a_directory_with_such_a_name_moves(tmp_path: Path, name: str) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a", "-n": "n", "--": "n", name + "/x": "x"}, name=name)
    copy.write({"a.txt": "edit"})
    copy.push({"-n": "new", "--": None, name + "/x": "new", name + "y": "new"})
    said = run("--allow-file", str(copy.path), "main", env=copy.env)
    assert said.returncode == 10
    commands = said.stdout.decode().split("\n    ", 1)[1]
    subprocess.run(["sh", "-c", commands], env=copy.env, cwd="/", check=True, capture_output=True)
    done = run("--json", "--allow-file", f"./{name}", "main", env=copy.env, cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "ok"
    assert copy.differences(copy.tip()) == ""
    assert not list(tmp_path.rglob("ran"))


def test_without_json_it_speaks_to_a_person(copy: WorkingCopy) -> None:
    copy.write({"b.txt": "edit"})
    done = run("--allow-file", str(copy.path), "main", env=copy.env)
    assert done.stdout.decode().splitlines() == [
        "dirty: 1 file edited here.", f"    cd {copy.path}", "    git stash push"
    ]  # fmt: skip
    copy.write({"b.txt": "b"})
    done = run("--plan", "--allow-file", str(copy.path), "main", env=copy.env)
    assert done.stdout.decode() == "ok: main can move on by 1 commit.\n"
    done = run("--allow-file", str(copy.path), "main", env=copy.env)
    assert done.stdout.decode() == "ok: main moved on by 1 commit.\n"
    done = run("--allow-file", str(copy.path), "main", env=copy.env)
    assert done.stdout.decode() == "up_to_date: main has all that the remote has.\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_and_every_byte_makes_one_line_of_json(tmp_path: Path, shell: str) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a"})
    copy.git("remote", "set-url", "origin", "http://[\\\"'\x01\x7f\tü\udcff%s$(x)/\udced\udca0\udc80.git")
    said = copy.sync(shell=shell)
    assert said.verdict == "fetch_failed"
    assert "\\\"'" in said.told["detail"]
    assert "ü" in said.told["detail"]


def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(
        [program("shellcheck", "apt install shellcheck"), "-s", "sh", SCRIPT], capture_output=True, check=False
    )
    assert done.stdout.decode() == ""


# SHAs


def test_it_moves_to_the_commit_that_was_asked_for_and_never_back(copy: WorkingCopy) -> None:
    first, second = copy.push({"a.txt": "1"}), copy.push({"a.txt": "2"})
    begin = copy.git("rev-parse", "HEAD")
    said = copy.sync(sha=first)
    told = {key: said.told[key] for key in ("verdict", "asked", "head_before", "head", "target", "commits")}
    assert told == {
        "verdict": "ok", "asked": first, "head_before": begin, "head": first, "target": first, "commits": 2
    }  # fmt: skip
    assert copy.git("rev-parse", "origin/main") == second
    assert copy.sync(sha=begin).verdict == copy.sync(sha=first).verdict == "up_to_date"
    said = copy.sync(sha=second)
    assert (said.verdict, said.told["head"], said.told["commits"]) == ("ok", second, 1)
    assert copy.sync(sha=first).told["head"] == second


@pytest.mark.parametrize("sha", ["0" * 40, "0" * 64])
def test_a_commit_that_the_branch_does_not_contain_is_not_where_it_goes(copy: WorkingCopy, sha: str) -> None:
    said = copy.sync(sha=sha)
    assert (said.verdict, said.told["asked"], said.told["target"]) == ("ok", sha, copy.tip())
    assert "asked for is not on it" in said.told["detail"]


def test_a_commit_of_another_branch_is_not_where_it_goes(copy: WorkingCopy) -> None:
    copy.branch = "other"
    foreign = copy.push({"a.txt": "foreign"}, onto=copy.git("rev-parse", "HEAD"))
    copy.branch = "main"
    copy.git("fetch", "--quiet")
    assert copy.sync(sha=foreign).told["head"] == copy.tip()


# What is around it


def test_nothing_in_the_environment_leads_git_elsewhere(copy: WorkingCopy, tmp_path: Path) -> None:
    other = WorkingCopy(tmp_path / "other", {"a.txt": "other"})
    other.push({"a.txt": "new"})
    git, before = other.path / ".git", Snapshot.of(other.path)
    copy.env |= {
        "GIT_DIR": str(git), "GIT_WORK_TREE": str(other.path), "GIT_INDEX_FILE": str(git / "index"),
        "GIT_COMMON_DIR": str(git), "GIT_OBJECT_DIRECTORY": str(git / "objects"), "GIT_NAMESPACE": "other",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": str(tmp_path),
        "GIT_CONFIG_PARAMETERS": "'core.worktree'='/'", "GIT_CONFIG_GLOBAL": str(git / "config"),
        "GIT_EXEC_PATH": str(tmp_path), "GIT_SHALLOW_FILE": "x", "GIT_LITERAL_PATHSPECS": "1",
        "GIT_CEILING_DIRECTORIES": "/", "GIT_EXTERNAL_DIFF": "false", "GIT_TRACE": "1",
        "CDPATH": str(other.path.parent),
        "SPOILT": "\nexport GIT_SSH=$(touch ran)\nGIT_X", "GIT_odd": "1",
    }  # fmt: skip
    said = copy.sync()
    assert (said.verdict, said.stderr) == ("ok", "")
    assert before.changes(Snapshot.of(other.path)) == []
    copy.env = environment(tmp_path)
    assert copy.differences(copy.tip()) == ""


def test_no_hook_and_no_program_of_the_repository_runs(copy: WorkingCopy, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 $* >>{ran}\ncat\n")
    program.chmod(0o755)
    hooks = copy.path / ".git/hooks"
    hooks.mkdir()
    for name in ("post-merge", "pre-merge-commit", "post-checkout", "reference-transaction", "post-index-change"):
        shutil.copy(program, hooks / name)
    for key in ("core.fsmonitor", "diff.external", "diff.x.textconv", "diff.x.command", "core.pager", "core.editor"):
        copy.git("config", key, str(program))
    for key, value in (("merge.autoStash", "true"), ("branch.main.mergeOptions", "--squash"), ("fetch.prune", "true")):
        copy.git("config", key, value)
    copy.push({".gitattributes": "* diff=x\n", "a.txt": "newer"})
    ran.unlink(missing_ok=True)
    said = copy.sync()
    assert not ran.exists(), ran.read_text()
    assert said.verdict == "ok", said.told
    for key in ("core.fsmonitor", "diff.external"):
        copy.git("config", "--unset", key)
    assert copy.differences(copy.tip()) == ""


def test_unless_it_moves_no_branch_of_the_remote_moves_and_a_tag_never(copy: WorkingCopy) -> None:
    copy.git("--git-dir", str(copy.remote), "tag", "v1", "main")
    known = copy.git("rev-parse", "origin/main")
    copy.write({"b.txt": "edit"})
    assert copy.sync().verdict == "dirty"
    assert copy.git("rev-parse", "origin/main") == known
    copy.write({"b.txt": "b"})
    assert copy.sync().verdict == "ok"
    assert copy.git("status", "--short", "--branch") == "## main...origin/main"
    assert copy.git("tag") == ""


def test_a_remote_tracking_branch_that_cannot_be_written_only_lags(copy: WorkingCopy) -> None:
    copy.git("pack-refs", "--all")
    copy.git("update-ref", "-d", "refs/remotes/origin/main")
    copy.git("update-ref", "refs/remotes/origin/main/in-the-way", "HEAD")
    packed = copy.path / ".git/packed-refs"
    packed.write_text(packed.read_text() + f"{copy.git('rev-parse', 'HEAD')} refs/remotes/origin/main\n")
    said = copy.sync()
    assert said.verdict == "ok"
    assert said.told["head"] == copy.tip()
    assert "refs/remotes/origin/main could not follow" in said.told["detail"]


def test_without_allow_file_a_directory_is_no_remote(copy: WorkingCopy) -> None:
    done = run("--json", str(copy.path), "main", env=copy.env)
    said = json.loads(done.stdout)
    assert said["verdict"] == "fetch_failed"
    assert "--allow-file" in said["detail"]


def test_a_branch_without_upstream_follows_the_only_remote_and_one_with_it_its_own(copy: WorkingCopy) -> None:
    copy.git("branch", "--unset-upstream")
    copy.git("remote", "rename", "origin", "upstream")
    assert copy.sync().verdict == "ok"
    copy.git("remote", "add", "origin", "/nonexistent")
    copy.push({"a.txt": "newer"})
    assert copy.sync().verdict == "fetch_failed"
    copy.git("config", "branch.main.remote", "upstream")
    copy.git("config", "branch.main.merge", "refs/heads/main")
    assert copy.sync().told["head"] == copy.tip()
    assert copy.git("rev-parse", "upstream/main") == copy.tip()
    copy.git("update-ref", "refs/remotes/upstream/other", "HEAD~1")
    copy.git("branch", "--set-upstream-to=upstream/other")
    copy.push({"a.txt": "newest"})
    assert copy.sync().told["head"] == copy.tip()
    assert copy.git("rev-parse", "upstream/other") == copy.git("rev-parse", "HEAD~2")


# Who is let in, and who signed


def test_who_says_how_passwords_are_asked_for_wants_no_helper_to_hear_them(copy: WorkingCopy, tmp_path: Path) -> None:
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\necho $1 >>{tmp_path}/asked\n")
    helper.chmod(0o755)
    copy.git("config", "credential.helper", str(helper))
    with socketserver.TCPServer(("127.0.0.1", 0), Locked) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        copy.git("remote", "set-url", "origin", f"http://127.0.0.1:{server.server_address[1]}/x.git")
        try:
            assert copy.sync().verdict == "fetch_failed"
            assert (tmp_path / "asked").read_text().split() == ["get"]
            copy.env["GIT_ASKPASS"] = "echo"
            assert copy.sync().verdict == "fetch_failed"
            assert (tmp_path / "asked").read_text().split() == ["get"], "nor is it told that it was wrong"
        finally:
            server.shutdown()
            serving.join()


class Locked(http.server.BaseHTTPRequestHandler):
    """A page that lets nobody in."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("shell", SHELLS)
def test_with_allowed_signers_it_moves_to_what_one_of_them_signed_only(
    copy: WorkingCopy, tmp_path: Path, shell: str
) -> None:
    allowed, foreign = tmp_path / "it's allowed", tmp_path / "foreign"
    make_key(allowed)
    make_key(foreign)
    signers = tmp_path / "the signers"
    signers.write_text(f"ada@example.org {allowed.with_name(allowed.name + '.pub').read_text()}")
    options = ("--allowed-signers", str(signers))
    for key in ("gpg.program", "gpg.ssh.program"):
        copy.git("config", key, "/bin/true")
    said = copy.sync(*options, shell=shell)
    assert (said.code, said.verdict, said.told["commits"]) == (23, "unsigned", 1)
    assert "it has no signature" in said.told["detail"]
    sign(copy, foreign)
    before = copy.snapshot()
    said = copy.sync(*options, shell=shell)
    assert said.verdict == copy.sync("--plan", *options).verdict == "unsigned"
    assert "No principal matched" in said.told["detail"]
    assert before.changes(copy.snapshot()) == []
    good = sign(copy, allowed)
    copy.push({"a.txt": "unsigned"})
    said = copy.sync(*options, sha=good, shell=shell)
    assert (said.verdict, said.told["head"]) == ("ok", good)
    assert copy.sync(*options, shell=shell).verdict == "unsigned"
    (shown,) = copy.sync(*options).repair
    copy.git("config", "--remove-section", "gpg.ssh")
    copy.fails(*shlex.split(shown)[1:])
    assert copy.attempt(*shlex.split(shown.replace(copy.tip(), good))[1:])


def sign(copy: WorkingCopy, key: Path) -> str:
    """Add a commit to the remote that this key has signed; return its SHA."""
    there = ("--git-dir", str(copy.remote), "-c", "gpg.format=ssh", "-c", f"user.signingKey={key}")
    made = copy.git(*there, "commit-tree", "-S", "-m", "signed", "-p", copy.tip(), f"{copy.tip()}^{{tree}}")
    copy.git("--git-dir", str(copy.remote), "update-ref", f"refs/heads/{copy.branch}", made)
    return made


@pytest.mark.parametrize("words", [[], ["/nonexistent"], [""]])
def test_allowed_signers_who_cannot_be_read_are_no_reason_to_move(copy: WorkingCopy, words: list[str]) -> None:
    done = run("--json", "--allow-file", str(copy.path), "main", "--allowed-signers", *words, env=copy.env)
    assert (done.returncode, done.stdout) == (USAGE, b"")


# Layouts


def test_a_worktree_moves(copy: WorkingCopy, tmp_path: Path) -> None:
    copy.git("switch", "--quiet", "--create", "other")
    copy.git("worktree", "add", "--quiet", str(tmp_path / "linked\ntree"), "main")
    main, copy.path = copy.path, tmp_path / "linked\ntree"
    lock = main / ".git/refs/heads/main.lock"
    lock.touch()
    assert copy.sync().verdict == "locked"
    lock.unlink()
    copy.write({"b.txt": "edit"})
    assert copy.sync().verdict == "dirty"
    copy.write({"b.txt": "b"})
    assert copy.sync().verdict == "ok"
    assert copy.differences(copy.tip()) == ""


def test_a_shallow_clone_moves(copy: WorkingCopy) -> None:
    shutil.rmtree(copy.path)
    subprocess.run(["git", "clone", "--quiet", "--depth=1", copy.remote.as_uri(), copy.path], env=copy.env, check=True)
    copy.push({"a.txt": "1"})
    copy.push({"a.txt": "2"})
    said = copy.sync()
    assert (said.verdict, said.told["commits"]) == ("ok", 2)
    assert copy.differences(copy.tip()) == ""
    copy.push({"a.txt": "other"}, onto=copy.git("rev-parse", "HEAD~1"))
    assert copy.sync().verdict == "forced"


def test_a_sparse_checkout_moves_and_stays_sparse(tmp_path: Path) -> None:
    copy = WorkingCopy(tmp_path, {"in/a": "a", "out/b": "b"})
    copy.git("sparse-checkout", "set", "in")
    copy.push({"in/a": "new", "out/b": "new", "out/c": "new"})
    assert copy.sync().verdict == "ok"
    assert (copy.path / "in/a").read_text() == "new"
    assert not (copy.path / "out").exists()
    assert copy.git("status", "--porcelain") == ""


def test_a_branch_yet_to_be_born_is_born(copy: WorkingCopy) -> None:
    copy.git("--git-dir", str(copy.remote), "update-ref", "-d", "refs/heads/main")
    shutil.rmtree(copy.path)
    subprocess.run(["git", "clone", "--quiet", copy.remote, copy.path], env=copy.env, check=True, capture_output=True)
    assert copy.sync().verdict == "fetch_failed"
    first, second = copy.push({"a.txt": "1", "new": "1"}), copy.push({"a.txt": "2"})
    copy.write({"new": "mine"})
    assert copy.sync("--plan").verdict == copy.sync().verdict == "untracked_collision"
    copy.write({"new": None, "own": "mine"})
    said = copy.sync(sha=first)
    assert (said.verdict, said.told["head_before"], said.told["head"], said.told["commits"]) == ("ok", "", first, 1)
    assert copy.git("status", "--short", "--branch").splitlines() == ["## main...origin/main [behind 1]", "?? own"]
    assert copy.sync().told["head"] == second


def test_a_repository_with_sha256_moves(tmp_path: Path) -> None:
    copy = WorkingCopy(tmp_path, {"a.txt": "a", "b.txt": "b"}, env={"GIT_DEFAULT_HASH": "sha256"})
    target = copy.push({"a.txt": "new"})
    assert len(target) == 64
    copy.write({"b.txt": "edit"})
    assert copy.sync(sha=target).verdict == "dirty"
    copy.write({"b.txt": "b"})
    assert copy.sync(sha=target).told["head"] == target


def test_hidden_edits_and_lfs_are_mentioned(copy: WorkingCopy) -> None:
    copy.git("update-index", "--assume-unchanged", "b.txt")
    copy.write({"b.txt": "hidden"})
    assert "edits of 1 of its files" in copy.sync("--plan").told["detail"]
    copy.push({".gitattributes": "*.bin filter=lfs\n", "x.bin": "version https://git-lfs.github.com/spec/v1\n"})
    said = copy.sync()
    assert said.verdict == "ok"
    assert "LFS" in said.told["detail"]
    copy.push({"b.txt": "new"})
    before = copy.snapshot()
    assert copy.sync().verdict == "dirty_overlap"
    assert before.changes(copy.snapshot()) == []


@pytest.fixture
def nest(tmp_path: Path) -> tuple[WorkingCopy, WorkingCopy]:
    """A clone with another as its submodule, each lacks a push; the outer one's asks for the inner one's."""
    inner = WorkingCopy(tmp_path / "inner", {"x": "1"})
    outer = WorkingCopy(tmp_path / "outer", {"a.txt": "a"})
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.remote), "sub")
    outer.git("commit", "--quiet", "--message=sub")
    outer.git("push", "--quiet")
    sha = inner.push({"x": "2"})
    outer.push({"sub": sha}, modes={"sub": "160000"})
    return outer, inner


def test_submodules_are_left_alone_and_said_to_be(nest: tuple[WorkingCopy, WorkingCopy]) -> None:
    outer, _ = nest
    said = outer.sync()
    assert said.verdict == "ok"
    assert "--submodules" in said.told["detail"]
    assert (outer.path / "sub/x").read_text() == "1"
    outer.push({"a.txt": "2"})
    assert outer.sync().verdict == "ok", "what was left behind is no edit"
    assert outer.sync("--submodules").verdict == "up_to_date"
    assert (outer.path / "sub/x").read_text() == "2"
    assert outer.git("status", "--porcelain") == ""


def test_submodules_come_along_unless_edited(nest: tuple[WorkingCopy, WorkingCopy]) -> None:
    outer, _ = nest
    outer.write({"sub/x": "edit"})
    before = outer.snapshot()
    assert outer.sync("--submodules").verdict == "dirty_overlap"
    assert before.changes(outer.snapshot()) == []
    outer.write({"sub/x": "1"})
    assert outer.sync("--submodules").verdict == "ok"
    assert (outer.path / "sub/x").read_text() == "2"


def test_submodules_that_cannot_be_had_are_named_and_come_later(nest: tuple[WorkingCopy, WorkingCopy]) -> None:
    outer, inner = nest
    away = inner.remote.rename(inner.remote.with_name("away"))
    said = outer.sync("--submodules")
    assert (said.verdict, said.told["head"]) == ("fetch_failed", outer.tip())
    away.rename(inner.remote)
    assert outer.sync("--submodules").verdict == "up_to_date"
    assert (outer.path / "sub/x").read_text() == "2"
