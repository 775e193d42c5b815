"""Trees that a backup must bring back as they are, and what they are, to compare."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from homelab_agent.backup.archive.appendix import Appendix
from homelab_agent.backup.point import Point, Source
from homelab_agent.backup.reserved import UNDO
from homelab_agent.core.clock import SystemClock


def quiet(done: int, total: int | None, what: str) -> None:
    """Be told nothing."""


def point(*sources: Source, set_name: str = "things", **more: Any) -> Point:
    """Return a point of these sources, now."""
    return Point(set_name, SystemClock().read().wall, more.pop("verdict", "crash"), sources, **more)


def keep_beside(place: Path) -> Path:
    """Keep a file in a place as restores keep what they have replaced there, and return where."""
    kept = place / f"{UNDO}id-name"
    kept.mkdir()
    (kept / "file").write_bytes(bytes(10_000))
    return kept


def append_manifest(archive: Path, *lines: bytes) -> None:
    """Put these lines behind an archive, as the engine does."""
    with archive.open("r+b") as file:
        frame = Appendix(file, file.seek(0, os.SEEK_END))
        for line in lines:
            frame.add(line)
        frame.close()


def hostile(top: Path) -> Path:
    """Make a directory with everything that other ways of copying lose; needs root."""
    top.mkdir()
    (top / "plain").write_bytes(b"plain\n")
    os.utime(top / "plain", ns=(1_700_000_000_123_456_789, 1_700_000_000_987_654_321))
    os.link(top / "plain", top / "second name")
    with (top / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(64 * 1024 * 1024)
        file.write(b"middle")
        file.truncate(256 * 1024 * 1024)
    os.setxattr(top / "plain", "user.colour", b"blue\0green")
    os.setxattr(top / "plain", "user.odd=na%3Dme\nof two lines", b"1 x=y\n")
    subprocess.run(["setfacl", "-m", "u:12345:rwx,g:4321:r-x", top / "second name"], check=True)
    (top / "program").write_bytes(b"#!/bin/true\n")
    (top / "program").chmod(0o4755)
    subprocess.run(["/sbin/setcap", "cap_net_bind_service+ep", top / "program"], check=True)
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (top / "n").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to("../nowhere/at all")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe not utf-8")).write_bytes(b"\0")
    (top / "a name\nwith a line").write_bytes(b"x")
    (top / "tags \U000e0067\U000e0062 that iconv drops").write_bytes(b"x")
    (top / "dangling's second name").hardlink_to(top / "dangling")
    (top / ("long" * 50)).write_bytes(b"200 characters")
    (top / "-rf").write_bytes(b"an option?")
    deep = top / "folder" / "with space" / "and *"
    deep.mkdir(parents=True)
    (deep / "[file]").write_bytes(os.urandom(100_000))
    os.chown(deep / "[file]", 12345, 54321)
    (top / "empty").mkdir(0o1777)
    top.chmod(0o700)
    os.chown(top, 999, 999)
    return top


def told(top: Path) -> dict[str, Any]:
    """Return all that there is to know of a tree, but for when it was looked at."""
    found: dict[str, Any] = {}
    links: dict[tuple[int, int], str] = {}
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in (".", *sorted((*files, *folders))) if folder == str(top) else sorted((*files, *folders)):
            path = Path(folder) / name
            found[os.path.relpath(path, top)] = _told(path, os.path.relpath(path, top), links)
    return found


def _told(path: Path, name: str, links: dict[tuple[int, int], str]) -> dict[str, Any]:
    status = path.lstat()
    said: dict[str, Any] = {
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "attributes": {key: os.getxattr(path, key, follow_symlinks=False) for key in sorted(_attributes(path))},
    }
    if not stat.S_ISDIR(status.st_mode):
        said["links"] = status.st_nlink
        said["same as"] = links.setdefault((status.st_dev, status.st_ino), name)
    if stat.S_ISLNK(status.st_mode):
        return {**said, "leads to": str(path.readlink())}
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return {**said, "device": status.st_rdev}
    if stat.S_ISREG(status.st_mode):
        said["size"] = status.st_size
        said["hash"] = hashlib.sha256(path.read_bytes()).hexdigest()
        said["holes"] = _holes(path)
    return said


def _holes(path: Path) -> list[tuple[int, int]]:
    """Return where each hole begins and ends."""
    with path.open("rb") as file:
        size, place, found = file.seek(0, os.SEEK_END), 0, []
        while place < size:
            begin = file.seek(place, os.SEEK_HOLE)
            try:
                place = file.seek(begin, os.SEEK_DATA) if begin < size else size
            except OSError:  # there is no more data
                place = size
            if begin < size:
                found.append((begin, place))
        return found


def _attributes(path: Path) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)
