"""The command lines of GNU tar, which loses nothing of a file: holes, links, owners, ACLs, attributes, capabilities.

It writes to a descriptor and reads from one, so that no archive ever passes through a pipe of the event loop.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from homelab_agent.backup import reserved, sizes
from homelab_agent.backup.point import Source

_FAITHFUL = ("--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner")
_POLITE = ("nice", "-n", "10", "ionice", "-c", "2", "-n", "7")
_BASIC = re.compile(rb"([\\.*^$\[\]~])")
_MARK = b"\x01"
"""Ends the parts of an expression: no sane path holds it."""
_DONE = b"\x02"
"""Begins a name that has its member in front, which no other source's expression fits then; the last takes it off."""

# In any locale but one of UTF-8, tar converts names as it reads them, and the C library drops what it has no word for.
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "POSIXLY_CORRECT": "", "TZ": "UTC"}


def writing(sources: Sequence[Source], to: int, leaving_out: int | None) -> list[str]:
    """Return what writes the sources to a descriptor; names to leave out are read from another, a line each."""
    words = [*_POLITE, "tar", "--create", f"--file=/dev/fd/{to}", "--format=posix", "--sparse", *_FAITHFUL]
    words += ["--blocking-factor=128", "--directory=/", "--warning=no-file-ignored"]
    words += [f"--exclude={one}" for one in reserved.GLOBS]  # before the words that have no glob mean anything
    words += ["--pax-option=delete=atime,delete=ctime", "--no-wildcards", "--anchored", "--no-unquote"]
    if any(source.exclude_caches for source in sources):
        words.append("--exclude-caches")
    if leaving_out is not None:
        words.append(f"--exclude-from=/dev/fd/{leaving_out}")
    inmost_first = sorted(sources, key=lambda source: len(source.path.parts), reverse=True)
    words += [f"--transform={_renaming(source)}" for source in inmost_first]
    words.append("--transform=" + os.fsdecode(b"s" + _MARK + b"^" + _DONE + _MARK + _MARK + b"rhS"))
    return [*words, "--", *(_inside_root(source.path) for source in sources)]


def reading(out_of: int, into: Path, *, only: int | None = None) -> list[str]:
    """Return what unpacks what comes from a descriptor below a directory, with all that a file has.

    Somebody waits for what comes back: it is no more polite than others. With `only`, another descriptor, what is named
    there and all below that; each name ends with a zero byte.
    """
    words = ["tar", "--extract", f"--file=/dev/fd/{out_of}", f"--directory={into}", *_FAITHFUL]
    words += ["--blocking-factor=128", "--same-owner", "--same-permissions", "--delay-directory-restore", "--sparse"]
    if only is not None:
        words += ["--no-wildcards", "--anchored", "--no-unquote", "--null", f"--files-from=/dev/fd/{only}"]
    return words


def left_out(sources: Iterable[Source]) -> Iterator[bytes]:
    """Yield the lines that name what the sources' globs leave out; blocking.

    A folder that is left out is named, and what is in it is not. A name with a line break in it cannot be named
    there (tar would read two), so such a file is stored.
    """
    for source in sources:
        pattern = sizes.excluded(tuple(source.exclude))
        if pattern is None:
            continue
        for folder, folders, files in os.walk(source.path):
            inside = Path(folder).relative_to(source.path)
            for name in (*files, *folders):
                line = os.fsencode(_inside_root(source.path / inside / name))
                if pattern.fullmatch(str(inside / name)) and b"\n" not in line:
                    yield line + b"\n"
            folders[:] = [name for name in folders if not pattern.fullmatch(str(inside / name))]


def _renaming(source: Source) -> str:
    r"""Return the expression by which a source's names begin with its member; targets of links by symbol stay.

    https://www.gnu.org/software/tar/manual/html_node/transform.html; the flags are r, h and not S.
    """
    old = _BASIC.sub(rb"\\\1", os.fsencode(_inside_root(source.path)))
    new = re.sub(rb"([\\&])", rb"\\\1", os.fsencode(source.member))
    expression = b"s" + _MARK + b"^" + old + rb"\(/\|$\)" + _MARK + _DONE + new + rb"\1" + _MARK + b"rhS"
    return os.fsdecode(expression)


def _inside_root(path: Path) -> str:
    return str(path).lstrip("/") or "."
