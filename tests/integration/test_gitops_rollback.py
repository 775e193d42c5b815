"""The move backwards: a clean working copy on its branch goes back, anything else stays as it is, to the last byte."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from homelab_agent.core.privilege import VerbFailed
from homelab_agent.gitops.rollback import KEPT, Standing
from tests.clock import until
from tests.gitops_half import ROOT, Site, serving
from tests.neighbours.disk import Disks
from tests.neighbours.git_remote import GitRemote
from tests.working_copy import Snapshot

FIRST = {"a.txt": "a\n", "b.txt": "b\n", ".env": "of the first commit\n", "dir/c.txt": "c\n", "config.json": "{}\n"}
SECOND = {"a.txt": "second\n", "b.txt": None, ".env": None, ".gitignore": ".env\n", "new/d.txt": "d\n"}

MAY_DIFFER = {".git/index", ".git/refs/homelab", ".git/refs/homelab/rolled-back"}
"""The index has the times of files, too; where a name was are empty directories."""


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def site(open_directory: Path, git_remote: GitRemote) -> Site:
    """A working copy at the second of two commits."""
    git_remote.commit(FIRST)
    git_remote.commit(SECOND)
    return Site(open_directory, git_remote)


async def test_it_goes_back_keeps_the_old_tip_and_the_next_sync_goes_forward(site: Site) -> None:
    tip, good = site.head, site.git("rev-parse", "HEAD~1")
    site.write({"mine.txt": "mine"})
    async with serving(site.directory, site.settings()) as half:
        done = await half("git_rollback", sha=good)
        assert (done["verdict"], done["head_before"], done["head"]) == ("ok", tip, good)
        assert done["kept_ref"].startswith(KEPT)
        assert site.git("rev-parse", done["kept_ref"]) == tip
        assert site.head == good
        assert site.git("status", "--short", "--branch").splitlines()[0] == "## main...origin/main [behind 1]"
        assert (site.path / "b.txt").read_text() == "b\n"
        assert not (site.path / "new").exists()
        assert (site.path / "mine.txt").read_text() == "mine"
        assert site.strangers() == []
        again = await half("git_rollback", sha=good)
        assert (again["verdict"], again["head"], again["kept_ref"]) == ("up_to_date", good, "")
        assert (await half("git_sync"))["head"] == tip
        assert site.git("for-each-ref", "--format=%(refname)", KEPT) == done["kept_ref"]


def edited(site: Site) -> None:
    site.write({"dir/c.txt": "edit\n"})


def edited_where_it_may_be_but_the_move_is_too(site: Site) -> None:
    site.write({"a.txt": "edit\n"})


def an_ignored_file_where_the_older_commit_has_one(site: Site) -> None:
    site.write({".env": "of the host\n"})


def an_untracked_file_where_the_older_commit_has_one(site: Site) -> None:
    site.write({"b.txt": "mine\n"})


def another_branch(site: Site) -> None:
    site.git("switch", "--quiet", "--create", "other")


def no_branch(site: Site) -> None:
    site.git("switch", "--quiet", "--detach")


def a_locked_index(site: Site) -> None:
    site.write({".git/index.lock": ""})


def a_locked_branch(site: Site) -> None:
    site.write({".git/refs/heads/main.lock": ""})


def a_merge_under_way(site: Site) -> None:
    site.git(
        "merge",
        "--quiet",
        "--no-commit",
        "--strategy=ours",
        site.git("commit-tree", "-m", "x", "HEAD^{tree}"),
        "--allow-unrelated-histories",
    )


def a_damaged_index(site: Site) -> None:
    site.write({".git/index": "rubbish"})


@pytest.mark.parametrize(
    ("prepare", "verdict"),
    [
        (edited, "dirty"),
        (edited_where_it_may_be_but_the_move_is_too, "dirty_overlap"),
        (an_ignored_file_where_the_older_commit_has_one, "untracked_collision"),
        (an_untracked_file_where_the_older_commit_has_one, "untracked_collision"),
        (another_branch, "wrong_branch"),
        (no_branch, "detached"),
        (a_locked_index, "locked"),
        (a_locked_branch, "locked"),
        (a_merge_under_way, "dirty"),
        (a_damaged_index, "corrupt"),
    ],
)
async def test_where_it_cannot_go_back_it_says_why_and_changes_nothing(
    site: Site, prepare: Callable[[Site], None], verdict: str
) -> None:
    good = site.git("rev-parse", "HEAD~1")
    prepare(site)
    before = Snapshot.of(site.path)
    async with serving(site.directory, site.settings(ignore_dirty=["a.txt"])) as half:
        said = await half("git_rollback", sha=good)
    assert (said["verdict"], said["kept_ref"]) == (verdict, "")
    assert said["head"] == said["head_before"]
    assert set(before.changes(Snapshot.of(site.path))) <= MAY_DIFFER
    assert site.git("for-each-ref", KEPT) == ""


async def test_it_never_goes_to_where_it_does_not_come_from(site: Site) -> None:
    tip = site.head
    newer = site.remote.commit({"a.txt": "newer\n"})
    site.git("fetch", "--quiet")
    async with serving(site.directory, site.settings()) as half:
        for foreign in (newer, "1" * 40, "1" * 64, site.git("rev-parse", "HEAD:a.txt")):
            said = await half("git_rollback", sha=foreign)
            assert (said["verdict"], said["head"]) == ("diverged", tip)


async def test_what_a_program_rewrites_stays_as_it_is(site: Site) -> None:
    site.write({"config.json": "rewritten\n"})
    good = site.git("rev-parse", "HEAD~1")
    async with serving(site.directory, site.settings(ignore_dirty=["*.json"])) as half:
        assert (await half("git_rollback", sha=good))["verdict"] == "ok"
    assert (site.path / "config.json").read_text() == "rewritten\n"


async def test_a_plan_says_whether_it_would_and_changes_nothing(site: Site) -> None:
    tip, good = site.head, site.git("rev-parse", "HEAD~1")
    async with serving(site.directory, site.settings()) as half:
        said = await half("git_rollback", sha=good, plan=True)
        assert (said["verdict"], said["head"], said["kept_ref"]) == ("ok", tip, "")
        assert said["detail"] == f"main can move back to {good[:7]}"
        assert (await half("git_rollback", sha=tip, plan=True))["verdict"] == "up_to_date"
        edited(site)
        assert (await half("git_rollback", sha=good, plan=True))["verdict"] == "dirty"
    assert site.head == tip
    assert site.git("for-each-ref", KEPT) == ""


def with_a_submodule(remote: GitRemote) -> str:
    """Commit a submodule, which is the repository itself; return the commit."""
    told = f'[submodule "sub"]\n\tpath = sub\n\turl = {remote.url("http")}\n'
    blob = remote("hash-object", "-w", "--stdin", given=told.encode())
    entries = [
        remote("ls-tree", "main"),
        f"160000 commit {remote.sha('main')}\tsub",
        f"100644 blob {blob}\t.gitmodules",
    ]
    tree = remote("mktree", given="\n".join([*entries, ""]).encode())
    commit = remote("commit-tree", tree, "-p", "main", "-m", "a submodule")
    return remote.branch("main", commit)


async def test_who_goes_away_is_not_kept_waiting_by_submodules(site: Site) -> None:
    good = with_a_submodule(site.remote)
    site.remote.commit({"sub": None, ".gitmodules": None})
    async with serving(site.directory, site.settings(submodules=True)) as half:
        assert (await half("git_sync"))["verdict"] == "ok"
        site.remote.slow(1)
        asked = asyncio.create_task(half("git_rollback", sha=good))
        await until(lambda: site.head == good and len(site.workers()) > 2, "the remote is asked", seconds=30)
        asked.cancel()
        await until(lambda: site.workers() == [], "it has ended", seconds=30)
        assert site.head == good
        site.remote.mend()
        assert (await half("git_plan"))["verdict"] == "ok", "what was cut short keeps nothing from moving"
    assert site.git("status", "--porcelain") == ""


@pytest.mark.parametrize("back", [False, True])
async def test_a_submodule_whose_clone_was_cut_short_keeps_nothing_from_moving(site: Site, *, back: bool) -> None:
    good = with_a_submodule(site.remote)
    async with serving(site.directory, site.settings(submodules=True)) as half:
        assert (await half("git_sync"))["verdict"] == "ok"
        site.remote.commit({"b.txt": "b\n"})
        if back:
            assert (await half("git_sync"))["verdict"] == "ok"
        shutil.rmtree(site.path / ".git/modules/sub")
        leads_nowhere = (site.path / "sub/.git").read_bytes()
        shutil.rmtree(site.path / "sub")
        (site.path / "sub").mkdir()
        (site.path / "sub/.git").write_bytes(leads_nowhere)
        site.own()
        done = await (half("git_rollback", sha=good) if back else half("git_sync"))
        assert done["verdict"] == "ok", done
    assert site.git("submodule", "status").endswith(")"), "it is checked out"
    assert site.git("status", "--porcelain") == ""


async def test_on_a_full_disk_it_stays_where_it_is(disk: Disks, open_directory: Path, git_remote: GitRemote) -> None:
    full = disk(megabytes=6)
    good = git_remote.commit({"a.txt": "a\n", "large": random.Random(1).randbytes(1_000_000), "z.txt": "z\n"})
    git_remote.commit({"a.txt": "second\n", "large": None, "z.txt": None, "new.txt": "new\n"})
    site = Site(full.point, git_remote)
    before = Snapshot.of(site.path)
    async with serving(open_directory, site.settings()) as half:
        site.git("tag", "kept")
        (full.point / "filler").write_bytes(bytes(free_bytes(full.point) - 300_000))
        with pytest.raises(VerbFailed, match="unable to write file large"):
            await half("git_rollback", sha=good)
        assert set(before.changes(Snapshot.of(site.path))) <= MAY_DIFFER | {".git/refs/tags/kept"}
        assert site.git("status", "--porcelain") == ""
        (full.point / "filler").unlink()
        assert (await half("git_rollback", sha=good))["verdict"] == "ok"
    assert site.git("status", "--porcelain") == ""


def free_bytes(directory: Path) -> int:
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize


async def test_what_git_cannot_do_for_a_reason_of_its_own_is_no_verdict(site: Site) -> None:
    site.git("config", "core.repositoryFormatVersion", "9")
    async with serving(site.directory, site.settings()) as half:
        with pytest.raises(VerbFailed, match="repo version"):
            await half("git_rollback", sha="1" * 40)


@pytest.mark.parametrize(
    ("printed", "standing"),
    [
        ("# branch.oid abc\0# branch.head main\0# branch.upstream origin/main\0", Standing("abc", "main", 0)),
        ("# branch.oid (initial)\0# branch.head main\0", Standing("", "main", 0)),
        ("# branch.oid abc\0# branch.head (detached)\0", Standing("abc", "", 0)),
        ("# branch.oid abc\0# branch.head main\x001 .M N... 1 2 3 4 5 # branch.head x\0", Standing("abc", "main", 1)),
        (
            "# branch.oid abc\0# branch.head main\0u UU N... 1 2 3 4 5 6 7 x\x001 .M SC.. x\0",
            Standing("abc", "main", 1),
        ),
    ],
)
def test_what_git_says_of_a_working_copy_is_read(printed: str, standing: Standing) -> None:
    assert Standing.of(printed) == standing
