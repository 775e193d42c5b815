"""Who runs: a process's entry in /proc may outlive it, for whoever adopts it may never ask how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.waiting import until


@contextmanager
def mortal(module: str, task: Mapping[str, Any], *, stdout: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a module of the tests with its task as JSON, and give the process; it is killed when the context ends."""
    argv = [sys.executable, "-m", module, json.dumps(task)]
    with subprocess.Popen(argv, stdout=stdout, text=True, cwd=Path(__file__).parents[1]) as child:
        try:
            yield child
        finally:
            child.kill()
            child.wait(20)
            until(lambda: not is_alive(child.pid), "it is dead")


def state(pid: int) -> str:
    """Return the state of a process as ps(1) shows it, "X" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_alive(pid: int) -> bool:
    """Whether it runs, waits or is frozen; a zombie that nobody has asked for does not, once its threads have ended."""
    threads = Path(f"/proc/{pid}/task")
    try:
        return state(pid) not in {"Z", "X"} or len(list(threads.iterdir())) > 1
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that this one, any of its threads, has started and not lost; raises OSError without it."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (thread / "children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    return [pid, *(found for child in children(pid) for found in family(child))]


def freeze(*pids: int) -> None:
    """Stop processes (SIGSTOP), and return when the last of their threads stands still."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    await_standstill(*pids)


def await_standstill(*pids: int) -> None:
    """Return when the last thread of processes that were sent a SIGSTOP stands still."""
    until(lambda: not any(map(_moves, pids)), "all of it stands still", seconds=10)


def thaw(*pids: int) -> None:
    """Let processes go on."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _moves(pid: int) -> bool:
    """Whether a thread may still run; one that waits for a disk or a dead share does not."""
    try:
        found = [thread / "stat" for thread in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return False
    states = set()
    for stat in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            states.add(stat.read_text().rpartition(")")[2].split()[0])
    return not states <= {"T", "t", "D", "Z", "X"}
