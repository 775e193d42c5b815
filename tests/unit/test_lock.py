"""One agent per state directory: the second one says who holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homelab_agent.core import lock
from homelab_agent.core.errors import Exit
from homelab_agent.core.lock import DirectoryLock, StateDirectoryBusy, StateDirectoryClosed
from tests.fixtures.disk import Closable
from tests.neighbours.disk import Disks

HOLD = """
import sys
from pathlib import Path
from homelab_agent.core.lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_the_second_is_told_who_holds_it_and_gets_it_after_a_kill(tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        with (
            pytest.raises(StateDirectoryBusy, match=f"process {child.pid}, since 20") as caught,
            DirectoryLock(tmp_path),
        ):
            pass
        assert caught.value.exit_code == Exit.BUSY
        assert str(tmp_path) in caught.value.message
        child.kill()
        child.wait(10)
        with DirectoryLock(tmp_path):
            assert (tmp_path / "agent.lock").read_text().startswith(f"process {os.getpid()}, since ")


def test_who_is_turned_away_leaves_the_holders_name_alone(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        before = (tmp_path / "agent.lock").read_text()
        with pytest.raises(StateDirectoryBusy), DirectoryLock(tmp_path):
            pass
        assert (tmp_path / "agent.lock").read_text() == before


def test_it_can_be_taken_again_after_it_was_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with DirectoryLock(tmp_path / "made" / "when missing"):
            pass


def test_other_programs_see_the_lock_on_the_file(tmp_path: Path) -> None:
    command = ["flock", "--nonblock", str(tmp_path / "agent.lock"), "true"]
    with DirectoryLock(tmp_path):
        assert subprocess.run(command, check=False).returncode == 1
    assert subprocess.run(command, check=False).returncode == 0


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with DirectoryLock(tmp_path):
            pass
    finally:
        child.kill()
        child.wait(10)


def test_a_read_only_directory_is_held_as_well(closable: Closable) -> None:
    closable.read_only()
    with DirectoryLock(closable.point):
        with pytest.raises(StateDirectoryBusy), DirectoryLock(closable.point):
            pass
        closable.read_write()  # the second one could now make the file, and is still turned away
        with pytest.raises(StateDirectoryBusy, match="could not leave its name"), DirectoryLock(closable.point):
            pass


def test_a_full_disk_is_no_reason_not_to_start(disk: Disks) -> None:
    small = disk(megabytes=1)
    small.fill()
    with DirectoryLock(small.point), pytest.raises(StateDirectoryBusy), DirectoryLock(small.point):
        pass


def test_a_directory_that_cannot_be_is_said_with_its_repair(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StateDirectoryClosed, match="cannot enter") as caught,
        DirectoryLock(tmp_path / "file"),
    ):
        pass
    assert str(tmp_path / "file") in caught.value.repair
    assert caught.value.exit_code == Exit.CONFIGURATION


def test_who_holds_it_is_seen_without_taking_it(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) == ""
    with holder(tmp_path) as child:
        assert lock.holder(tmp_path).startswith(f"process {child.pid}, since 20")
        child.kill()
    assert lock.holder(tmp_path) == ""
