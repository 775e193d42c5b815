"""A small file system of its own, in a file: it fills up for itself, and loses what a disk loses in a power cut."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from tests.waiting import until

_EXT4_IOC_SHUTDOWN = 0x8004587D
_WITHOUT_WRITING_THE_JOURNAL = (2).to_bytes(4, "little")


class LoopDisk:
    """An ext4 in a file. It is mounted in a namespace of somebody's, and free again when that has ended."""

    def __init__(self, file: Path, megabytes: int) -> None:
        """Make it; the file takes as much of the host's disk as is written to it."""
        self.file = file
        with file.open("wb") as image:
            image.truncate(megabytes << 20)
        subprocess.run(["/sbin/mkfs.ext4", "-q", "-m", "0", file], check=True)

    def mounting(self, place: Path) -> str:
        """Return the shell's line that mounts it there."""
        return f"mount -o loop {self.file} {place}"

    def wait_until_free(self) -> None:
        """Return when nobody has it mounted any more."""
        until(lambda: not self._is_in_use(), f"{self.file} is unmounted")

    def _is_in_use(self) -> bool:
        backing = Path("/sys/block").glob("loop*/loop/backing_file")
        return any(file.read_text().strip() == str(self.file) for file in backing)


def filling(file: str | Path) -> list[str]:
    """Return the command that takes all the space that is left for this file, and ends with "No space left"."""
    script = 'fallocate -l "$(df --output=avail -B1 "${1%/*}" | tail -n 1)" "$1"; exec dd if=/dev/zero of="$1" '
    return ["sh", "-c", f"{script} bs=4k oflag=append conv=notrunc", "fill", str(file)]


def cut_off(on_it: Path) -> None:
    """Let the disk that this directory is on be gone, with all that was not written to it yet.

    ext4's own means to test that (EXT4_IOC_SHUTDOWN): whoever uses it meets EIO, and the next mount finds what a
    power cut leaves.
    """
    directory = os.open(on_it, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(directory, _EXT4_IOC_SHUTDOWN, _WITHOUT_WRITING_THE_JOURNAL)
    finally:
        os.close(directory)
