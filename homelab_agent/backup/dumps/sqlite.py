"""SQLite: a file in a volume, copied page by page by SQLite itself (its online backup), while the application writes.

It is found on the host through the container's mounts. What is in a volume is the container's: no link in it is
followed, and that the file which SQLite has opened is the one we have looked at is held against its inode.
https://sqlite.org/backup.html
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from homelab_agent.backup import dumping, joined, pipes
from homelab_agent.backup.control import Control
from homelab_agent.backup.docker_errors import ContainerGone
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps.dumped import Dumped, Told, member
from homelab_agent.backup.dumps.errors import NotAFileOfIt, NotCopied, StillRuns
from homelab_agent.backup.inventory import Container
from homelab_agent.core import statefile

BUSY_SECONDS = 30.0
"""How long a lock of the application is waited for."""
_PAGES = 4096
_DESCRIPTORS = Path("/proc/self/fd")
_SCRATCH = Path("/var/tmp")  # noqa: S108 - a directory of our own in it, on a disk: /tmp may be memory


async def of(planned: PlannedDump) -> Sequence[Dumped]:
    """Return the dump of one file; raises `NotAFileOfIt`."""
    container, path = planned.container, planned.dump.path
    told = {"container": container.name, "kind": "sqlite", "what": PurePosixPath(path).name, "path": path}
    told["version"] = sqlite3.sqlite_version
    size = await asyncio.to_thread(_size, container, path)
    name = member(container.name, f"{path.strip('/').replace('/', '-')}.sqlite")
    return [Dumped(name, told, partial(_copied, container, path, planned.dump.timeout), size)]


async def load(control: Control, container_id: str, told: Told, pieces: AsyncIterator[bytes]) -> None:
    """Put a dump where the file was, with the owner and mode of that; raises `StillRuns` while somebody may use it."""
    container = await control.container(container_id)
    if container is None:
        raise ContainerGone(container=told["container"])
    if container.state in {"running", "paused", "restarting"}:
        raise StillRuns(container=container.name)
    with _folder(container, str(told["path"])) as (folder, name):
        try:
            await _put(folder, name, pieces)
        except OSError as error:
            raise NotCopied(path=told["path"], container=container.name, cause=error) from error


@asynccontextmanager
async def _copied(container: Container, path: str, seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="homelab-agent-sqlite-", dir=_SCRATCH))
    over = threading.Event()
    try:
        copying = asyncio.ensure_future(asyncio.to_thread(_copy, container, path, directory / "copy", over))
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(copying)
        except BaseException:
            over.set()
            await asyncio.wait({copying})
            raise
        yield joined.read([directory / "copy"])
    except TimeoutError:
        raise NotCopied(path=path, container=container.name, cause=f"not within {seconds:g} s") from None
    finally:
        await asyncio.to_thread(shutil.rmtree, directory)


def _copy(container: Container, path: str, target: Path, over: threading.Event) -> None:
    """Have SQLite copy the file as it is at one moment; blocking.

    Opened for reading only. With a log beside it (WAL) nobody waits for us; without one who writes does.
    """

    def go_on(*_: int) -> None:
        if over.is_set():
            raise NotCopied(path=path, container=container.name, cause="it was cut short")

    with _folder(container, path) as (folder, name):
        seen = _look(folder, name, container, path)
        place = quote(str(_held(folder).readlink() / name))
        try:
            with (
                closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as source,
                closing(sqlite3.connect(target)) as copy,
            ):
                source.isolation_level = None
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it reads one moment
                if not _is_open(seen):
                    raise NotAFileOfIt(path=path, container=container.name)
                source.backup(copy, pages=_PAGES, progress=go_on)
        except sqlite3.Error as error:
            raise NotCopied(path=path, container=container.name, cause=error) from error


@contextmanager
def _folder(container: Container, path: str) -> Iterator[tuple[int, str]]:
    """Give a descriptor of the folder of a container's file, on the host, and its name; no link leads there."""
    asked = PurePosixPath(path)
    mount = dumping.mount_of(container, asked)
    if mount is None or ".." in asked.parts:
        raise NotAFileOfIt(path=path, container=container.name, cause="no volume or directory of the host is there")
    inside = asked.relative_to(mount.target).parts
    top, parts = (mount.source, inside) if inside else (mount.source.parent, (mount.source.name,))
    folder = -1
    try:
        folder = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
    except OSError as error:
        if folder >= 0:
            os.close(folder)
        raise NotAFileOfIt(path=path, container=container.name, cause=error) from error
    try:
        yield folder, parts[-1]
    finally:
        os.close(folder)


def _look(folder: int, name: str, container: Container, path: str) -> os.stat_result:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise NotAFileOfIt(path=path, container=container.name, cause=error) from error
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileOfIt(path=path, container=container.name, cause="it is a link, or a folder")
    return found


def _size(container: Container, path: str) -> int:
    with _folder(container, path) as (folder, name):
        return _look(folder, name, container, path).st_size


def _is_open(seen: os.stat_result) -> bool:
    """Return whether this process has that file open."""
    for one in _DESCRIPTORS.iterdir():
        with suppress(OSError):
            found = one.stat()
            if (found.st_dev, found.st_ino) == (seen.st_dev, seen.st_ino):
                return True
    return False


def _held(folder: int) -> Path:
    """Return a path of a folder that leads to it wherever it is moved to."""
    return _DESCRIPTORS / str(folder)


async def _put(folder: int, name: str, pieces: AsyncIterator[bytes]) -> None:
    """Write a file beside the one that is there, and have it take its place; a log of the old one goes first."""
    beside = f".homelab-agent-{name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        await asyncio.to_thread(os.unlink, beside, dir_fd=folder)
    descriptor = await asyncio.to_thread(os.open, beside, flags, 0o600, dir_fd=folder)
    try:
        async for piece in pieces:
            await asyncio.to_thread(pipes.write_all, descriptor, piece)
        await asyncio.to_thread(_take_place, folder, name, beside, descriptor)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)


def _take_place(folder: int, name: str, beside: str, descriptor: int) -> None:
    try:
        like = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mode = stat.S_IMODE(like.st_mode)
    except FileNotFoundError:
        like, mode = _held(folder).stat(), 0o600
    os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)
    for end in dumping.BESIDE:
        with suppress(FileNotFoundError):
            os.unlink(f"{name}{end}", dir_fd=folder)
    os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    statefile.sync_directory(_held(folder))
