"""A clock that is set back and forward under real programs, while monotonic time and the host's own clock go on.

It is a library of a few lines that is put before the C library. Debian's libfaketime 0.9.10 is not used: with it
`time.sleep` fails in Python 3.11 and later (EINVAL), and each program that is killed, or that becomes another one,
leaves two files in /dev/shm.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.neighbours import cache
from tests.neighbours.neighbour import Missing, Neighbour, program, version_of

SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra")
_NANOSECONDS = 1_000_000_000


class FakeTime:
    """The clock of whatever runs with `env`: right at first; each change holds for all of them at once.

    Programs that do not ask the C library keep the host's time: those in Go (OpenBao, Docker, Tailscale), static ones,
    and setuid ones. So do those that the agent starts with an environment of its own making, and the times of files.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` is for its file; raises `Missing` without a compiler."""
        self._library = library()
        self._file = directory / "faketime"
        self._file.write_bytes(bytes(16))
        with self._file.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 16)
        self._moved = (ctypes.c_int64 * 2).from_buffer(self._mapped)

    @property
    def env(self) -> dict[str, str]:
        """What a child has to have in its environment."""
        return {"LD_PRELOAD": str(self._library), "FAKETIME_FILE": str(self._file)}

    def now(self) -> datetime:
        """Return the time that it shows, in UTC."""
        return datetime.fromtimestamp((time.time_ns() + self._moved[0]) / _NANOSECONDS, UTC)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, as an operator or NTP does."""
        self._moved[0] += round(seconds * _NANOSECONDS)

    def set(self, at: datetime) -> None:
        """Set the wall clock to a time, which has a zone; it goes on from there."""
        self._moved[0] = round(at.timestamp() * _NANOSECONDS) - time.time_ns()

    def suspend(self, seconds: float) -> None:
        """Let the host have slept: wall and boot time have gone on meanwhile, monotonic time has not."""
        self.step(seconds)
        self._moved[1] += round(seconds * _NANOSECONDS)

    def mend(self) -> None:
        """Show the host's own time again."""
        self._moved[:] = [0, 0]

    def close(self) -> None:
        """Let go of the file, so that the disk it lies on can be unmounted; whoever runs with it keeps the time."""
        del self._moved
        self._mapped.close()


def library() -> Path:
    """Return the library, built where that was not done yet; raises `Missing` without a compiler."""

    def build(into: Path) -> None:
        argv = [str(_compiler()), *_FLAGS, "-o", str(into / "faketime.so"), str(SOURCE)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            message = f"faketime.c cannot be built: {done.stderr.strip()[-500:]}"
            raise Missing(message)

    return cache.kept("faketime", [SOURCE, *_FLAGS, os.uname().machine], build) / "faketime.so"


def obtain() -> None:
    """Build it."""
    library()


def _compiler() -> Path:
    return program("gcc", "apt install gcc libc6-dev")


def _version() -> str:
    obtain()
    return f"gcc {version_of([_compiler(), '-dumpfullversion'])}"


NEIGHBOUR = Neighbour("Clock", "faketime.c, with Debian gcc", version=_version, obtain=obtain)
