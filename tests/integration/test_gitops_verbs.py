"""The root half moves a working copy as its owner, and says why where it does not."""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from homelab_agent.core.privilege import VerbFailed
from tests.clock import until
from tests.gitops_half import OWNER, ROOT, Site, serving
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.neighbour import need_root

FILES = {"a.txt": "a\n", "b.txt": "b\n", "dir/c.txt": "c\n"}


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def site(open_directory: Path, git_remote: GitRemote) -> Site:
    git_remote.commit(FILES)
    return Site(open_directory, git_remote)


# Forward


async def test_a_plan_moves_nothing_and_a_sync_moves_what_stays_its_owners(site: Site) -> None:
    before, target = site.head, site.remote.commit({"a.txt": "new\n", "new/d.txt": "d\n"})
    async with serving(site.directory, site.settings()) as half:
        planned = await half("git_plan")
        assert (planned["verdict"], planned["head"], planned["target"]) == ("ok", before, target)
        assert site.head == before
        done = await half("git_sync")
        assert (done["verdict"], done["head_before"], done["head"], done["commits"]) == ("ok", before, target, 1)
        assert (await half("git_sync"))["verdict"] == "up_to_date"
    assert site.head == target
    assert (site.path / "new/d.txt").read_text() == "d\n"
    assert site.strangers() == []


async def test_a_sync_goes_to_the_commit_that_is_asked_for(site: Site) -> None:
    first = site.remote.commit({"a.txt": "1\n"})
    site.remote.commit({"a.txt": "2\n"})
    async with serving(site.directory, site.settings()) as half:
        done = await half("git_sync", sha=first)
        assert (done["verdict"], done["asked"], done["head"]) == ("ok", first, first)


async def test_what_keeps_it_from_moving_is_told_with_what_mends_it(site: Site) -> None:
    site.remote.commit({"a.txt": "new\n"})
    site.write({"a.txt": "edit\n", "dir/c.txt": "rewritten\n"})
    async with serving(site.directory, site.settings(ignore_dirty=["dir/*"])) as half:
        said = await half("git_sync")
        assert (said["verdict"], said["repair"]) == ("dirty_overlap", ["git stash push"])
        assert said["as_user"] == ("" if os.geteuid() == OWNER else pwd.getpwuid(OWNER).pw_name)
        site.git("checkout", "a.txt")
        assert (await half("git_sync"))["verdict"] == "ok"
    assert (site.path / "dir/c.txt").read_text() == "rewritten\n"


async def test_where_there_is_no_working_copy_that_is_the_verdict(site: Site) -> None:
    site.path.rename(site.directory / "elsewhere")
    async with serving(site.directory, site.settings()) as half:
        for said in (await half("git_sync"), await half("git_plan"), await half("git_rollback", sha="0" * 40)):
            assert said["verdict"] == "not_a_repository"
            assert str(site.path) in said["repair"]
        with pytest.raises(VerbFailed, match="no directory"):
            await half("git_changed", old="0" * 40, new="0" * 40)
        site.path.mkdir()
        assert (await half("git_sync"))["verdict"] == "not_a_repository"


async def test_what_git_cannot_do_is_to_be_looked_into_as_the_owner(site: Site) -> None:
    site.git("config", "core.repositoryFormatVersion", "9")
    async with serving(site.directory, site.settings()) as half:
        with pytest.raises(VerbFailed, match="repo version") as caught:
            await half("git_changed", old="0" * 40, new="1" * 40)
    words = shlex.split(caught.value.repair)
    if os.geteuid() == OWNER:
        assert words == ["cd", f"{site.path};", "git", "status"]
    else:
        assert words == ["sudo", "-u", pwd.getpwuid(OWNER).pw_name, "sh", "-c", f"cd {site.path}; git status"]


@pytest.mark.parametrize("run_as", ["homelab-agent-nobody-has-this", "daemon"])
async def test_it_is_worked_in_by_its_owner_only(site: Site, run_as: str) -> None:
    head = site.head
    site.remote.commit({"a.txt": "new\n"})
    async with serving(site.directory, site.settings(run_as=run_as)) as half:
        said = await half("git_sync")
        assert said["verdict"] == (await half("git_rollback", sha=head))["verdict"] == "wrong_owner"
        assert said["repair"]
    assert site.head == head


