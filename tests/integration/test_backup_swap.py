"""Files that a restore replaces are the old ones or the new ones, whenever it is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.backup import swap, undo_doctor
from homelab_agent.backup.restore_errors import (
    AnotherFirst,
    DockerNeeded,
    HalfRestored,
    NoteUnreadable,
    NothingToUndo,
    NotNoted,
    RestoreUnderWay,
)
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_beyond import Files
from homelab_agent.backup.undo_note import Undo
from homelab_agent.core.health import Finding
from tests import swapping
from tests.fixtures.soak import Soak
from tests.neighbours.disk import Disk, Disks
from tests.neighbours.neighbour import need_root
from tests.swapping import Forks
from tests.waiting import until

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)
HOWS = ("exchange", "without")
POINTS = 60
"""More calls than any turn makes."""


class Case:
    """A directory, a single file, a file that is new and one that goes, each with its other side beside it."""

    def __init__(self, directory: Path) -> None:
        self.place = directory / "place"
        self.undos = Undos(directory / "records")
        self.place.mkdir()
        for side, parent in (("old", self.place), ("new", self.place / ".beside")):
            (parent / "volume" / "deep").mkdir(parents=True)
            (parent / "volume" / "deep" / "file").write_text(side)
            (parent / "single").write_text(side)
        (self.place / "goes").write_text("old")
        (self.place / ".beside" / "comes").write_text("new")
        names = ("volume", "single", "goes", "comes")
        moves = [swap.planned(self.place / name, self.place / ".beside" / name) for name in names]
        with self.undos.alone():
            self.undo = self.undos.note(Undo("id", "set", "archive", AT, "kept", moves=moves, first=False))

    def look(self) -> str:
        """Return which side stands there, whole; fail where it is neither."""
        (side,) = {(self.place / "volume" / "deep" / "file").read_text(), (self.place / "single").read_text()}
        beside = self.place / ".beside"
        goes, comes = (self.place, beside) if side == "old" else (beside, self.place)
        assert [(goes / "goes").read_text(), (comes / "comes").read_text()] == ["old", "new"]
        assert sum(path.is_file() for path in self.place.rglob("*")) == 6
        assert not list(self.place.rglob("*.aside"))
        return side


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with swapping.forks() as them:
        yield them


@pytest.mark.parametrize("how", HOWS)
def test_killed_at_any_point_it_leaves_one_side_whole(case: Case, forks: Forks, how: str) -> None:
    killed = 0
    for count in range(POINTS):
        before = case.look()
        forks.start(case.undos.directory.parent, count, how)
        ended = forks.wait()
        noted = case.undos.list()[0].live
        if how == "exchange":
            assert (case.place / "volume" / "deep" / "file").exists(), "a volume is never missing"
        case.undos.heal()
        assert case.look() == case.undos.list()[0].live == noted
        killed += ended != 0
        if ended == 0:
            assert noted != before
            break
    assert killed > 6, "it was killed in its middle, too"
    assert ended == 0, "and at last it came to its end"


@pytest.mark.parametrize("how", HOWS)
def test_killed_at_random_moments_it_leaves_one_side_whole(case: Case, forks: Forks, soak: Soak, how: str) -> None:
    for _ in soak.rounds(10):
        _kill_once(case, forks, soak, how)


@pytest.mark.soak
@pytest.mark.parametrize("how", HOWS)
def test_killed_for_long_at_random_moments_it_leaves_one_side_whole(
    case: Case, forks: Forks, soak: Soak, how: str
) -> None:
    for _ in soak.rounds(60):
        _kill_once(case, forks, soak, how)


def _kill_once(case: Case, forks: Forks, soak: Soak, how: str) -> None:
    pid = forks.start(case.undos.directory.parent, -1, how)
    time.sleep(soak.dice.uniform(0, 0.05))  # the moment is what is random
    os.kill(pid, signal.SIGKILL)
    assert forks.wait() == signal.SIGKILL
    case.undos.heal()
    assert case.look() == case.undos.list()[0].live


def test_an_undo_is_undone_by_another(case: Case) -> None:
    turned = case.undos.turn(case.undo, "new")
    assert case.look() == "new"
    assert case.undos.find("id").other == "old"
    case.undos.turn(turned, "old")
    assert case.look() == "old"


def test_what_somebody_has_put_there_meanwhile_is_left(case: Case) -> None:
    (case.place / "volume").rename(case.place / "elsewhere")
    (case.place / "volume").mkdir()
    with pytest.raises(swap.Disturbed, match="is left as it is") as error:
        case.undos.turn(case.undo, "new")
    assert "ls -lid" in error.value.repair
    assert not case.undos.unfinished(), "nothing is left that no heal could end"
    assert list((case.place / "volume").iterdir()) == []
    assert (case.place / "elsewhere" / "deep" / "file").read_text() == "old"
    assert (case.place / "single").read_text() == "old"


def test_a_side_that_cannot_be_moved_leaves_the_other_whole(case: Case) -> None:
    need_root("a file that cannot be moved")
    subprocess.run(["chattr", "+i", case.place / "goes"], check=True)
    try:
        with pytest.raises(swap.NotRenamed):
            case.undos.turn(case.undo, "new")
    finally:
        subprocess.run(["chattr", "-i", case.place / "goes"], check=True)
    assert case.look() == "old"
    assert case.undos.list()[0].step == "kept"


def later(case: Case) -> Undo:
    """Replace the volume once more, as a later restore does."""
    beside = case.place / ".later"
    (beside / "deep").mkdir(parents=True)
    (beside / "deep" / "file").write_text("later")
    move = swap.planned(case.place / "volume", beside)
    at = AT + timedelta(hours=1)
    return case.undos.turn(case.undos.note(Undo("later", "set", "archive", at, "unpacking", moves=[move])), "new")


def test_of_two_restores_of_one_place_the_later_is_taken_back_first(case: Case) -> None:
    file = case.place / "volume" / "deep" / "file"
    case.undos.turn(case.undo, "new")
    later(case)
    with pytest.raises(AnotherFirst, match="later") as error:
        case.undos.find("id")
    assert error.value.repair == "sudo homelab-agent restore undo later"
    with pytest.raises(swap.Disturbed):
        case.undos.turn(case.undos.list()[0], "old")
    assert not case.undos.unfinished(), "nothing was begun that could not be ended"
    assert file.read_text() == "later"
    for name in ("later", "id"):
        case.undos.turn(case.undos.find(name), "old")
    assert file.read_text() == (case.place / "single").read_text() == "old"
    with pytest.raises(AnotherFirst, match="the restore id"):
        case.undos.find("later")
    for name in ("id", "later"):
        case.undos.turn(case.undos.find(name), "new")
    assert file.read_text() == "later"


def test_a_later_restore_of_a_file_that_was_written_since_is_taken_back_first(case: Case) -> None:
    case.undos.turn(moved(case), "new")
    file = case.place / "volume" / "deep" / "file"
    file.unlink()
    (file.parent / "held").write_text("so that the number is another")
    file.write_text("written")
    beside = case.place / ".beside" / "again"
    beside.write_text("later")
    move = swap.planned(file, beside, folder=swap.folder_in(case.place, file.parent))
    again = Undo("again", "set", "archive", AT + timedelta(hours=1), "unpacking", moves=[move])
    case.undos.turn(case.undos.note(again), "new")
    with pytest.raises(AnotherFirst, match="again"):
        case.undos.find("other")
    case.undos.turn(case.undos.find("again"), "old")
    assert file.read_text() == "written"
    case.undos.turn(case.undos.find("other"), "old")
    assert file.read_text() == "old"


def moved(case: Case) -> Undo:
    """Note that a file in a folder is replaced, of which a program may make another meanwhile."""
    folder = case.place / "volume" / "deep"
    beside = case.place / ".beside" / "volume" / "deep" / "file"
    move = swap.planned(folder / "file", beside, folder=swap.folder_in(case.place, folder))
    return case.undos.note(Undo("other", "set", "archive", AT, "kept", moves=[move]))


def test_what_a_program_makes_anew_until_it_is_stopped_is_kept(case: Case) -> None:
    undo, file = moved(case), case.place / "volume" / "deep" / "file"
    file.unlink()
    (file.parent / "held").write_text("so that the number is another")
    file.write_text("newer")
    undo = case.undos.turn(undo, "new")
    assert file.read_text() == "new"
    case.undos.turn(undo, "old")
    assert file.read_text() == "newer"
    file.unlink()
    undo = case.undos.turn(case.undos.find("other"), "new")
    assert file.read_text() == "new"
    case.undos.turn(undo, "old")
    assert not file.exists()


def test_no_link_in_place_of_a_folder_leads_anywhere(case: Case, tmp_path: Path) -> None:
    undo, folder = moved(case), case.place / "volume" / "deep"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("somebody's")
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(outside)
    assert swap.folder_in(case.place, folder) is None
    with pytest.raises(swap.Disturbed):
        case.undos.turn(undo, "new")
    assert (outside / "file").read_text() == "somebody's"


def test_an_old_undo_goes_and_a_young_one_stays(case: Case) -> None:
    assert case.undos.expire(AT + timedelta(days=6), timedelta(days=7)) == []
    assert case.undos.expire(AT + timedelta(days=8), timedelta(days=7)) == ["id"]
    assert sorted(path.name for path in case.place.iterdir()) == [".beside", "goes", "single", "volume"]
    assert list((case.place / ".beside").iterdir()) == []
    with pytest.raises(NothingToUndo):
        case.undos.find("id")


def test_what_was_being_unpacked_is_taken_away(case: Case) -> None:
    (case.place / "half").mkdir()
    (case.place / "half" / "file").touch()
    case.undos.note(Undo("other", "set", "archive", AT, "unpacking", staging=[case.place / "half"]))
    assert len(case.undos.heal()) == 1
    assert not (case.place / "half").exists()
    assert [one.id for one in case.undos.list()] == ["id"]


def test_what_cannot_be_taken_away_hides_no_failure_and_is_named(case: Case) -> None:
    need_root("a file that cannot be removed")
    half = case.place / "half"
    half.mkdir()
    (half / "file").touch()
    subprocess.run(["chattr", "+i", half / "file"], check=True)
    case.undos.note(Undo("other", "set", "archive", AT, "unpacking", staging=[half]))
    case.undos.abandon("other")
    assert "What the restore other has kept or left is not taken away" in str(case.undos.heal()[0])
    assert case.undos.expire(AT + timedelta(days=8), timedelta(days=7)) == ["id"]
    subprocess.run(["chattr", "-i", half / "file"], check=True)
    case.undos.abandon("other")
    assert not half.exists()
    assert case.undos.list() == []


WRITES = "cd half; n=0; while :; do n=$((n + 1)); : >file$n; done"


def test_a_program_that_a_killed_restore_has_started_may_write_a_moment_longer(case: Case) -> None:
    half = case.place / "half"
    half.mkdir()
    case.undos.note(Undo("other", "set", "archive", AT, "unpacking", staging=[half]))
    with subprocess.Popen(["sh", "-c", WRITES], cwd=case.place) as writer:
        until(lambda: any(half.iterdir()), "it writes")
        threading.Timer(0.5, writer.kill).start()
        assert "nothing had been replaced" in str(case.undos.heal_left()[0])
    assert not half.exists()


def test_a_child_that_a_killed_restore_was_starting_may_hold_its_lock_a_moment_longer(case: Case) -> None:
    case.undos.note(Undo("other", "set", "archive", AT, "unpacking"))
    with subprocess.Popen(["flock", case.undos.directory, "sh", "-c", "echo held; sleep 0.5"], stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert len(case.undos.heal_left()) == 1
    assert [one.id for one in case.undos.list()] == ["id"]


def test_two_do_not_restore_at_once(case: Case) -> None:
    with case.undos.alone(), pytest.raises(RestoreUnderWay), Undos(case.undos.directory.parent).alone():
        pass
    with case.undos.alone():
        pass


def test_a_note_that_is_damaged_is_named(case: Case) -> None:
    moved(case)
    path = case.undos.directory / "id.json"
    path.write_text(path.read_text()[:40])
    assert "cannot be read" in str(case.undos.heal()[0])
    assert path.exists()
    with pytest.raises(NoteUnreadable, match="cannot be read") as error:
        case.undos.find("id")
    assert f"mv {path}" in error.value.repair
    assert [str(one) for one in case.undos.damaged()] == [str(error.value)]
    assert case.undos.find("other").id == "other", "the others are there all the same"


def test_a_damaged_note_keeps_no_other_from_its_end(case: Case) -> None:
    """A round asks for it before each copy, so what is wrong with one restore must not end all backups."""
    (case.undos.directory / "damaged.json").write_text("{")
    assert case.undos.expire(AT + timedelta(days=8), timedelta(days=7)) == ["id"]
    assert (case.undos.directory / "damaged.json").exists()


class Filling(Files):
    """What is changed beside files takes all the room that notes have."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def settle(self, undo: Undo, side: Side) -> None:  # noqa: ARG002 - it is neither
        self._disk.fill()


