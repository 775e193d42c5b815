"""Only root and a working copy's own user may decide which directory its path leads to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from homelab_agent.core.privilege import User
from homelab_agent.gitops import way
from homelab_agent.gitops.way import NotItsOwners
from tests.neighbours.neighbour import need_root

KEEPER = User("keeper", 4001, 4001, "/home/keeper", (4001,))
ROOT = User("root", 0, 0, "/root", (0,))
OTHER = 4002


@pytest.fixture
def top(open_directory: Path) -> Path:
    need_root("to make directories of others")
    return open_directory


def made(path: Path, owner: int, mode: int = 0o755, group: int | None = None) -> Path:
    path.mkdir()
    os.chown(path, owner, owner if group is None else group)
    path.chmod(mode)
    return path


def link(path: Path, target: Path | str, owner: int) -> Path:
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)
    return path


def check(path: Path, user: User = KEEPER) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        way.check(path, descriptor, user)
    finally:
        os.close(descriptor)


GOOD: dict[str, Callable[[Path], Path]] = {
    "in a folder of root's": lambda top: made(top / "site", 4001),
    "in a folder of its user's": lambda top: made(made(top / "home", 4001) / "site", 4001),
    "in one that is the user's own group's": lambda top: made(made(top / "home", 4001, 0o775) / "site", 4001),
    "its own in a shared one": lambda top: made(made(top / "tmp", 0, 0o1777) / "site", 4001),
    "by a link of root's": lambda top: link(top / "link", made(top / "site", 4001), 0),
    "by a link of its user's": lambda top: link(made(top / "home", 4001) / "link", made(top / "site", 4001), 4001),
    "by a link that goes up": lambda top: link(made(top / "a", 0) / "link", f"../{made(top / 'site', 4001).name}", 0),
}
BAD: dict[str, Callable[[Path], Path]] = {
    "in a folder of another's": lambda top: made(made(top / "home", OTHER) / "site", 4001),
    "below a folder of another's": lambda top: made(made(made(top / "home", OTHER) / "a", 4001) / "site", 4001),
    "in one that a group may change": lambda top: made(made(top / "srv", 0, 0o775, OTHER) / "site", 4001),
    "in one that all may change": lambda top: made(made(top / "srv", 0, 0o777) / "site", 4001),
    "by another's link in a shared one": lambda top: link(
        made(top / "tmp", 0, 0o1777) / "link", made(top / "site", 4001), OTHER
    ),
    "by root's link into a folder of another's": lambda top: link(
        top / "link", made(made(top / "home", OTHER) / "site", 4001), 0
    ),
    "by root's link to another's link": lambda top: link(
        top / "link", link(made(top / "home", OTHER) / "link", made(top / "site", 4001), OTHER), 0
    ),
    "over another's folder and back": lambda top: Path(
        f"{made(top / 'home', OTHER)}/{made(top / 'home/a', 4001).name}/../../{made(top / 'site', 4001).name}"
    ),
}


@pytest.mark.parametrize("how", GOOD)
def test_what_root_or_its_user_has_put_there_is_taken(top: Path, how: str) -> None:
    check(GOOD[how](top))


@pytest.mark.parametrize("how", BAD)
def test_what_others_could_exchange_is_not(top: Path, how: str) -> None:
    path = BAD[how](top)
    with pytest.raises(NotItsOwners, match="Others than keeper may put another directory in the place of") as caught:
        check(path)
    assert "sudo chown keeper:" in caught.value.repair


def test_a_folder_of_its_owners_leads_nowhere_that_is_roots(top: Path) -> None:
    home = made(top / "home", 4001)
    shared = made(top / "shared", 0, 0o1777)
    with pytest.raises(NotItsOwners, match="Others than root"):
        check(link(home / "site", shared, 4001), ROOT)


def test_what_was_opened_is_what_is_there(top: Path) -> None:
    site = made(top / "site", 4001)
    descriptor = os.open(site, os.O_PATH | os.O_DIRECTORY)
    try:
        site.rename(top / "before")
        made(top / "site", 4001)
        with pytest.raises(NotItsOwners):
            way.check(site, descriptor, KEEPER)
    finally:
        os.close(descriptor)


def test_links_that_lead_round_end(top: Path) -> None:
    link(top / "one", "two", 0)
    link(top / "two", "one", 0)
    with pytest.raises(OSError, match="Too many levels"):
        way.check(top / "one", 0, KEEPER)
