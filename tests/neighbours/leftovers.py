"""What tests left behind on this host: processes, mounts, namespaces, cgroups, interfaces, loop devices, files.

Whatever the test bed makes outside a namespace of its own has `MARK` in its name, so that it can be told from what
others do on this host meanwhile. Processes are told by their parent: who adopts orphans finds all that it started.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "homelab-agent"
_PR_SET_CHILD_SUBREAPER = 36
_SETTLE_SECONDS = 5.0
"""The kernel takes its time to let go of a namespace and of what is in it."""


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass(frozen=True, slots=True)
class Traces:
    """What there is on the host, in words."""

    found: frozenset[str]

    @classmethod
    def now(cls) -> Traces:
        """Look."""
        return cls(frozenset((*_mounts(), *_cgroups(), *_interfaces(), *_namespaces(), *_loops(), *_files())))

    def of(self, directory: Path) -> list[str]:
        """Return what has to do with the directory of that name: itself, its mounts, control groups, loop devices."""
        return sorted(trace for trace in self.found if directory.name in trace)

    def left(self, *, seconds: float = _SETTLE_SECONDS) -> list[str]:
        """Return what is there now and was not then, and every process that descends from this one."""
        end = time.monotonic() + seconds
        while left := sorted({*Traces.now().found - self.found, *_processes()}):
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        return left


def _processes() -> Iterator[str]:
    """Give the living descendants of this process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    waiting = [os.getpid()]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            yield f"process {child}: {_command(child)}"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120].strip()
    except OSError:
        return "?"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if MARK in line:
            yield f"mount {fields[4]}"


def _cgroups() -> Iterator[str]:
    for directory, _, _ in os.walk("/sys/fs/cgroup"):
        if MARK in directory:
            yield f"cgroup {directory}"


def _interfaces() -> Iterator[str]:
    for interface in Path("/sys/class/net").iterdir():
        yield f"interface {interface.name}"


def _namespaces() -> Iterator[str]:
    for name in Path("/run/netns").glob(f"*{MARK}*"):
        yield f"network namespace {name.name}"


def _loops() -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if MARK in (file := backing.read_text().strip()):
            yield f"{backing.parts[3]} on {file}"


def _files() -> Iterator[str]:
    for directory in {Path(tempfile.gettempdir()), Path("/run"), Path("/dev/shm")}:
        for path in directory.glob(f"*{MARK}*"):
            yield f"file {path}"
