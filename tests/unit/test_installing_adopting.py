"""Where `make run` has left its state is found, and is left alone while somebody uses it."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from homelab_agent.core.lock import DirectoryLock, StateDirectoryClosed, kept_free
from homelab_agent.installing import adopting
from tests.neighbours.neighbour import program
from tests.waiting import until


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "state.id").write_text("1\n")
    return directory


def test_the_place_that_the_configuration_names_comes_first_and_then_that_of_who_called_sudo(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[agent]\nstate = "/srv/state"\n')
    home = pwd.getpwnam("daemon").pw_dir
    found = list(adopting.candidates(tmp_path, "daemon"))
    assert found[:2] == [Path("/srv/state"), Path(home) / ".local/state/homelab-agent"]


@pytest.mark.parametrize("text", [None, "", "this is no TOML", "[agent]\nstat = 1\n"])
def test_a_configuration_that_names_none_keeps_nobody_from_looking(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.toml").write_text(text)
    home = Path(pwd.getpwnam("daemon").pw_dir)
    assert home / ".local/state/homelab-agent" in list(adopting.candidates(tmp_path, "daemon"))
    assert list(adopting.candidates(tmp_path, "nobody-of-that-name")) in ([], list(adopting.candidates(tmp_path, "")))


def test_a_state_that_an_agent_holds_is_not_taken(state: Path) -> None:
    with DirectoryLock(state), pytest.raises(adopting.StillInUse, match=f"process {os.getpid()}"):
        adopting.check_at_rest(state)
    adopting.check_at_rest(state)


def test_a_state_whose_postgresql_still_runs_is_not_taken(state: Path, tmp_path: Path) -> None:
    data = state / "postgres/18/data"
    data.mkdir(parents=True)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    adopting.check_at_rest(state)  # that process is another program
    server = tmp_path / "postgres"  # what the kernel calls it is what counts
    shutil.copy(program("sleep", "apt install coreutils"), server)
    child = os.posix_spawn(server, ["postgres", "60"], {})
    try:
        until(lambda: Path(f"/proc/{child}/comm").read_text() == "postgres\n", "the kernel calls it so")
        (data / "postmaster.pid").write_text(f"{child}\n{data}\n")
        with pytest.raises(adopting.StillInUse, match="its PostgreSQL, process"):
            adopting.check_at_rest(state)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    adopting.check_at_rest(state)


def test_nothing_is_put_over_what_is_there(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "something").touch()
    with pytest.raises(adopting.StateInTheWay):
        adopting.copy(state, target)
    assert [one.name for one in target.iterdir()] == ["something"]


def test_without_room_nothing_is_copied(state: Path, tmp_path: Path) -> None:
    with (state / "state.db").open("wb") as file:
        file.truncate(8 << 40)  # ext4 takes no larger one
    with pytest.raises(adopting.NoRoom):
        adopting.copy(state, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_link_is_no_directory_to_copy(state: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(state)
    with pytest.raises(adopting.IsALink) as raised:
        adopting.copy(link, tmp_path / "target")
    assert f"ADOPT={state}" in raised.value.repair
    with pytest.raises(StateDirectoryClosed), kept_free(link, link=False):
        pass
    assert not (tmp_path / "target").exists()


def test_a_directory_that_is_exchanged_while_it_is_copied_is_copied_all_the_same(state: Path, tmp_path: Path) -> None:
    others, target = tmp_path / "others", tmp_path / "target"
    for directory in (others, target):
        directory.mkdir()
    (others / "theirs").touch()
    with kept_free(state, link=False) as opened:
        state.rename(tmp_path / "away")
        state.symlink_to(others)
        adopting._pour([], opened, [], target, called=state)
    assert [file.name for file in target.iterdir()] == ["state.id"]
