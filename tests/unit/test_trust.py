"""Root acts for another user on a configuration that nobody but root can change, and on no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homelab_agent.config import trust
from homelab_agent.core.errors import Exit
from tests import user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of root")


@pytest.fixture
def path(open_directory: Path) -> Path:
    made = open_directory / "etc" / "config.toml"
    made.parent.mkdir()
    made.write_text("")
    return made


def refused(path: Path) -> str:
    """Return why it is refused, and the repair."""
    with pytest.raises(trust.ConfigurationNotRoots) as caught:
        trust.check(path)
    assert caught.value.exit_code == Exit.CONFIGURATION
    return f"{caught.value} / {caught.value.repair}"


@as_root
def test_roots_own_is_taken_below_a_directory_where_each_has_their_own_files_too(path: Path) -> None:
    assert path.parents[2].stat().st_mode & 0o1002 == 0o1002, "it lies in such a directory"
    trust.check(path)


@as_root
@pytest.mark.parametrize("place", ["config.toml", ".", ".."])
def test_what_another_owns_or_may_write_to_is_not(path: Path, place: str) -> None:
    there = (path.parent / place).resolve()
    os.chown(there, user.UID, 0)
    assert f"{there} does not belong to root" in refused(path)
    assert f"sudo chown root: {there}" in refused(path)
    os.chown(there, 0, user.UID)
    for mode in (0o775, 0o757, 0o777):
        there.chmod(mode)
        assert f"others may write to {there}. / sudo chmod go-w {there}" in refused(path)
    there.chmod(0o750)
    trust.check(path)


@as_root
def test_a_file_is_not_made_safe_by_a_sticky_bit(path: Path) -> None:
    path.chmod(0o1666)
    assert f"others may write to {path}" in refused(path)


def test_a_link_is_not_followed_even_to_roots_own(path: Path) -> None:
    link = path.with_name("link.toml")
    link.symlink_to("/etc/passwd")
    assert "a symbolic link leads to it" in refused(link)
    assert "--config /etc/passwd" in refused(link)
    path.parents[1].joinpath("linked").symlink_to(path.parent)
    assert f"--config {path}" in refused(path.parents[1] / "linked" / path.name)


def test_one_that_is_not_there_is_not(path: Path) -> None:
    assert "No such file" in refused(path.with_name("other.toml"))
