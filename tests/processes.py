"""Whether a process still runs: its entry in /proc may outlive it, for whoever adopts it may never ask how it ended."""

from __future__ import annotations

from pathlib import Path


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