def test_one_that_cannot_be_noted_at_its_end_is_turned_back_while_all_is_still(case: Case, disk: Disks) -> None:
    full = disk(megabytes=1)
    undos = Undos(full.point, Filling(full))
    undos.directory.mkdir()
    undo = undos.note(case.undo)
    with pytest.raises(NotNoted):
        undos.turn(undo, "new")
    assert case.look() == "old", "who was stopped runs again as soon as it has failed"


class Jamming(Files):
    """What is changed beside files fails, and the disk with it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def settle(self, undo: Undo, side: Side) -> None:
        subprocess.run(["chattr", "+i", self._path], check=True)
        raise DockerNeeded(id=undo.id, what=side)


def test_one_that_cannot_be_taken_back_says_that_it_is_half(case: Case) -> None:
    need_root("a file that cannot be moved")
    undos = Undos(case.undos.directory.parent, Jamming(case.place / "goes"))
    case.undos.turn(case.undo, "new")
    with pytest.raises(HalfRestored, match="whoever was stopped for it stays down") as error:
        undos.turn(case.undos.find("id"), "old")
    assert error.value.repair.endswith("homelab-agent backup resume")
    assert case.undos.is_half("id")
    subprocess.run(["chattr", "-i", case.place / "goes"], check=True)
    assert "all is as before it" in str(case.undos.heal()[0])
    assert (case.look(), case.undos.is_half("id")) == ("new", False)


def test_a_full_disk_is_freed_of_what_was_unpacked(case: Case, disk: Disks) -> None:
    full = disk(megabytes=1)
    undos, half = Undos(full.point), full.point / "half"
    undos.directory.mkdir()
    half.mkdir()
    undos.note(Undo("other", "set", "archive", AT, "unpacking", staging=[half]))
    (half / "file").write_bytes(bytes(1 << 16))
    full.fill()
    assert "nothing had been replaced" in str(undos.heal()[0])
    assert not half.exists()


async def test_what_restores_keep_is_counted_and_what_is_wrong_with_it_is_named(case: Case) -> None:
    settings = BackupSettings(records=case.undos.directory.parent)
    (case.place / ".beside" / "volume" / "big").write_bytes(bytes([1]) * 3_000_000)
    found = await undo_doctor.kept(settings)
    assert found == Finding.ok("restores that can be taken back (1) keep 0.003 GB of files; the first until 2026-12-05")
    (case.undos.directory / "damaged.json").write_text("{")
    assert (await undo_doctor.kept(settings)).repair.endswith("damaged.json /root/")
    await asyncio.to_thread(case.undos.note, replace(case.undo, step="replacing"))
    assert (await undo_doctor.kept(settings)).repair == "sudo homelab-agent backup resume"


def test_a_name_that_is_no_text_is_noted(case: Case) -> None:
    strange = case.place / "caf\udce9\n"
    strange.write_text("old")
    move = swap.planned(strange, case.place / ".beside" / strange.name)
    case.undos.note(Undo("other", "set", "archive", AT, "kept", moves=[move]))
    assert json.loads((case.undos.directory / "other.json").read_text())
    turned = case.undos.turn(case.undos.find("other"), "new")
    assert not strange.exists()
    case.undos.turn(turned, "old")
    assert strange.read_text() == "old"


@pytest.fixture(autouse=True)
def _nothing_immutable_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    subprocess.run(["chattr", "-R", "-i", tmp_path], check=False, capture_output=True)
