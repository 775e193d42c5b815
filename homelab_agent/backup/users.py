"""Who uses a place of the host: containers by what they mount, and whoever else by what the kernel says of processes.

A mount keeps the directory that it was made of, whatever stands at its name later: who has mounted a place goes on with
what was there, so it is to end before the place is replaced. Docker does not know of another engine's containers, nor
of a program that runs there; /proc/PID/mountinfo, fd and cwd do (proc(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.backup import layout
from homelab_agent.backup.inventory import Container, Inventory
from homelab_agent.core import process_table

_ALIVE = frozenset({"running", "paused", "restarting"})


@dataclass(frozen=True, slots=True)
class Mounted:
    """A line of mountinfo: of which device what part is where; `id` is its number in its namespace.

    `kind` is the file system's, `source` what it was mounted from.
    """

    id: int
    device: str
    root: Path
    point: Path
    kind: str = ""
    source: str = ""


def containers(inventory: Inventory, paths: Sequence[Path]) -> Sequence[Container]:
    """Return who is alive and has mounted one of these, a directory above or below it, also only to read."""
    return [
        one
        for one in inventory.containers
        if one.state in _ALIVE and any(layout.overlap(mount.source, path) for mount in one.mounts for path in paths)
    ]


def mount_of(path: Path) -> Mounted:
    """Return the mount that a path is in; two names of one mount can change places."""
    return _covering(path.resolve(), _mounts(Path("/proc/self")))


def processes(paths: Sequence[Path]) -> Sequence[str]:
    """Return in words which processes use one of these, us left out; blocking."""
    ours = _mounts(Path("/proc/self"))
    namespace = Path("/proc/self/ns/mnt").readlink()
    where = [(path.resolve(), _covering(path.resolve(), ours)) for path in paths]

    def uses(entry: Path) -> bool:
        if entry.name == str(os.getpid()):
            return False
        for path, mount in where:
            inner = mount.root / path.relative_to(mount.point)
            seen = ours if (entry / "ns/mnt").readlink() == namespace else _mounts(entry)
            if any(_has(one, mount.device, inner, ours) for one in seen):
                return True
            if seen is ours and any(_opened(entry, path)):
                return True
        return False

    return [f"{_name(pid)} (process {pid})" for pid in process_table.living(uses)]


def _has(one: Mounted, device: str, inner: Path, ours: Sequence[Mounted]) -> bool:
    """Whether a mount is of the place, or of something in it; not one that was there before anybody used it."""
    if one.device != device or not one.root.is_relative_to(inner):
        return False
    return not any((one.device, one.root, one.point) == (own.device, own.root, own.point) for own in ours)


def _opened(entry: Path, path: Path) -> Iterator[bool]:
    for link in (entry / "cwd", *(entry / "fd").iterdir()):
        with suppress(OSError):
            yield link.readlink().is_relative_to(path)


def _covering(path: Path, mounts: Sequence[Mounted]) -> Mounted:
    # The last of several at one point hides those before.
    return max(
        enumerate(one for one in mounts if path.is_relative_to(one.point)),
        key=lambda found: (len(found[1].point.parts), found[0]),
    )[1]


def _mounts(entry: Path) -> Sequence[Mounted]:
    found = []
    for line in (entry / "mountinfo").read_bytes().splitlines():
        words = line.split(b" ")
        kind, source = words[words.index(b"-") + 1 :][:2]
        places = _path(words[3]), _path(words[4])
        found.append(Mounted(int(words[0]), os.fsdecode(words[2]), *places, os.fsdecode(kind), str(_path(source))))
    return found


def _path(word: bytes) -> Path:
    r"""Return a path as it is: space, tab, line end and backslash are written `\040`."""
    first, *rest = word.split(b"\\")
    return Path(os.fsdecode(first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a program"