@pytest.fixture
def slow(site: Site) -> Site:
    """One whose remote says a byte a second."""
    site.remote.slow(1)
    return site


async def test_a_remote_that_does_not_answer_is_not_waited_for_without_end(slow: Site) -> None:
    async with serving(slow.directory, slow.settings(timeout=1.0)) as half:
        said = await half("git_sync")
        assert (said["verdict"], said["detail"]) == ("fetch_failed", "git was not done after 1 s")
        assert slow.workers() == []


async def test_when_who_called_goes_away_git_ends(slow: Site) -> None:
    async with serving(slow.directory, slow.settings()) as half:
        asked = asyncio.create_task(half("git_sync"))
        await until(lambda: len(slow.workers()) > 2, "git asks the remote", seconds=30)
        asked.cancel()
        await until(lambda: slow.workers() == [], "it has ended", seconds=30)


async def test_where_git_is_not_installed_that_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    async with serving(site.directory, site.settings()) as half:
        with pytest.raises(VerbFailed, match=r"ended with 2.*git is not installed"):
            await half("git_sync")


# Asking


async def test_what_changed_is_told_by_name(site: Site) -> None:
    old = site.head
    names = {"a.txt": None, "dir/moved.txt": "c\n", "dir/c.txt": None, 'it\'s "odd"\n\ttab': "x", "größe": "x"}
    site.remote.commit(names)
    site.remote(
        "fast-import", "--quiet", "--force",
        given=b"commit refs/heads/main\ncommitter A <a@b> 0 +0000\ndata 1\nx\nfrom refs/heads/main^0\n"
        b'M 100644 inline "bad\\377name"\ndata 1\nx\n',
    )  # fmt: skip
    async with serving(site.directory, site.settings()) as half:
        new = (await half("git_sync"))["head"]
        said = await half("git_changed", old=old, new=new)
        assert sorted(said["paths"]) == sorted([*names, "bad\ufffdname"])
        assert not said["truncated"]
        back = await half("git_changed", old=new, new=old)
        assert sorted(back["paths"]) == sorted(said["paths"])
        assert await half("git_changed", old=new, new=new) == {"paths": [], "truncated": False}
        gone = await half("git_changed", old="1" * 40, new=new)
        assert gone == {"paths": [], "truncated": True}
        with pytest.raises(VerbFailed, match="1111"):
            await half("git_changed", old=new, new="1" * 40)


async def test_of_many_commits_those_are_told_that_are_part_of_one(site: Site) -> None:
    first = site.head
    second = site.remote.commit({"a.txt": "two\n"})
    beside = site.remote.commit({"a.txt": "beside\n"}, branch="other", onto=first)
    beyond = site.remote.commit({"a.txt": "more\n"}, branch="other", onto=beside)
    blob = site.remote("rev-parse", "main:a.txt").strip()
    async with serving(site.directory, site.settings()) as half:
        await half("git_sync")
        site.git("fetch", "--quiet", "origin", "other")
        asked = [second, first, beside, beyond, blob, "1" * 40]
        for head, parts in ((second, {first, second}), (first, {first}), (beyond, {first, beside, beyond})):
            assert set((await half("git_contained", head=head, shas=asked))["contained"]) == parts
        assert await half("git_contained", head=first, shas=["1" * 40]) == {"contained": []}
        assert await half("git_contained", head=first, shas=[]) == {"contained": []}
        with pytest.raises(VerbFailed, match="1111"):
            await half("git_contained", head="1" * 40, shas=asked)


async def test_more_names_than_can_be_told_are_none(site: Site) -> None:
    old, deep = site.head, "d" * 200
    new = site.remote.commit({f"\x01{number:04}{deep}": "" for number in range(600)})
    newest = site.remote.commit({f"\x02{number:04}{deep}": "" for number in range(700)})
    async with serving(site.directory, site.settings()) as half:
        await half("git_sync")
        said = await half("git_changed", old=old, new=new)
        assert (len(said["paths"]), said["truncated"]) == (600, False)
        assert await half("git_changed", old=old, new=newest) == {"paths": [], "truncated": True}


