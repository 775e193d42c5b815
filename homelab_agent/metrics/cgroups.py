"""What control groups of Docker's containers have used: version 2 (Documentation/admin-guide/cgroup-v2.rst) and 1.

Where Docker lets systemd make them, a container's group is `docker-ID.scope` in a slice; where it makes them itself,
`ID` in a directory of its own, as `docker`. Files are opened for each look and not kept: six for each of many
containers would be more than a process may have open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from homelab_agent.metrics import block
from homelab_agent.metrics.host import Host, NotAvailable, field

ROOT = "/sys/fs/cgroup"
_SCOPE = re.compile(r"docker-(?P<id>[0-9a-f]{64})\.scope")
_ID = re.compile(r"[0-9a-f]{64}")
_UNLIMITED = 2**62
"""Version 1 says that there is no limit by the largest whole number of pages."""
_MICRO, _NANO = 1e6, 1e9


@dataclass(frozen=True, slots=True)
class Group:
    """A container's group: `path` from the hierarchy's root; `instance` is another one each time it is made anew."""

    id: str
    path: str
    instance: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses, and has used since it was made, in seconds and bytes; None where the kernel does not say."""

    cpu_s: float | None
    throttled_s: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    swap_bytes: int | None
    oom_kills: int | None
    transfer: Transfer | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was read and written, in bytes and requests."""

    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Hierarchy(Protocol):
    """The control groups of a host; `has_memory` says whether they count memory."""

    has_memory: bool

    def groups(self) -> Sequence[Group]:
        """Return those of Docker's containers."""

    def usage(self, group: Group) -> Usage | None:
        """Return what one uses; None when it is gone."""


def of(host: Host) -> Hierarchy:
    """Return what this host has; raises `NotAvailable`."""
    root = host.path(ROOT)
    if (root / "cgroup.controllers").exists():
        return Unified(root, host.path("/sys/dev/block"))
    if (root / "cpuacct").is_dir():
        return Split(root, host.path("/sys/dev/block"))
    raise NotAvailable(what=f"control groups at {ROOT}")


class Unified:
    """Version 2: one tree."""

    def __init__(self, root: Path, block: Path) -> None:
        self._root = root
        self._disks = _Disks(block)
        self.has_memory = "memory" in (root / "cgroup.controllers").read_text().split()

    def groups(self) -> Sequence[Group]:
        """Return those of Docker's containers."""
        return list(_find(self._root))

    def usage(self, group: Group) -> Usage | None:
        """Return what one uses; None when it is gone."""
        directory = f"{self._root}/{group.path}"
        cpu = _read(f"{directory}/cpu.stat")
        if cpu is None:
            return None
        return Usage(
            _part(field(cpu, b"\nusage_usec "), _MICRO),
            _part(field(cpu, b"\nthrottled_usec "), _MICRO),
            _used(_number(f"{directory}/memory.current"), _read(f"{directory}/memory.stat"), b"\ninactive_file "),
            _number(f"{directory}/memory.max"),
            _number(f"{directory}/memory.swap.current"),
            _field(f"{directory}/memory.events", b"\noom_kill "),
            self._transfer(_read(f"{directory}/io.stat")),
        )

    def _transfer(self, stat: bytes | None) -> Transfer | None:
        if stat is None:
            return None
        total: dict[bytes, int] = {}
        for line in stat.splitlines():
            device, *pairs = line.split() or [b""]
            if self._disks.counts(device):
                for name, _, value in (pair.partition(b"=") for pair in pairs):
                    total[name] = total.get(name, 0) + (int(value) if value.isdigit() else 0)
        return Transfer(*(total.get(name, 0) for name in (b"rbytes", b"wbytes", b"rios", b"wios")))


