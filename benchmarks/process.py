"""What a process cost, read from /proc; and how a figure is printed beside its bound or its peer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process: schedstat counts nanoseconds, utime only jiffies."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def reaped_cpu_seconds(pid: int) -> float:
    """Return the CPU time of the children that a process has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def rss_megabytes(pid: int) -> float:
    """Return the resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def restart_peak() -> None:
    """Have our own resident set's peak begin anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes(pid: int) -> float:
    """Return the most that the resident set was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def pss_megabytes(pid: int) -> float:
    """Return the proportional set: what is shared counts by its share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def anonymous_megabytes(pid: int) -> float:
    """Return the part of the resident set that belongs to no file, which the kernel cannot simply drop."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def tree(pid: int) -> list[int]:
    """Return `pid` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


@contextmanager
def peer(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a peer until the context ends; yield its pid. `env` is the whole environment, where given."""
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=env
    )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def figure(
    name: str, value: float, unit: str, *, bound: float | None = None, least: float | None = None, note: str = ""
) -> None:
    """Print one line: the figure, its bound, above or below, and whether it holds."""
    verdict = ""
    if bound is not None:
        verdict = f"  bound {bound:g} {unit}: {'holds' if value <= bound else 'MISSED'}"
    if least is not None:
        verdict = f"  at least {least:g} {unit}: {'holds' if value >= least else 'MISSED'}"
    print(f"{name:<52} {value:10.3f} {unit:<10}{verdict}{'  ' + note if note else ''}", flush=True)
