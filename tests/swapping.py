"""Processes that replace files as a restore does, for tests that kill them.

`python -m tests.swapping` forks one for each line that it reads, for to start Python anew takes longer than to replace.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from homelab_agent.backup import swap
from homelab_agent.backup.undo import Undos
from homelab_agent.core import statefile


def dies_at(count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes functions that kill this process in place of their `count`th call, of all together."""
    left = count

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*words, **named)

        return call

    return wrap


def _without_exchange(function: Callable[..., None]) -> Callable[..., None]:
    """Return a rename as on a file system that cannot exchange two names."""

    def rename(source: Path, target: Path, flags: int) -> None:
        if flags:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        function(source, target, flags)

    return rename


class Forks:
    """Starts processes, one after the other."""

    def __init__(self, given: IO[str], said: IO[str]) -> None:
        self._given = given
        self._said = said

    def start(self, records: Path, count: int, how: str) -> int:
        """Return the process id of one that has begun; its end is to be awaited."""
        print(records, count, how, file=self._given, flush=True)
        return int(self._said.readline())

    def wait(self) -> int:
        """Return how it ended, as os.waitpid says."""
        return int(self._said.readline())


@contextmanager
def forks() -> Iterator[Forks]:
    """Give what starts them until the context ends."""
    argv = [sys.executable, "-m", "tests.swapping"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        yield Forks(child.stdin, child.stdout)
        child.stdin.close()


def _turn(records: Path, count: int, how: str) -> None:
    """Turn the only undo there is to its other side, once, or for ever where `count` is negative."""
    if how == "without":
        swap.rename = _without_exchange(swap.rename)
    if count >= 0:
        dying = dies_at(count)
        swap.rename = dying(swap.rename)
        statefile.sync_directory = dying(statefile.sync_directory)
        statefile.write_durably = dying(statefile.write_durably)
    undos = Undos(records)
    (undo,) = undos.list()
    print(os.getpid(), flush=True)
    while True:
        undo = undos.turn(undo, undo.other)
        if count >= 0:
            return


def main() -> None:
    """Fork for each line."""
    for line in sys.stdin:
        records, count, how = line.split()
        if not (pid := os.fork()):
            _turn(Path(records), int(count), how)
            os._exit(0)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
