"""The kernel's table of processes, /proc (proc(5)): which are there that are of some kind, and the end of those.

All of it blocks.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_ROUNDS = 20


def living(holds: Callable[[Path], bool]) -> list[int]:
    """Return the process ids of which `holds` is true, given a process's directory in /proc.

    Not of one that has ended meanwhile, or is not ours to look into: what `holds` finds there raises OSError then.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if holds(entry):
                    found.append(int(entry.name))
    return found


def has_group(number: int) -> bool:
    """Return whether a process of that group runs; one that has ended and waits for its parent does not."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # there are some, and none is ours

    def belongs(entry: Path) -> bool:
        state, _, group, *_ = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return group == str(number) and state not in {"Z", "X"}

    return bool(living(belongs))


def end_all_with(variable: str) -> None:
    """Kill whatever has that `NAME=value` in its environment until nothing has: some are started while others die."""
    carried = variable.encode()
    for _ in range(_ROUNDS):
        marked = living(lambda entry: carried in (entry / "environ").read_bytes())
        if not marked:
            return
        for pid in marked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
