"""Out of a repository into a directory: by member, and hashed against the manifest.

restic restores to the absolute paths that it has read, below a directory of ours; from there each source is renamed to
where its member is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from homelab_agent.backup import patterns
from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Said, Verified
from homelab_agent.backup.restic import manifest
from homelab_agent.backup.restic.manifest import Manifest, Root
from homelab_agent.backup.restic.program import Restic
from homelab_agent.backup.restic.snapshots import Found

_BESIDE = ".restoring"


def by_snapshot(written: Manifest) -> list[tuple[str, list[Root]]]:
    """Return each snapshot of an archive with what it holds; a dump is at the path of its member."""
    dumps = [Root(member, Path("/", member), id_) for member, id_ in written.dumps.items()]
    roots = [*written.roots, *dumps]
    return [
        (id_, [one for one in roots if one.snapshot == id_]) for id_ in dict.fromkeys(one.snapshot for one in roots)
    ]


def strangers(written: Manifest, found: Found) -> list[str]:
    """Return what is wrong with the snapshots of an archive: its manifest names others than there are."""
    named = [id_ for id_, _ in by_snapshot(written)]
    there = [one.id for one in found.others]
    missing = [id_ for id_ in named if not any(one.startswith(id_) for one in there)]
    return [f"the snapshot {id_} is not there" for id_ in missing]


class Restoring:
    """Restores one archive, or what of it the globs stand for."""

    def __init__(self, restic: Restic, written: Manifest, globs: Sequence[str], *, sparse: bool) -> None:
        self._restic = restic
        self._written = written
        self._globs = globs
        self._sparse = sparse

    async def restore(self, archive_id: str, into: Path, say: Said) -> Verified:
        """Restore below `into`; return what was found there, held against the manifest."""
        beside = into / _BESIDE
        wanted = Packed(one for one in self._written.files.items() if patterns.chosen(one[0], self._globs))
        total = sum(one.size for one in wanted.values())
        await asyncio.to_thread(beside.mkdir, 0o700)
        try:
            for id_, roots in by_snapshot(self._written):
                includes = list(patterns.included(self._globs, [(root.member, root.path) for root in roots]))
                if includes or not self._globs:
                    say(0, total, "restoring")
                    await self._restic.restore(self._words(id_, beside, includes), say)
                    await asyncio.to_thread(_move, beside, into, roots)
        finally:
            await asyncio.to_thread(shutil.rmtree, beside)
        tell = manifest.counted(say, total, "hashing", asyncio.get_running_loop())
        found = await asyncio.to_thread(self._hash, into, tell)
        size = sum(one.size for one in found.values())
        return Verified(archive_id, len(found), size, manifest.differences(wanted, found))

    def _words(self, snapshot: str, beside: Path, includes: Sequence[str]) -> list[str]:
        words = ["--sparse"] if self._sparse else []
        words += [f"--include={one}" for one in includes]
        return [*words, f"--target={beside}", "--", snapshot]

    def _hash(self, into: Path, tell: manifest.Tell) -> Packed:
        found = Packed()
        done = 0
        for _, roots in by_snapshot(self._written):
            for root in roots:
                if (into / root.member).exists():
                    for member, file in manifest.hash_tree(into / root.member, root.member):
                        found.add(member, file)
                        done += file.size
                        tell(done)
        return found


def _move(beside: Path, into: Path, roots: Sequence[Root]) -> None:
    """Put each source where its member is; blocking. One that lies within another is taken out of it first."""
    for root in sorted(roots, key=lambda one: len(one.path.parts), reverse=True):
        source, target = beside / root.path.relative_to("/"), into / root.member
        if not (source.exists() or source.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
