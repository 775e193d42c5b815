"""Disks that fail for real: too small, or not to be written to."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def commits(directory: Path) -> int:
    """Return how many commits the log of the state.db there holds, since it was last begun anew.

    https://www.sqlite.org/fileformat2.html, section 4.1: the last frame of each has a size in its header.
    """
    log = directory / "state.db-wal"
    content = log.read_bytes() if log.exists() else b""
    page = int.from_bytes(content[8:12], "big")
    heads = (content[at : at + 24] for at in range(32, len(content), 24 + page))
    return sum(head[4:8] != bytes(4) and head[8:16] == content[16:24] for head in heads)


@contextmanager
def limited_disk(*, megabytes: int) -> Iterator[Path]:
    """Give an empty file system of its own of that size; needs root, else the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    with tempfile.TemporaryDirectory(prefix="homelab-agent-disk-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", name]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"mount does not work here: {mounted.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


class Writable:
    """Called, lets a directory be written to; `undo` forbids it again, to root too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self) -> None:
        self._set("rw", 0o755)

    def undo(self) -> None:
        self._set("ro", 0o555)

    def _set(self, option: str, mode: int) -> None:
        if os.geteuid() == 0:
            subprocess.run(["mount", "-o", f"remount,{option}", str(self._directory)], check=True)
        else:
            self._directory.chmod(mode)


@contextmanager
def read_only_directory(*, writable_first: bool = False) -> Iterator[tuple[Path, Writable]]:
    """Give a directory that cannot be written to, and what changes that; as root it is a file system."""
    if os.geteuid() == 0:
        with limited_disk(megabytes=4) as disk:
            yield _prepare(disk, writable_first=writable_first)
        return
    with tempfile.TemporaryDirectory(prefix="homelab-agent-disk-") as name:
        writable = Writable(Path(name))
        try:
            yield _prepare(Path(name), writable_first=writable_first)
        finally:
            writable()


def _prepare(directory: Path, *, writable_first: bool) -> tuple[Path, Writable]:
    writable = Writable(directory)
    if not writable_first:
        writable.undo()
    return directory, writable