class Split:
    """Version 1: a tree for each resource, in which a container has the same path.

    Disks are counted where a scheduler (bfq) or a limit makes the kernel do so: which of the two, the root's files say.
    Where they say nothing, it is not known what containers read and write, however often a file of theirs says 0.
    """

    def __init__(self, root: Path, block: Path) -> None:
        self._root = root
        self._disks = _Disks(block)
        self._counted_by: str | None = None
        self.has_memory = (root / "memory").is_dir()

    def groups(self) -> Sequence[Group]:
        """Return those of Docker's containers."""
        self._counted_by = next((one for one in ("throttle", "bfq") if self._has_disks(one)), None)
        return list(_find(self._root / "cpuacct"))

    def usage(self, group: Group) -> Usage | None:
        """Return what one uses; None when it is gone."""
        memory = f"{self._root}/memory/{group.path}"
        limit = _number(f"{memory}/memory.limit_in_bytes")
        used = _number(f"{memory}/memory.usage_in_bytes")
        with_swap = _number(f"{memory}/memory.memsw.usage_in_bytes")
        cpu = _number(f"{self._root}/cpuacct/{group.path}/cpuacct.usage")
        if cpu is None:
            return None
        return Usage(
            cpu / _NANO,
            _part(_field(f"{self._root}/cpu/{group.path}/cpu.stat", b"\nthrottled_time "), _NANO),
            _used(used, _read(f"{memory}/memory.stat"), b"\ntotal_inactive_file "),
            None if limit is None or limit >= _UNLIMITED else limit,
            None if used is None or with_swap is None else max(with_swap - used, 0),
            _field(f"{memory}/memory.oom_control", b"\noom_kill "),
            self._transfer(f"{self._root}/blkio/{group.path}"),
        )

    def _transfer(self, directory: str) -> Transfer | None:
        if self._counted_by is None:
            return None
        moved = _read(f"{directory}/blkio.{self._counted_by}.io_service_bytes_recursive")
        requests = _read(f"{directory}/blkio.{self._counted_by}.io_serviced_recursive")
        if moved is None or requests is None:
            return None
        read, written = self._sums(moved)
        reads, writes = self._sums(requests)
        return Transfer(read, written, reads, writes)

    def _has_disks(self, counter: str) -> bool:
        content = _read(f"{self._root}/blkio/blkio.{counter}.io_service_bytes_recursive")
        return content is not None and b":" in content

    def _sums(self, content: bytes) -> tuple[int, int]:
        """Return the sum over all disks of what was read and what was written."""
        total = {b"Read": 0, b"Write": 0}
        for line in content.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in total and self._disks.counts(words[0]):
                total[words[1]] += int(words[2])
        return total[b"Read"], total[b"Write"]


class _Disks:
    """Which devices count: what goes through one that lies on others (LVM, LUKS, an array) is counted there again."""

    def __init__(self, block: Path) -> None:
        self._block = block
        self._known: dict[bytes, bool] = {}

    def counts(self, number: bytes) -> bool:
        """Return whether that device, by its number (8:0), lies on no other."""
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = not block.has_slaves(self._block / number.decode("ascii", "replace"))
        return known


def _find(root: Path) -> Iterator[Group]:
    for entry in _directories(str(root)):
        if entry.name.endswith(".slice"):
            yield from _in_slice(entry, entry.name)
        elif "." not in entry.name:
            for inner in _directories(entry.path):
                if _ID.fullmatch(inner.name):
                    yield Group(inner.name, f"{entry.name}/{inner.name}", inner.inode())


def _in_slice(directory: os.DirEntry[str], path: str) -> Iterator[Group]:
    for entry in _directories(directory.path):
        if entry.name.endswith(".slice"):
            yield from _in_slice(entry, f"{path}/{entry.name}")
        elif (found := _SCOPE.fullmatch(entry.name)) is not None:
            yield Group(found["id"], f"{path}/{entry.name}", entry.inode())


def _directories(path: str) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it went away meanwhile
        return ()


def _read(path: str) -> bytes | None:
    """Return a file, with a line end before its first line; None where it is not there, or its group is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return b"\n" + os.read(descriptor, 65536)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _number(path: str) -> int | None:
    """Return the whole number in a file; None where there is none, as in `max`."""
    content = _read(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


def _field(path: str, name: bytes) -> int | None:
    content = _read(path)
    return None if content is None else field(content, name)


def _part(count: int | None, of_one: float) -> float | None:
    return None if count is None else count / of_one


def _used(whole: int | None, stat: bytes | None, name: bytes) -> int | None:
    """Return what is in use: without the files that were not read lately, which cost nothing to give up."""
    if whole is None or stat is None:
        return whole
    return max(whole - (field(stat, name) or 0), 0)
