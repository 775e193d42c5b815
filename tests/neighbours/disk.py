"""Disks of a few megabytes that get full, read-only, damaged, frozen or pulled out for real: tmpfs, ext4 on a loop.

They are mounted on this host, so that the agent and whatever it starts see them. Needs root.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from tests.neighbours import loop
from tests.neighbours.guard import guarded
from tests.neighbours.neighbour import Missing, Neighbour, need_root, program, version_of
from tests.waiting import until

_INODES_PER_MEGABYTE = 256
"""fs/ext4/ext4.h: EXT4_GOING_FLAGS_NOLOGFLUSH, as when the power is cut."""


class Disk:
    """An empty tmpfs of its own at `point`: small, fast, and gone with its memory."""

    def __init__(self, point: Path) -> None:
        self.point = point
        self._ballast = point / ".ballast"
        self._inodes = point / ".inodes"

    def fill(self) -> None:
        """Leave no byte to be written (ENOSPC)."""
        with self._ballast.open("ab", buffering=0) as file:
            size = -1
            while file.tell() != size:  # ext4 gives back at the end some of what it had set aside
                size = file.tell()
                _until_full(lambda: file.write(bytes(1 << 16)))
                _until_full(lambda: file.write(bytes(1 << 10)))
                os.fsync(file.fileno())

    def use_up_inodes(self) -> None:
        """Leave room for bytes and none for another file (ENOSPC)."""
        self._inodes.mkdir(exist_ok=True)

        def take_one() -> None:
            (self._inodes / uuid4().hex).touch()

        _until_full(take_one)

    def free(self) -> None:
        """Give back what the two above have taken."""
        self._ballast.unlink(missing_ok=True)
        if self._inodes.exists():
            for file in self._inodes.iterdir():
                file.unlink()
            self._inodes.rmdir()

    def read_only(self) -> None:
        """Take no more writes (EROFS); raises AssertionError while somebody has a file open for writing."""
        _run("mount", "-o", "remount,ro", self.point)

    def read_write(self) -> None:
        """Take writes again."""
        _run("mount", "-o", "remount,rw", self.point)


class Ext4(Disk):
    """An ext4 of its own at `point`, on a loop device, with its lost+found: it breaks as disks do."""

    def __init__(self, point: Path, image: Path) -> None:
        super().__init__(point)
        self._image = image

    def damage(self) -> None:
        """Let the kernel find an error: what is there can be read, nothing can be written any more (EROFS)."""
        device = self.point.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("damaged by a test")

    def unplug(self) -> None:
        """Pull it out: whatever is asked of its files fails (EIO), and what was not synced is lost."""
        loop.cut_off(self.point)

    def mend(self, *, seconds: float = 20.0) -> None:
        """Check and mount it anew; raises AssertionError when somebody keeps a file open there for so long.

        Who outlives a process that was killed, to give back what that held, may take a moment.
        """
        until(lambda: _ended_well("umount", self.point), f"nobody has a file open in {self.point}", seconds=seconds)
        self.point.rmdir()  # other mount namespaces may have a copy of the mount, and with this lose it
        self.point.mkdir()
        _run("e2fsck", "-fy", self._image, fine=(0, 1))
        self.mount()

    def freeze(self) -> None:
        """Let every write wait, in a state that no signal ends; what is there can be read."""
        _run("fsfreeze", "--freeze", self.point)

    def thaw(self) -> None:
        """Let what waits go on."""
        _run("fsfreeze", "--unfreeze", self.point)

    def mount(self) -> None:
        """Mount it at its point."""
        _mount("-t", "ext4", "-o", "loop,errors=remount-ro", self._image, self.point)


@contextmanager
def tmpfs(*, megabytes: int) -> Iterator[Disk]:
    """Give an empty disk of that size, and of 256 files for each megabyte, until the context ends."""
    need_root("a disk of its own")
    with guarded("disk") as directory:
        point = directory / "disk"
        point.mkdir()
        size = f"size={megabytes}m,nr_inodes={megabytes * _INODES_PER_MEGABYTE},mode=755"
        _mount("-t", "tmpfs", "-o", size, "tmpfs", point)
        yield Disk(point)


@contextmanager
def ext4(*, megabytes: int) -> Iterator[Ext4]:
    """Give a disk on a device of that size, some of which it needs for itself, until the context ends."""
    obtain()
    with guarded("disk") as directory:
        image, point = directory / "image", directory / "disk"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-m", "0", image)
        point.mkdir()
        disk = Ext4(point, image)
        disk.mount()
        yield disk


class Disks:
    """Gives disks, as many as one likes, until `stack` is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, *, megabytes: int) -> Disk:
        """Give an empty tmpfs of that size."""
        return self._stack.enter_context(tmpfs(megabytes=megabytes))

    def ext4(self, *, megabytes: int) -> Ext4:
        """Give an ext4 on a device of that size."""
        return self._stack.enter_context(ext4(megabytes=megabytes))


def obtain() -> None:
    """Raise `Missing` where it cannot be had: Debian installs it, nothing is to be built."""
    need_root("a disk of its own")
    for name in ("mount", "umount", "fsfreeze", "mkfs.ext4", "e2fsck"):
        _program(name)


def _program(name: str) -> Path:
    return program(name, "apt install mount util-linux e2fsprogs")


def _mount(*words: str | Path) -> None:
    done = subprocess.run([_program("mount"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"mount does not work here: {done.stderr.strip()}"
        raise Missing(message)


def _ended_well(name: str, *words: str | Path) -> bool:
    return subprocess.run([_program(name), *words], capture_output=True, check=False).returncode == 0


def _run(name: str, *words: str | Path, fine: Container[int] = (0,)) -> None:
    done = subprocess.run([_program(name), *words], capture_output=True, text=True, check=False)
    assert done.returncode in fine, f"{name}: {done.stdout}{done.stderr}"


def _until_full(take: Callable[[], object]) -> None:
    try:
        while True:
            take()
    except OSError as full:
        if full.errno != errno.ENOSPC:
            raise


def _version() -> str:
    obtain()
    return f"ext4 {version_of([_program('mkfs.ext4'), '-V'])}, Linux {version_of(['uname', '-r'])}"


NEIGHBOUR = Neighbour("Disk", "Debian mount, util-linux, e2fsprogs", version=_version, obtain=obtain)
