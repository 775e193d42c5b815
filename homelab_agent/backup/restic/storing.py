"""One run's way into a repository: what is read while all stands still, and what makes it count after that.

What restic read is believed only once it has been read back. Of a file whose content is the same as in the archive
before, which this host has read back, that is done already; `restic diff` says which ones differ.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from homelab_agent.backup import patterns, reserved
from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Content, Dump, Point, Said, Source
from homelab_agent.backup.restic import errors, manifest, snapshots
from homelab_agent.backup.restic.manifest import Manifest, Root
from homelab_agent.backup.restic.program import Restic
from homelab_agent.backup.restic.reading import Reading
from homelab_agent.core import process

_FIND_SECONDS = 600.0


@dataclass(slots=True)
class Stored:
    """What a run has put into the repository: its snapshots, as restic calls them when it has made them."""

    run: str
    roots: list[Root] = field(default_factory=list)
    dumps: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, Content] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """In bytes, by snapshot."""
    read_bytes: int = 0
    stored_bytes: int = 0

    def add(self, summary: Mapping[str, Any]) -> str:
        """Count a snapshot; return its id, in full or what 0.14 tells of it."""
        self.read_bytes += summary["total_bytes_processed"]
        self.stored_bytes += summary.get("data_added_packed", summary["data_added"])
        id_ = str(summary["snapshot_id"])
        self.sizes[id_] = summary["total_bytes_processed"]
        return id_


class Storing:
    """Makes the snapshots of one repository, as `host`."""

    def __init__(self, restic: Restic, reading: Reading, *, host: str) -> None:
        self._restic = restic
        self._reading = reading
        self._host = host

    async def read(self, point: Point, stored: Stored, say: Said) -> None:
        """Make a snapshot of each dump and of the sources; raises `Changed`, `SourceMissing`, a `ResticFailed`."""
        paths = await asyncio.to_thread(_resolved, point.sources)
        began = time.time_ns()
        for dump in point.dumps:
            await self._dump(dump, point, stored, say)
        for caches, group in groupby(sorted(point.sources, key=_caches), key=_caches):
            sources = list(group)
            words = [
                f"--exclude={one}" for source in sources for one in patterns.left_out(source, paths[source.member])
            ]
            words += ["--exclude-caches"] if caches else []
            words += ["--", *(str(paths[source.member]) for source in sources)]
            id_ = stored.add(await self._restic.backup([*self._marks("sources", point, stored), *words], say))
            stored.roots += [Root(source.member, paths[source.member], id_) for source in sources]
        await self._look_for_changes(point.sources, paths, began)

    async def make_count(
        self, point: Point, stored: Stored, before: Manifest | None, say: Said
    ) -> tuple[Manifest, str]:
        """Read back what is new, and write the manifest, which makes the run an archive; return it with its id.

        `before` is the archive before, if it was read back here. Raises `NotAsWritten`, a `ResticFailed`.
        """
        files = Packed()
        for id_ in dict.fromkeys(root.snapshot for root in stored.roots):
            roots = [root for root in stored.roots if root.snapshot == id_]
            files.update(await self._reading.changed(id_, roots, before, say, total=stored.sizes[id_]))
        for member, id_ in stored.dumps.items():
            root = Root(member, Path("/", member), id_)
            found = await self._reading.hashes(id_, "/", [root], say, total=stored.sizes[id_])
            if found != {member: stored.hashes[member]}:
                raise errors.NotAsWritten(repository=self._restic.access.name, cause=member)
            files.update(found)
        written = Manifest(point.set_name, point.at, point.verdict, stored.roots, stored.dumps, files, point.about)
        figures = {
            "parts": len({root.snapshot for root in stored.roots}) + len(stored.dumps),
            "verdict": point.verdict,
            "bytes": written.total_bytes,
            "files": len(files),
            "kept": stored.stored_bytes,
        }
        words = [*self._marks("about", point, stored, **figures), "--stdin", f"--stdin-filename={snapshots.ABOUT}"]
        summary = await self._restic.backup(words, _silent, given=b"".join(written.lines()))
        return written, str(summary["snapshot_id"])

    async def _dump(self, dump: Dump, point: Point, stored: Stored, say: Said) -> None:
        hashing = manifest.Hashing()
        words = [*self._marks("dump", point, stored), "--stdin", f"--stdin-filename={dump.member}"]
        async with dump.opened() as pieces:
            try:
                summary = await self._restic.backup_stream(words, hashing.passing(pieces), say)
            except errors.ResticFailed as error:
                if hashing.ended and not hashing.file.size:  # restic makes no snapshot of nothing
                    raise errors.NothingDumped(member=dump.member) from error
                raise
        stored.dumps[dump.member] = stored.add(summary)
        stored.hashes[dump.member] = hashing.file

    def _marks(self, kind: snapshots.Kind, point: Point, stored: Stored, **figures: object) -> list[str]:
        tags = snapshots.tags(kind, stored.run, point.set_name, point.at, **figures)
        return ["--host", self._host, "--time", snapshots.restic_time(point.at), *tags]

    async def _look_for_changes(self, sources: Sequence[Source], paths: Mapping[str, Path], began: int) -> None:
        """Raise `Changed` where a file of a source has changed since `began`, in nanoseconds since 1970.

        restic reads a file to its end, whatever happens to it meanwhile. The kernel sets a file's change time, which
        nobody can set back, whenever its content or its name changes: by a clock that may be some milliseconds behind
        ours, in which restic has not read anything yet.
        """
        changed: list[str] = []
        for source in sources:
            words = ["find", str(paths[source.member]), "-newerct", f"@{began // 10**9}.{began % 10**9:09}", "-print0"]
            done = await process.run(words, deadline=_FIND_SECONDS)
            found = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
            changed += await asyncio.to_thread(_counting, found, source, paths[source.member])
            if done.code and not source.exclude:
                changed.append(done.stderr.decode(errors="replace").strip())
        if changed:
            raise errors.Changed(path=changed[0], count=len(changed))


def _caches(source: Source) -> bool:
    return source.exclude_caches


def _resolved(sources: Sequence[Source]) -> dict[str, Path]:
    """Return where each source really is: of a symbolic link restic keeps the link."""
    found = {}
    for source in sources:
        try:
            found[source.member] = source.path.resolve(strict=True)
        except OSError as error:
            raise errors.SourceMissing(path=source.path, cause=error) from error
    return found


def _counting(found: Sequence[str], source: Source, top: Path) -> list[str]:
    """Return what of these was stored; a folder from which something is left out may change by that; blocking."""
    counting = []
    for name in found:
        path = Path(name)
        below = str(path.relative_to(top))
        if any(map(reserved.is_ours, path.relative_to(top).parts)):
            continue
        if source.exclude and (patterns.chosen(below, source.exclude) or path.is_dir()):
            continue
        inside = [path, *path.parents][: len(path.relative_to(top).parts) + 1]
        if source.exclude_caches and any((folder / "CACHEDIR.TAG").is_file() for folder in inside):
            continue
        counting.append(name)
    return counting


def _silent(done: int, total: int | None, what: str) -> None:
    """Tell nobody of what is so small."""
