"""A network share that stops answering, comes back, or dies: Debian's sshfs over Debian's sftp-server, without ssh.

It is mounted on this host, so that the agent and whatever it starts see it. Needs root and /dev/fuse.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.neighbours.guard import guarded
from tests.neighbours.neighbour import Missing, Neighbour, need_root, program, version_of
from tests.neighbours.server import Server
from tests.processes import children, freeze

_SERVE = 'cd "$0"; setpriv --pdeathsig KILL "$1" <up >down & exec "$2" -f -o "$3" ":$4" "$5" >up <down'
"""Two programs that talk through two pipes. sshfs becomes the first process, the far end its child."""

_OPTIONS = "passive,allow_other,dir_cache=no,attr_timeout=0,entry_timeout=0,direct_io"
"""Everybody may ask, and every question goes to the far end."""


class Mount(Server):
    """What is in `far` is seen at `point`, to be read and written, while the share answers.

    `thaw` ends `freeze` and `hang`: the very questions that wait are answered. `kill` fails them (ECONNABORTED,
    ENOTCONN) and every one after them (ENOTCONN), until `start`.

    While it does not answer, only children of the tests, or threads that nobody waits for, may ask.
    """

    def __init__(self, directory: Path) -> None:
        self.point = directory / "mount"
        self.far = directory / "far"
        self.point.mkdir()
        self.far.mkdir()
        for pipe in ("up", "down"):
            os.mkfifo(directory / pipe)
        words = (directory, sftp_server(), sshfs(), _OPTIONS, self.far, self.point)
        argv = ["/bin/sh", "-euc", _SERVE, *map(str, words)]
        super().__init__("sshfs", argv, ready=self._answers, log=directory / "sshfs.log")

    @property
    def is_there(self) -> bool:
        """Whether it is in the host's list of mounts; what is killed is."""
        return f" {self.point} " in Path("/proc/self/mountinfo").read_text()

    def start(self, *, seconds: float = 20.0) -> Self:
        """Mount it, in place of what is there and dead."""
        if self.is_there:
            subprocess.run(["umount", "--force", "--lazy", self.point], check=True)
        return super().start(seconds=seconds)

    def freeze(self) -> None:
        """Let sshfs ask nobody any more: who asks it waits, and can be killed."""
        self._check_that_nothing_is_open()
        super().freeze()

    def hang(self) -> None:
        """Let the far end answer no more, as a server that is gone: not even SIGKILL ends who has asked (state D)."""
        self._check_that_nothing_is_open()
        (far_end,) = children(self.pid)
        freeze(far_end)

    def _answers(self) -> bool:
        asked = ["stat", "-f", str(self.point)]
        return self.is_there and subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def _check_that_nothing_is_open(self) -> None:
        # Each child that the tests start closes its copy first, which is a question; they wait for that (vfork(2)).
        for file in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                where = file.readlink()
                assert self.point not in (where, *where.parents), f"the tests have {where} open, and would hang with it"


@contextmanager
def mounted() -> Iterator[Mount]:
    """Give a share that answers; it is gone when the context ends, and whoever waits for it goes on with an error."""
    obtain()
    with guarded("mount") as directory:
        mount = Mount(directory).start()
        try:
            yield mount
        finally:
            mount.kill()


def sshfs() -> Path:
    """Return the program; raises `Missing` where it is not installed."""
    return program("sshfs", "apt install sshfs")


def sftp_server() -> Path:
    """Return the program, where distributions keep it; raises `Missing` where it is not installed."""
    places = "/usr/lib/openssh:/usr/lib/ssh:/usr/libexec/openssh:/usr/libexec"
    return program("sftp-server", "apt install openssh-sftp-server", path=places)


def obtain() -> None:
    """Raise `Missing` where it cannot be had: Debian installs it, nothing is to be built."""
    need_root("a network share of its own")
    sshfs()
    sftp_server()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        message = "there is no /dev/fuse: modprobe fuse"
        raise Missing(message)


def _version() -> str:
    obtain()
    return version_of([sshfs(), "--version"], r"(?<=SSHFS version )[\d.]+")


NEIGHBOUR = Neighbour("Network share", "Debian sshfs, openssh-sftp-server", version=_version, obtain=obtain)
