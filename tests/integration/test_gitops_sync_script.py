"""deploy/gitops_sync.sh on every state of a working copy: its verdict, what it leaves alone; its repair repairs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.working_copy import Snapshot, WorkingCopy, mend

EXIT_CODES = {
    "ok": 0, "up_to_date": 0, "dirty": 10, "dirty_overlap": 11, "untracked_collision": 12, "diverged": 13, "ahead": 14,
    "forced": 15, "detached": 16, "locked": 17, "wrong_branch": 18, "not_a_repository": 19, "wrong_owner": 20,
    "fetch_failed": 21, "corrupt": 22, "unsigned": 23,
}  # fmt: skip
KEYS = {
    "verdict", "detail", "repair", "branch", "asked", "head_before", "head", "target", "commits", "plan"
}  # fmt: skip
FILES = {
    "a.txt": "a\n", "b.txt": "b\n", "gone.txt": "gone\n", "dir/c.txt": "c\n", "dir/d.txt": "d\n", "tree/leaf": "leaf\n",
    "run.sh": "#!/bin/sh\n", "data/state.json": "{}\n", ".gitignore": "*.log\ncache\n", "it's \"odd\"\n-ü": "odd\n",
}  # fmt: skip
PUSHED = {
    "a.txt": "pushed\n", "gone.txt": None, "dir/d.txt": "pushed\n", "new.txt": "new\n", "new.log": "new\n",
    "fresh/deep/file": "new\n", "cache/file": "new\n", "tree/leaf": None, "tree": "now a file\n", "b.txt/inside": "b\n",
    "b.txt": None, "it's \"odd\"\n-ü": "pushed\n", " ": "space\n",
}  # fmt: skip
OLD_SECONDS = 3 * 3600


@dataclass(frozen=True, slots=True)
class State:
    """What is done to a clone that lacks one push, and what is then said of it."""

    prepare: Callable[[WorkingCopy], object]
    verdict: str
    options: tuple[str, ...]
    mends: bool
    """Whether the commands of its repair alone lead to what the remote has."""


STATES: dict[str, State] = {}


def state(
    verdict: str, *options: str, mends: bool = True
) -> Callable[[Callable[[WorkingCopy], object]], Callable[[WorkingCopy], object]]:
    def keep(prepare: Callable[[WorkingCopy], object]) -> Callable[[WorkingCopy], object]:
        STATES[prepare.__name__] = State(prepare, verdict, options, mends)
        return prepare

    return keep


# Clean, or what may stay


@state("ok")
def clean(copy: WorkingCopy) -> None:
    assert copy.git("status", "--porcelain") == ""


@state("ok")
def every_file_touched(copy: WorkingCopy) -> None:
    for name in FILES:
        os.utime(copy.path / name, (1, 1))


@state("ok")
def untracked_and_ignored_elsewhere(copy: WorkingCopy) -> None:
    copy.write({"mine": "1", "dir/mine": "2", "my.log": "3", "fresh/mine": "4", "own/.git/HEAD": "5"})


@state("ok")
def an_empty_directory_where_a_file_comes(copy: WorkingCopy) -> None:
    (copy.path / "new.txt").mkdir()


@state("ok")
def a_stash(copy: WorkingCopy) -> None:
    copy.write({"a.txt": "stashed"})
    copy.git("stash", "push")


@state("ok", "--ignore-dirty", "data/*.json", "--ignore-dirty", "**/c.txt")
def what_may_be_dirty_is(copy: WorkingCopy) -> None:
    copy.write({"data/state.json": "rewritten", "dir/c.txt": "rewritten"})


# Edits


@state("dirty")
def an_edit(copy: WorkingCopy) -> None:
    copy.write({"dir/c.txt": "edit"})


@state("dirty", "--ignore-dirty", "data/*.json", "--ignore-dirty", "*.txt")
def an_edit_that_no_glob_names(copy: WorkingCopy) -> None:
    copy.write({"data/state.json": "rewritten", "dir/c.txt": "edit"})


@state("dirty")
def a_staged_edit(copy: WorkingCopy) -> None:
    copy.write({"dir/c.txt": "edit"})
    copy.git("add", "dir/c.txt")


@state("dirty")
def a_staged_edit_taken_back_in_the_tree_only(copy: WorkingCopy) -> None:
    a_staged_edit(copy)
    copy.write({"dir/c.txt": FILES["dir/c.txt"]})


@state("dirty")
def a_deleted_file(copy: WorkingCopy) -> None:
    copy.write({"dir/c.txt": None})


@state("dirty")
def a_file_that_git_was_told_to_remove(copy: WorkingCopy) -> None:
    copy.git("rm", "--quiet", "dir/c.txt")


@state("dirty")
def a_mode(copy: WorkingCopy) -> None:
    (copy.path / "run.sh").chmod(0o755)


@state("dirty")
def a_file_that_became_a_link(copy: WorkingCopy) -> None:
    copy.write({"dir/c.txt": None})
    (copy.path / "dir/c.txt").symlink_to("d.txt")


@state("dirty")
def a_renamed_file(copy: WorkingCopy) -> None:
    copy.git("mv", "dir/c.txt", "dir/e.txt")


@state("dirty")
def a_new_file_that_git_is_to_keep(copy: WorkingCopy) -> None:
    copy.write({"own.txt": "own"})
    copy.git("add", "own.txt")


@state("dirty")
def a_file_that_git_is_to_keep_later(copy: WorkingCopy) -> None:
    copy.write({"own.txt": "own"})
    copy.git("add", "--intent-to-add", "own.txt")


@state("dirty_overlap")
def an_edit_that_the_push_changes(copy: WorkingCopy) -> None:
    copy.write({"a.txt": "edit"})


@state("dirty_overlap")
def the_same_edit_as_the_push(copy: WorkingCopy) -> None:
    copy.write({"a.txt": PUSHED["a.txt"]})


@state("dirty_overlap", "--ignore-dirty", "*.txt")
def what_may_be_dirty_is_but_the_push_changes_it(copy: WorkingCopy) -> None:
    copy.write({"a.txt": "rewritten"})


@state("dirty_overlap")
def edits_in_many_places(copy: WorkingCopy) -> None:
    copy.write({"a.txt": "edit", "dir/c.txt": "edit", "gone.txt": None})


@state("dirty_overlap")
def an_edit_of_a_file_with_an_odd_name(copy: WorkingCopy) -> None:
    copy.write({'it\'s "odd"\n-ü': "edit"})


@state("dirty_overlap")
def an_edit_of_a_file_that_the_push_removes(copy: WorkingCopy) -> None:
    copy.write({"gone.txt": "edit"})


@state("dirty_overlap")
def a_staged_file_that_the_push_adds(copy: WorkingCopy) -> None:
    copy.write({"new.txt": "mine"})
    copy.git("add", "new.txt")


@state("dirty_overlap")
def a_conflict_of_a_stash(copy: WorkingCopy) -> None:
    copy.write({"a.txt": "stashed"})
    copy.git("stash", "push")
    copy.commit({"a.txt": "committed"})
    copy.fails("stash", "pop")
    copy.git("update-ref", "refs/heads/main", "refs/remotes/origin/main")


# What git does not keep


@state("untracked_collision", mends=False)
def an_untracked_file(copy: WorkingCopy) -> None:
    copy.write({"new.txt": "mine"})


@state("untracked_collision", mends=False)
def an_untracked_file_like_the_push(copy: WorkingCopy) -> None:
    copy.write({"new.txt": PUSHED["new.txt"]})


@state("untracked_collision", mends=False)
def an_ignored_file(copy: WorkingCopy) -> None:
    copy.write({"new.log": "mine"})


@state("untracked_collision", mends=False)
def an_ignored_directory(copy: WorkingCopy) -> None:
    copy.write({"cache/file": "mine"})


@state("untracked_collision", mends=False)
def a_file_where_a_directory_comes(copy: WorkingCopy) -> None:
    copy.write({"fresh": "mine"})


@state("untracked_collision", mends=False)
def a_directory_where_a_file_comes(copy: WorkingCopy) -> None:
    copy.write({"new.txt/mine": "mine"})


@state("untracked_collision", mends=False)
def an_untracked_file_in_a_directory_that_becomes_a_file(copy: WorkingCopy) -> None:
    copy.write({"tree/mine": "mine"})


@state("untracked_collision", mends=False)
def a_link_where_a_directory_comes(copy: WorkingCopy) -> None:
    (copy.path / "fresh").symlink_to("dir")


@state("untracked_collision", mends=False)
def a_file_named_by_a_space(copy: WorkingCopy) -> None:
    copy.write({" ": "mine"})


# History


@state("diverged")
def a_commit_here_and_one_there(copy: WorkingCopy) -> None:
    copy.commit({"own.txt": "own"})


@state("ahead")
def a_commit_only_here(copy: WorkingCopy) -> None:
    copy.git("pull", "--quiet")
    copy.commit({"own.txt": "own"})


@state("forced")
def a_commit_replaced_at_the_remote(copy: WorkingCopy) -> None:
    base = copy.git("rev-parse", "HEAD")
    copy.git("pull", "--quiet")
    copy.push({"a.txt": "other"}, onto=base)


@state("forced")
def a_commit_replaced_at_the_remote_and_fetched(copy: WorkingCopy) -> None:
    a_commit_replaced_at_the_remote(copy)
    copy.git("fetch", "--quiet")


@state("forced")
def a_commit_taken_back_at_the_remote(copy: WorkingCopy) -> None:
    base = copy.git("rev-parse", "HEAD")
    copy.git("pull", "--quiet")
    copy.rewind(base)


@state("forced")
def a_commit_replaced_at_the_remote_below_one_of_ours(copy: WorkingCopy) -> None:
    a_commit_replaced_at_the_remote(copy)
    copy.commit({"own.txt": "own"})


@state("forced")
def a_remote_that_begins_anew(copy: WorkingCopy) -> None:
    copy.git("pull", "--quiet")
    copy.git("--git-dir", str(copy.remote), "update-ref", "-d", "refs/heads/main")
    copy.push({"a.txt": "anew"})


# HEAD


@state("detached")
def detached(copy: WorkingCopy) -> None:
    copy.git("switch", "--quiet", "--detach")


@state("wrong_branch")
def another_branch(copy: WorkingCopy) -> None:
    copy.git("switch", "--quiet", "--create", "other")


@state("wrong_branch")
def another_branch_yet_to_be_born(copy: WorkingCopy) -> None:
    copy.git("switch", "--quiet", "--orphan", "other")


# What is under way


@state("dirty")
def a_merge(copy: WorkingCopy) -> None:
    copy.git("branch", "other")
    copy.commit({"dir/c.txt": "one"})
    copy.git("switch", "--quiet", "other")
    copy.commit({"dir/c.txt": "two"})
    copy.fails("merge", "main")
    copy.git("symbolic-ref", "HEAD", "refs/heads/main")
    copy.git("update-ref", "refs/heads/main", "origin/main")


@state("dirty")
def a_cherry_pick(copy: WorkingCopy) -> None:
    own = copy.commit({"dir/c.txt": "one"})
    copy.git("reset", "--quiet", "--hard", "origin/main")
    copy.commit({"dir/c.txt": "two"})
    copy.fails("cherry-pick", own)
    copy.git("update-ref", "refs/heads/main", "origin/main")
    copy.git("update-ref", "ORIG_HEAD", "origin/main")


@state("dirty")
def a_revert(copy: WorkingCopy) -> None:
    copy.commit({"dir/c.txt": "one"})
    copy.commit({"dir/c.txt": "two"})
    copy.fails("revert", "HEAD~1")
    copy.git("update-ref", "refs/heads/main", "origin/main")


@state("dirty")
def a_rebase(copy: WorkingCopy) -> None:
    copy.commit({"a.txt": "one"})
    copy.git("fetch", "--quiet")
    copy.fails("rebase", "origin/main")


@state("dirty")
def a_mailed_patch(copy: WorkingCopy) -> None:
    copy.commit({"dir/c.txt": "one"})
    copy.git("format-patch", "--quiet", "-1", "--output-directory", str(copy.path.parent))
    copy.git("reset", "--quiet", "--hard", "origin/main")
    copy.commit({"dir/c.txt": "two"})
    copy.fails("am", str(copy.path.parent / "0001-local.patch"))


@state("dirty")
def a_bisection(copy: WorkingCopy) -> None:
    copy.git("pull", "--quiet")
    copy.git("bisect", "start", "HEAD", "HEAD~1")


# Locks


def lock(copy: WorkingCopy, name: str, *, age_seconds: float = 0) -> None:
    path = copy.path / ".git" / name
    path.touch()
    made = time.time() - age_seconds
    os.utime(path, (made, made))


@state("locked", mends=False)
def a_young_lock_of_the_index(copy: WorkingCopy) -> None:
    lock(copy, "index.lock")


@state("locked", mends=False)
def a_lock_of_the_future(copy: WorkingCopy) -> None:
    lock(copy, "index.lock", age_seconds=-OLD_SECONDS)


@state("locked")
def an_old_lock_of_the_index(copy: WorkingCopy) -> None:
    lock(copy, "index.lock", age_seconds=OLD_SECONDS)


@state("locked")
def an_old_lock_of_head(copy: WorkingCopy) -> None:
    lock(copy, "HEAD.lock", age_seconds=OLD_SECONDS)


@state("locked")
def an_old_lock_of_the_branch(copy: WorkingCopy) -> None:
    lock(copy, "refs/heads/main.lock", age_seconds=OLD_SECONDS)


@state("locked")
def an_old_lock_of_the_remote_tracking_branch(copy: WorkingCopy) -> None:
    lock(copy, "refs/remotes/origin/main.lock", age_seconds=OLD_SECONDS)


@state("locked")
def an_old_lock_of_what_was_fetched(copy: WorkingCopy) -> None:
    copy.sync("--plan")
    lock(copy, "refs/worktree/homelab/fetched.lock", age_seconds=OLD_SECONDS)


# No working copy


def without_git(copy: WorkingCopy) -> None:
    shutil.rmtree(copy.path / ".git")


@state("not_a_repository", mends=False)
def a_plain_directory(copy: WorkingCopy) -> None:
    without_git(copy)


@state("not_a_repository", mends=False)
def a_directory_in_a_working_copy(copy: WorkingCopy) -> None:
    (copy.path.parent / ".git").symlink_to(copy.path / ".git")
    (copy.path / ".git").rename(copy.path.parent / "git")
    (copy.path.parent / ".git").unlink()
    (copy.path.parent / "git").rename(copy.path.parent / ".git")


@state("not_a_repository", mends=False)
def a_directory_that_is_gone(copy: WorkingCopy) -> None:
    shutil.rmtree(copy.path)


@state("not_a_repository", mends=False)
def a_file(copy: WorkingCopy) -> None:
    shutil.rmtree(copy.path)
    copy.path.write_text("file")


@state("not_a_repository", mends=False)
def a_bare_repository(copy: WorkingCopy) -> None:
    shutil.rmtree(copy.path)
    copy.remote.rename(copy.path)


@state("not_a_repository", mends=False)
def a_worktree_whose_repository_has_moved(copy: WorkingCopy) -> None:
    (copy.path / ".git").rename(copy.path.parent / "elsewhere")
    (copy.path / ".git").write_text("gitdir: ../not-there\n")


# Fetching


@state("fetch_failed", mends=False)
def the_branch_is_deleted_at_the_remote(copy: WorkingCopy) -> None:
    copy.git("--git-dir", str(copy.remote), "update-ref", "-d", "refs/heads/main")


@state("fetch_failed", mends=False)
def the_remote_is_gone(copy: WorkingCopy) -> None:
    shutil.rmtree(copy.remote)


@state("fetch_failed", mends=False)
def there_is_no_remote(copy: WorkingCopy) -> None:
    copy.git("remote", "remove", "origin")


@state("fetch_failed")
def the_branch_follows_a_local_one(copy: WorkingCopy) -> None:
    copy.git("branch", "other")
    copy.git("branch", "--set-upstream-to=other")


@state("fetch_failed", mends=False)
def the_remote_is_a_program(copy: WorkingCopy) -> None:
    copy.git("remote", "set-url", "origin", f"ext::touch {copy.path.parent}/ran")


@state("fetch_failed", mends=False)
def the_remote_is_damaged(copy: WorkingCopy) -> None:
    spoil(copy.remote, copy.tip(), b"x")


# Damage


def spoil(repository: Path, sha: str, content: bytes | None) -> None:
    path = repository / "objects" / sha[:2] / sha[2:]
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@state("corrupt")
def an_index_of_noughts(copy: WorkingCopy) -> None:
    index = copy.path / ".git/index"
    index.write_bytes(bytes(index.stat().st_size))


@state("corrupt")
def an_index_cut_short(copy: WorkingCopy) -> None:
    os.truncate(copy.path / ".git/index", 100)


@state("corrupt")
def an_empty_index(copy: WorkingCopy) -> None:
    os.truncate(copy.path / ".git/index", 0)


@state("corrupt")
def an_index_that_is_gone(copy: WorkingCopy) -> None:
    (copy.path / ".git/index").unlink()


def loose(copy: WorkingCopy) -> None:
    """Keep each object in a file of its own."""
    git = copy.path / ".git"
    for pack in (git / "objects/pack").glob("*.pack"):
        moved = pack.rename(copy.path.parent / pack.name)
        for left in (git / "objects/pack").iterdir():
            left.unlink()
        with moved.open("rb") as content:
            subprocess.run(["git", "unpack-objects", "-q"], cwd=copy.path, env=copy.env, stdin=content, check=True)


@state("ok")
def the_commit_is_missing(copy: WorkingCopy) -> None:
    """Fetching brings it back."""
    loose(copy)
    spoil(copy.path / ".git", copy.git("rev-parse", "HEAD"), None)


@state("corrupt")
def the_commit_is_empty(copy: WorkingCopy) -> None:
    loose(copy)
    spoil(copy.path / ".git", copy.git("rev-parse", "HEAD"), b"")


@state("corrupt")
def the_commit_is_garbled(copy: WorkingCopy) -> None:
    loose(copy)
    spoil(copy.path / ".git", copy.git("rev-parse", "HEAD"), b"garbled")


@state("corrupt")
def the_tree_is_missing(copy: WorkingCopy) -> None:
    loose(copy)
    spoil(copy.path / ".git", copy.git("rev-parse", "HEAD^{tree}"), None)


@state("corrupt")
def the_tree_is_garbled(copy: WorkingCopy) -> None:
    loose(copy)
    spoil(copy.path / ".git", copy.git("rev-parse", "HEAD^{tree}"), b"garbled")


@state("corrupt")
def a_pack_cut_short(copy: WorkingCopy) -> None:
    copy.git("gc", "--quiet")
    for pack in (copy.path / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        os.truncate(pack, 40)


@state("corrupt")
def the_branch_is_empty(copy: WorkingCopy) -> None:
    os.truncate(copy.path / ".git/refs/heads/main", 0)


@state("corrupt")
def the_branch_is_noughts(copy: WorkingCopy) -> None:
    (copy.path / ".git/refs/heads/main").write_bytes(bytes(41))


@state("corrupt")
def head_is_empty(copy: WorkingCopy) -> None:
    os.truncate(copy.path / ".git/HEAD", 0)


@pytest.mark.parametrize("name", STATES)
def test_a_state_has_its_verdict_which_changes_nothing_and_whose_repair_repairs(name: str, tmp_path: Path) -> None:
    wanted = STATES[name]
    copy = WorkingCopy(tmp_path, FILES)
    copy.push(PUSHED)
    wanted.prepare(copy)
    before = Snapshot.of(tmp_path)
    plan = copy.sync("--plan", *wanted.options, shell="bash")
    assert plan.verdict == wanted.verdict, (plan.told, plan.stderr)
    assert before.changes(Snapshot.of(tmp_path)) == []
    done = copy.sync(*wanted.options)
    assert done.told.keys() == KEYS
    alike = ("verdict", "branch", "asked", "head_before", "target", "commits")
    assert [plan.told[key] for key in alike] == [done.told[key] for key in alike], (plan.told, done.told)
    assert done.code == plan.code == EXIT_CODES[done.verdict]
    if done.verdict == "ok":
        assert done.told["head"] == done.told["target"] == copy.tip()
        assert copy.differences(copy.tip()) == "" or wanted.options
        return
    assert done.told["head"] == done.told["head_before"]
    assert before.changes(Snapshot.of(tmp_path)) == []
    if wanted.mends:
        mend(copy, done, wanted.options)
