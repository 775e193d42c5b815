"""A filesystem that is mounted for real and never answers: FUSE, with nobody behind it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MNT_FORCE, _MNT_DETACH = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


class Mute:
    """Mounted at `point`; every question hangs until `give_up`, when the kernel answers it with an error."""

    def __init__(self, point: Path) -> None:
        self.point = point
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        data = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if _libc.mount(b"mute", os.fsencode(point), b"fuse.mute", 0, data):
            os.close(self._device)
            pytest.skip(f"mounting FUSE does not work here: {os.strerror(ctypes.get_errno())}")

    def give_up(self) -> None:
        """Let every question that hangs fail, as a server does that is declared dead."""
        _libc.umount2(os.fsencode(self.point), _MNT_FORCE)

    def unmount(self) -> None:
        """Take it away."""
        self.give_up()
        _libc.umount2(os.fsencode(self.point), _MNT_FORCE | _MNT_DETACH)
        os.close(self._device)


@contextmanager
def mute_filesystem(point: Path) -> Iterator[Mute]:
    """Mount one at the empty directory `point`; needs root and /dev/fuse, else the test is skipped."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("mounting a FUSE filesystem needs root and /dev/fuse")
    mute = Mute(point)
    try:
        yield mute
    finally:
        mute.unmount()
