"""The small disks are real ones, break as they say, can be mended, and leave nothing on this host."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.neighbours import disk as neighbour
from tests.neighbours.disk import Disk, Disks, Ext4
from tests.neighbours.leftovers import Traces
from tests.processes import state
from tests.waiting import until

MEGABYTE = 1 << 20
KINDS: dict[str, Callable[[Disks], Disk]] = {
    "tmpfs": lambda disk: disk(megabytes=4),
    "ext4": lambda disk: disk.ext4(megabytes=8),
}


@pytest.fixture(params=KINDS)
def small(request: pytest.FixtureRequest, disk: Disks) -> Disk:
    return KINDS[request.param](disk)


@pytest.fixture
def ext4(disk: Disks) -> Ext4:
    return disk.ext4(megabytes=8)


@contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect an OSError of that number."""
    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        yield
    assert caught.value.errno == number, caught.value


def write(path: Path, content: bytes) -> None:
    """Write for good: what this returns from is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_elsewhere(path: Path) -> str:
    """Read a file as another process."""
    return subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout


def test_it_has_the_size_that_was_asked_for(small: Disk) -> None:
    found = os.statvfs(small.point)
    assert 3 * MEGABYTE < found.f_blocks * found.f_frsize <= 8 * MEGABYTE
    assert os.path.ismount(small.point)
    write(small.point / "file", b"x" * 3 * MEGABYTE)


def test_full_it_takes_no_byte_and_freed_as_much_as_before(small: Disk) -> None:
    write(small.point / "file", b"old")
    (small.point / "empty").touch()
    free = os.statvfs(small.point).f_bfree
    small.fill()
    with refused(errno.ENOSPC):
        write(small.point / "empty", b"x")
    assert os.statvfs(small.point).f_bavail == 0
    assert read_elsewhere(small.point / "file") == "old"
    small.fill()
    small.free()
    assert os.statvfs(small.point).f_bfree == free
    write(small.point / "file", b"x" * 3 * MEGABYTE)


def test_without_inodes_it_takes_bytes_and_no_file(small: Disk) -> None:
    write(small.point / "file", b"old")
    small.use_up_inodes()
    assert os.statvfs(small.point).f_ffree == 0
    with refused(errno.ENOSPC):
        (small.point / "another").touch()
    write(small.point / "file", b"x" * MEGABYTE)
    small.use_up_inodes()
    small.free()
    write(small.point / "another", b"x")


def test_read_only_it_can_be_read_until_it_takes_writes_again(small: Disk) -> None:
    write(small.point / "file", b"old")
    small.read_only()
    with refused(errno.EROFS):
        write(small.point / "file", b"new")
    assert read_elsewhere(small.point / "file") == "old"
    small.read_write()
    write(small.point / "file", b"new")
    with (small.point / "file").open("ab"), pytest.raises(AssertionError, match="busy"):
        small.read_only()


def test_damaged_it_turns_read_only_under_who_writes(ext4: Ext4) -> None:
    with (ext4.point / "file").open("wb", buffering=0) as file:
        file.write(b"old")
        os.fsync(file.fileno())
        ext4.damage()
        with refused(errno.EROFS):
            file.write(b"new")
            os.fsync(file.fileno())
        with refused(errno.EROFS):
            (ext4.point / "another").touch()
        assert read_elsewhere(ext4.point / "file") == "old"
        with pytest.raises(AssertionError, match="has a file open"):
            ext4.mend(seconds=0.2)
    ext4.mend()
    assert read_elsewhere(ext4.point / "file") == "old"
    write(ext4.point / "another", b"new")


def test_unplugged_it_fails_whoever_asks_and_what_was_synced_is_there_again(ext4: Ext4) -> None:
    write(ext4.point / "synced", b"kept")
    with (ext4.point / "open").open("wb", buffering=0) as file:
        file.write(b"lost")
        ext4.unplug()
        with refused(errno.EIO):
            file.write(b"new")
        for name in ("synced", "another"):
            with refused(errno.EIO):
                write(ext4.point / name, b"new")
    ext4.mend()
    assert read_elsewhere(ext4.point / "synced") == "kept"
    assert not (ext4.point / "open").exists()


def test_frozen_it_lets_writers_wait_unkillably_and_readers_read(ext4: Ext4) -> None:
    write(ext4.point / "file", b"old")
    ext4.freeze()
    writing = subprocess.Popen(["cp", "/proc/self/stat", ext4.point / "copy"])
    try:
        until(lambda: state(writing.pid) == "D", "the writer waits for the disk")
        assert read_elsewhere(ext4.point / "file") == "old"
        ext4.thaw()
        assert writing.wait(20) == 0
        assert (ext4.point / "copy").stat().st_size
    finally:
        writing.kill()
        writing.wait(20)


def test_it_is_mended_though_another_mount_namespace_holds_a_copy_of_it(ext4: Ext4) -> None:
    write(ext4.point / "file", b"old")
    with elsewhere(ext4.point):
        ext4.unplug()
        ext4.mend()
        assert read_elsewhere(ext4.point / "file") == "old"


@contextmanager
def elsewhere(point: Path) -> Iterator[None]:
    """Have a mount namespace made meanwhile, as the ones of other neighbours are."""
    with subprocess.Popen(["unshare", "--mount", "sleep", "1000"]) as other:
        try:
            mounts = Path(f"/proc/{other.pid}/mounts")
            until(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n", "it is made")
            assert str(point) in mounts.read_text()
            yield
        finally:
            other.kill()


def traces(directory: Path) -> list[str]:
    """Return what this host shows of the disk in that directory."""
    return [trace for trace in Traces.now().found if directory.name in trace]


def test_nothing_is_left_of_a_disk_that_is_in_use_once_its_users_have_ended() -> None:
    with ExitStack() as later:
        with neighbour.ext4(megabytes=4) as disk:
            directory = disk.point.parent
            kinds = {trace.split()[0].rstrip("0123456789") for trace in traces(directory)}
            assert kinds == {"file", "loop", "mount"}
            later.enter_context(elsewhere(disk.point))
            disk.freeze()
            writing = subprocess.Popen(["cp", "/proc/self/stat", disk.point / "copy"])
            until(lambda: state(writing.pid) == "D", "the writer waits for the disk")
        assert writing.wait(20) == 0
        until(lambda: not traces(directory), "nothing is left, though the other mount namespace is there")


UNTIDY = """
import signal
from tests.neighbours import disk
with disk.tmpfs(megabytes=1) as memory, disk.ext4(megabytes=4) as ext4:
    memory.fill()
    ext4.freeze()
    print(memory.point.parent, ext4.point.parent, flush=True)
    signal.pause()
"""


def test_nothing_is_left_when_the_tests_are_killed() -> None:
    neighbour.obtain()
    with subprocess.Popen([sys.executable, "-c", UNTIDY], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        one, other = map(Path, tests.stdout.readline().split())
        assert traces(one)
        assert traces(other)
        tests.kill()
    until(lambda: not traces(one) and not traces(other), "nothing is left")