# Whatever its settings are


HOSTILE = """
[core]
    fsmonitor = {program}
    sshCommand = {program}
    askPass = {program}
    pager = {program}
    editor = {program}
    hooksPath = {hooks}
    alternateRefsCommand = {program}
    gitProxy = {program}
[credential]
    helper = {program}
[alias]
    status = !{program}
    switch = !{program}
    fetch = !{program}
[diff]
    external = {program}
[diff "x"]
    textconv = {program}
    command = {program}
[merge "x"]
    driver = {program}
[gpg]
    program = {program}
[pager]
    status = {program}
[uploadpack]
    packObjectsHook = {program}
[submodule "x"]
    update = !{program}
[include]
    path = {more}
"""


async def test_no_setting_of_the_working_copy_runs_a_program(site: Site) -> None:
    site.remote.commit({".gitattributes": "* diff=x merge=x\n"})
    target, ran = site.remote.commit({"a.txt": "new\n"}), site.directory / "ran"
    ran.touch()
    ran.chmod(0o666)
    program, hooks, more = (site.directory / name for name in ("program", "hooks", "more"))
    program.write_text(f"#!/bin/sh\necho $(id -u) $0 $* >>{ran}\n")
    program.chmod(0o755)
    hooks.mkdir()
    for place in (hooks, site.path / ".git/hooks"):
        for name in ("post-checkout", "post-merge", "reference-transaction", "post-index-change", "pre-merge-commit"):
            (place / name).symlink_to(program)
    more.write_text(f"[core]\nfsmonitor = {program}\n")
    config = site.path / ".git/config"
    config.write_text(config.read_text() + HOSTILE.format(program=program, hooks=hooks, more=more))
    site.own()
    async with serving(site.directory, site.settings()) as half:
        before = (await half("git_plan"))["head"]
        assert (await half("git_sync"))["head"] == target
        assert (await half("git_changed", old=before, new=target))["paths"]
        assert (await half("git_rollback", sha=before))["verdict"] == "ok"
    assert ran.read_text() == ""


async def test_a_filter_runs_as_the_owner_and_never_as_root(site: Site) -> None:
    need_root("to be another user")
    site.remote.commit({".gitattributes": "*.txt filter=x\n", "a.txt": "new\n"})
    ran = site.directory / "ran"
    ran.touch()
    ran.chmod(0o666)
    site.git("config", "filter.x.smudge", f"id -u >>{ran}; cat")
    site.git("config", "filter.x.clean", f"id -u >>{ran}; cat")
    async with serving(site.directory, site.settings()) as half:
        done = await half("git_sync")
        assert done["verdict"] == "ok"
        assert (await half("git_rollback", sha=done["head_before"]))["verdict"] == "ok"
    assert set(ran.read_text().split()) == {str(OWNER)}


async def test_the_halfs_own_git_settings_and_variables_do_not_count(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[this is no setting\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    before, target = site.head, site.remote.commit({"a.txt": "new\n"})
    async with serving(site.directory, site.settings()) as half:
        assert (await half("git_sync"))["head"] == target
        assert (await half("git_rollback", sha=before))["verdict"] == "ok"


async def test_a_directory_of_this_host_is_a_remote_only_where_that_is_set(site: Site) -> None:
    site.git("remote", "set-url", "origin", site.remote.url("file"))
    for path in (site.remote.path, *site.remote.path.rglob("*")):
        os.chown(path, OWNER, -1)
    async with serving(site.directory, site.settings()) as half:
        assert "--allow-file" in (await half("git_sync"))["detail"]
    async with serving(site.directory, site.settings(allow_file=True)) as half:
        assert (await half("git_sync"))["verdict"] == "up_to_date"


def test_the_verbs_bring_neither_aiohttp_nor_asyncpg() -> None:
    program = "import sys, homelab_agent.gitops.verbs; print({'aiohttp', 'asyncpg'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
