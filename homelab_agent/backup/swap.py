"""Two names of one file system change what they stand for, so that whoever dies meanwhile leaves one or the other.

What stands where is told by inode numbers, which a rename keeps: a journal says beforehand which number is the old one
and which the new one, and `settle` brings about either order from whatever it finds. Where the file system can exchange
two names in one step (renameat2(2), RENAME_EXCHANGE: ext4, XFS, Btrfs, tmpfs, ZFS 2.2), a name is never without its
files, not even for a Docker that starts its containers after a power cut before anybody else has looked. Elsewhere a
third name serves for a moment.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from homelab_agent.core import statefile
from homelab_agent.core.errors import AgentError

Side: TypeAlias = Literal["old", "new"]

_AT_FDCWD = -100
_NOREPLACE = 1
_EXCHANGE = 2
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY})
"""What file systems and kernels say that know none of these flags."""
_libc = ctypes.CDLL(None, use_errno=True)


class Disturbed(AgentError):
    """At {live} and {beside} is not what was put there; somebody has changed it, and it is left as it is."""

    repair = "Look at both: ls -lid {live} {beside}; then keep one of them at {live}."


class NumbersChange(AgentError):
    """The file system of {path} gives a file another inode number when it is renamed; nothing was replaced there."""

    repair = "Restore beside it (--to), and move the files by hand while nobody uses them."


class NotRenamed(AgentError):
    """{path} cannot be replaced by what was unpacked beside it."""

    repair = "ls -ld {path}; findmnt -T {path}; lsattr -d {path}"


@dataclass(frozen=True, slots=True)
class Move:
    """`live` stands for what `beside` has, and the other way round; `old` and `new` are their inode numbers before.

    None says that there is nothing: a file that is new, or one that goes. Where `folder` is given, the inode number of
    where `live` is, a program may put another file there, or take it away, until it is stopped.
    """

    live: Path
    beside: Path
    old: int | None
    new: int | None
    folder: int | None = None

    @property
    def aside(self) -> Path:
        """The third name, where two cannot be exchanged."""
        return self.beside.with_name(f"{self.beside.name}.aside")


def planned(live: Path, beside: Path, *, folder: int | None = None) -> Move:
    """Return the move that makes `live` be what is `beside` now."""
    return Move(live, beside, inode(live), inode(beside), folder)


def seen(move: Move, side: Side) -> Move:
    """Return a move as it is when all programs have been stopped, and that side stands there.

    Raises OSError, and `Disturbed` where its folder is another: a link that somebody has put there leads anywhere.
    """
    if move.folder is None:
        return move
    if inode(move.live.parent) != move.folder:
        raise Disturbed(live=move.live.parent, beside=move.beside.parent)
    number = inode(move.live)
    return replace(move, old=number) if side == "old" else replace(move, new=number)


def inode(path: Path) -> int | None:
    """Return a name's inode number, None where nothing is; raises OSError."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def folder_in(top: Path, folder: Path) -> int | None:
    """Return the inode number of a folder in a place, None where no folders lead there, or a link; raises OSError.

    A container may be at work in it: no name is looked at twice.
    """
    descriptor = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folder.relative_to(top).parts:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.fstat(descriptor).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(descriptor)


def put_beside(unpacked: Path, beside: Path) -> None:
    """Give what was unpacked its name for a move; raises `NumbersChange` where no move could be told from another."""
    before = inode(unpacked)
    _renamed(unpacked, beside)
    if inode(beside) != before:
        _renamed(beside, unpacked)
        raise NumbersChange(path=beside.parent)
    _sync(unpacked.parent, beside.parent)


def check(moves: Sequence[Move], side: Side) -> None:
    """Raise `Disturbed` where not all of that side stands there, and the other beside it; raises OSError."""
    for move in moves:
        if side_of(move) != side and move.old != move.new:
            raise Disturbed(live=move.live, beside=move.beside)


def settle(moves: Sequence[Move], side: Side) -> None:
    """Bring it about that each `live` stands for that side, and have it on disk; blocking.

    Done as often as one likes, after having been cut short anywhere. Raises `Disturbed`, `NotRenamed`: what was moved
    until then stays moved, and the other side is to be settled.
    """
    for move in moves if side == "new" else reversed(moves):
        try:
            _settle(move, side)
        except OSError as error:
            raise NotRenamed(path=move.live, cause=error) from error


def side_of(move: Move) -> Side | None:
    """Return which of the two stands there now; None where a move was cut short, or somebody has changed it."""
    match inode(move.live), inode(move.beside):
        case live, beside if (live, beside) == (move.old, move.new):
            return "old"
        case live, beside if (live, beside) == (move.new, move.old):
            return "new"
    return None


def _settle(move: Move, side: Side) -> None:
    if side_of(move) == side:
        return
    wanted, other = (move.new, move.old) if side == "new" else (move.old, move.new)
    where = {number: path for path, number in _found(move)}
    if set(where) != {number for number in (move.old, move.new) if number is not None}:
        raise Disturbed(live=move.live, beside=move.beside)
    if None not in (wanted, other) and move.aside not in where.values() and _exchanged(move):
        _sync(move.live.parent, move.beside.parent)
        return
    for source, target in _steps(move, where, wanted, other):
        _renamed(source, target)
        _sync(source.parent, target.parent)


def _steps(move: Move, where: dict[int, Path], wanted: int | None, other: int | None) -> Iterator[tuple[Path, Path]]:
    """Yield the renames from where things are to where they belong, each to a name that is free."""
    if other is not None and where[other] == move.live:
        where[other] = move.aside if move.beside in where.values() else move.beside
        yield move.live, where[other]
    if wanted is not None and where[wanted] != move.live:
        yield where[wanted], move.live
    if other is not None and where[other] == move.aside:
        yield move.aside, move.beside


def _found(move: Move) -> Iterator[tuple[Path, int]]:
    for path in (move.live, move.beside, move.aside):
        if (number := inode(path)) is not None:
            yield path, number


def _exchanged(move: Move) -> bool:
    try:
        rename(move.live, move.beside, _EXCHANGE)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _renamed(source: Path, target: Path) -> None:
    """Rename to a name that is free; raises FileExistsError where it is not."""
    try:
        rename(source, target, _NOREPLACE)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if inode(target) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        source.rename(target)


def rename(source: Path, target: Path, flags: int) -> None:
    """Call renameat2(2); raises OSError, with ENOSYS where the C library has none."""
    try:
        call = _libc.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


def write_out(path: Path) -> None:
    """Have all that was written to the file system of `path` on disk (syncfs(2)); raises OSError; blocking."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _sync(*directories: Path) -> None:
    for directory in set(directories):
        statefile.sync_directory(directory)
