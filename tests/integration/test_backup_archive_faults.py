"""The engine `archive` when something breaks: disks, its writer, its reader; what does not count never does."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.backup.archive import files
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.archive.errors import CopyFailed, NotUnpacked, Unreadable
from homelab_agent.backup.point import Archive, Source
from tests import processes
from tests.backed_up import append_manifest, point, quiet, told
from tests.fixtures.soak import Soak
from tests.neighbours.disk import Disks
from tests.neighbours.neighbour import need_root

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def root() -> None:
    need_root("restoring owners and devices")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.fixture
def engine(tmp_path: Path) -> ArchiveEngine:
    return ArchiveEngine(tmp_path / "archives")


@dataclass
class Endless:
    """A dump that goes on until it may end; `meanwhile` is called between two pieces."""

    meanwhile: Callable[[int], object] = lambda _: None
    member: str = "dumps/db"
    given: int = 0
    is_closed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                self.meanwhile(self.given)
                yield os.urandom(MEGABYTE)
                self.given += 1

        try:
            yield pieces()
        finally:
            self.is_closed.set()


async def stored(engine: ArchiveEngine, *sources: Source) -> Archive:
    wanted = point(*sources)
    return await engine.finish(await engine.copy(wanted, quiet), wanted, quiet)


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


# Disks


async def test_a_disk_that_gets_full_is_told_and_nothing_is_left(disk: Disks, volume: Path) -> None:
    small = disk(megabytes=8)
    (volume / "noise").write_bytes(os.urandom(20 * MEGABYTE))
    with pytest.raises(CopyFailed, match="No space left"):
        await ArchiveEngine(small.point).copy(point(Source("volumes/v", volume)), quiet)
    assert left(small.point) == []
    with pytest.raises(CopyFailed, match="No space left"):
        await ArchiveEngine(small.point).copy(point(dumps=(Endless(),)), quiet)
    assert left(small.point) == []


async def test_a_disk_that_has_no_room_for_the_manifest_has_no_archive(disk: Disks, volume: Path) -> None:
    small = disk(megabytes=16)
    engine = ArchiveEngine(small.point)
    for number in range(3000):
        (volume / f"{number}{os.urandom(20).hex()}").touch()
    wanted = point(Source("volumes/v", volume))
    copied = await engine.copy(wanted, quiet)
    small.fill()
    with pytest.raises(CopyFailed, match="No space left"):
        await engine.finish(copied, wanted, quiet)
    small.free()
    assert left(small.point) == []
    assert (await engine.verify((await stored(engine, Source("volumes/v", volume))).id, quiet)).good


async def test_a_disk_that_takes_no_writes_is_told(disk: Disks, volume: Path) -> None:
    small = disk(megabytes=8)
    small.read_only()
    with pytest.raises(CopyFailed, match="Read-only"):
        await ArchiveEngine(small.point).copy(point(Source("volumes/v", volume)), quiet)


async def test_a_disk_that_is_pulled_out_is_told(disk: Disks) -> None:
    pulled = disk.ext4(megabytes=200)
    dump = Endless(lambda given: pulled.unplug() if given == 40 else None)
    with pytest.raises(CopyFailed, match="Input/output error"):
        await ArchiveEngine(pulled.point).copy(point(dumps=(dump,)), quiet)
    assert dump.is_closed.is_set()
    pulled.mend()
    engine = ArchiveEngine(pulled.point)
    await engine.sweep()
    assert await engine.list() == []
    assert [name for name in left(pulled.point) if files.PARTIAL in name] == []


async def test_what_cannot_be_unpacked_is_told_with_tars_own_words(
    disk: Disks, engine: ArchiveEngine, volume: Path, tmp_path: Path
) -> None:
    (volume / "noise").write_bytes(os.urandom(20 * MEGABYTE))
    archive = await stored(engine, Source("volumes/v", volume))
    with pytest.raises(NotUnpacked, match=r"No space left|Wrote only"):
        await engine.restore(archive.id, disk(megabytes=4).point, [], quiet)
    with pytest.raises(NotUnpacked, match="No such file"):
        await engine.restore(archive.id, tmp_path / "nowhere", [], quiet)


# Ends


async def test_a_copy_that_is_cancelled_ends_with_its_dump_and_leaves_nothing(
    engine: ArchiveEngine, tmp_path: Path
) -> None:
    is_long = asyncio.Event()
    dump = Endless(lambda given: is_long.set() if given == 70 else None)
    copying = asyncio.ensure_future(engine.copy(point(dumps=(dump,)), quiet))
    await is_long.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert dump.is_closed.is_set()
    assert left(tmp_path / "archives") == []


@pytest.mark.parametrize("phase", ["copied", "read back", "read", "restored"])
async def test_what_is_cancelled_in_its_middle_ends_with_its_tar(
    phase: str, engine: ArchiveEngine, volume: Path, tmp_path: Path
) -> None:
    (volume / "noise").write_bytes(os.urandom(200 * MEGABYTE))
    (tmp_path / "into").mkdir()
    wanted = point(Source("volumes/v", volume))
    begun = asyncio.Event()

    def say(done: int, total: int | None, what: str) -> None:
        if what == phase:
            begun.set()

    async def work() -> None:
        archive = await engine.finish(await engine.copy(wanted, say), wanted, say)
        await engine.verify(archive.id, say)
        await engine.restore(archive.id, tmp_path / "into", [], say)

    before = set(processes.children(os.getpid()))
    working = asyncio.ensure_future(work())
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert [pid for pid in set(processes.children(os.getpid())) - before if processes.is_alive(pid)] == []
    assert not any(name.endswith(files.PARTIAL) for name in left(tmp_path / "archives"))
    for archive in await engine.list():
        assert (await engine.verify(archive.id, quiet)).good


async def _killed(soak: Soak, volume: Path, directory: Path, least: int) -> None:
    (volume / "noise").write_bytes(os.urandom(100 * MEGABYTE))
    engine = ArchiveEngine(directory)
    for _ in soak.rounds(least):
        words = (sys.executable, "-m", "tests.archive_writer", directory, volume)
        writer = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert writer.stdout is not None
        said = [await writer.stdout.readline() for _ in range(soak.dice.randrange(1, 30))]
        writer.kill()
        said += (await writer.stdout.read()).splitlines(keepends=True)
        await writer.wait()
        counting = {line.decode().split()[1] for line in said if line.startswith(b"counts ") and line.endswith(b"\n")}
        await engine.sweep()
        assert not any(name.endswith(files.PARTIAL) for name in left(directory))
        listed = {one.id for one in await engine.list()}
        assert counting <= listed
        for archive_id in listed:
            assert (await engine.verify(archive_id, quiet)).good
            await engine.forget(archive_id)
        assert left(directory) == []


async def test_of_a_writer_that_is_killed_only_whole_archives_count(soak: Soak, volume: Path, tmp_path: Path) -> None:
    await _killed(soak, volume, tmp_path / "archives", 10)


@pytest.mark.soak
async def test_of_a_writer_that_is_killed_often_only_whole_archives_count(
    soak: Soak, volume: Path, tmp_path: Path
) -> None:
    await _killed(soak, volume, tmp_path / "archives", 60)


async def test_several_that_write_one_set_at_once_do_not_meet(volume: Path, tmp_path: Path) -> None:
    (volume / "file").write_bytes(b"content")
    wanted = point(Source("volumes/v", volume))
    is_over = asyncio.Event()

    async def write() -> list[Archive]:
        engine = ArchiveEngine(tmp_path / "archives")
        return [await engine.finish(await engine.copy(wanted, quiet), wanted, quiet) for _ in range(5)]

    async def sweep() -> list[str]:
        swept: list[str] = []
        while not is_over.is_set():
            swept += await ArchiveEngine(tmp_path / "archives").sweep()
        return swept

    # Whose file is swept before it has the lock begins another one: a number is left out then, nothing else.
    sweeping = asyncio.ensure_future(sweep())
    try:
        written = await asyncio.gather(*(write() for _ in range(4)))
    finally:
        is_over.set()
    assert all(name.endswith(files.PARTIAL) for name in await sweeping)
    engine = ArchiveEngine(tmp_path / "archives")
    listed = await engine.list()
    assert {one.id for one in listed} == {one.id for some in written for one in some}
    assert len(listed) == 20
    numbers = [int(one.id.partition("Z")[2] or "-1") for one in listed]
    assert numbers == sorted(numbers, reverse=True)
    assert all([(await engine.verify(one.id, quiet)).good for one in listed])


async def test_a_copy_of_yesterday_that_is_written_today_is_the_older_one(volume: Path, engine: ArchiveEngine) -> None:
    today = point(Source("volumes/v", volume))
    first = await engine.finish(await engine.copy(today, quiet), today, quiet)
    with_clock_back = replace(today, at=first.at - timedelta(days=1))
    second = await engine.finish(await engine.copy(with_clock_back, quiet), with_clock_back, quiet)
    assert [one.id for one in await engine.list("things")] == [second.id, first.id]


# What is stored


async def test_sources_that_are_called_alike_or_lie_in_one_another_keep_apart(
    engine: ArchiveEngine, tmp_path: Path, volume: Path
) -> None:
    (volume / "file").write_text("outer")
    (volume / "in").mkdir()
    (volume / "in" / "file").write_text("inner")
    inner = str(volume / "in").lstrip("/")
    archive = await stored(engine, Source(f"volumes/{inner}", volume), Source("paths/inner", volume / "in"))
    into = tmp_path / "into"
    into.mkdir()
    assert (await engine.restore(archive.id, into, [], quiet)).good
    assert (into / "volumes" / inner / "file").read_text() == "outer"
    assert (into / "paths" / "inner" / "file").read_text() == "inner"
    assert not (into / "volumes" / inner / "in").exists()


async def test_a_name_of_two_lines_leaves_out_no_other_file(
    engine: ArchiveEngine, tmp_path: Path, volume: Path
) -> None:
    for name in ("kept", "kept\n.tmp", "other.tmp"):
        (volume / name).touch()
    archive = await stored(engine, Source("volumes/v", volume, exclude=("*.tmp",)))
    (tmp_path / "into").mkdir()
    await engine.restore(archive.id, tmp_path / "into", [], quiet)
    assert left(tmp_path / "into" / "volumes") == ["kept", "kept\n.tmp"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"[]\n"],
        [b"{}\n"],
        [b"rubbish"],
        [b"{}\n", b"rubbish\n", b"{}\n"],
        [b"{}\n", b"[1]\n", b'{"sha256":1}\n'],
        [b"{}\n", b'["restore.sh","0",1,"00"]\n'],
        [b"x" * 500_000, b"\n"],
    ],
)
async def test_a_manifest_that_makes_no_sense_is_a_fault(
    lines: list[bytes], engine: ArchiveEngine, tmp_path: Path, volume: Path
) -> None:
    archive = await stored(engine, Source("volumes/v", volume))
    file = tmp_path / "archives" / f"{archive.id}{files.ENDING}"
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(b"\x50\x2a\x4d\x18")])
    append_manifest(file, *lines)
    assert not (await engine.verify(archive.id, quiet)).good
    with pytest.raises(Unreadable):
        await engine.contents(archive.id)
    files.short_of(file).unlink()
    assert await engine.list() == []


@dataclass(frozen=True)
class Thing:
    """One entry of a tree; `content` is a file's parts with the holes before them, a link's target, a folder's name."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    parts: list[tuple[int, bytes]]
    attribute: bytes


THINGS = st.builds(
    Thing,
    kind=st.sampled_from(["file", "link", "symlink", "fifo", "device", "folder"]),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(st.integers(0, 70000), st.integers(0, 4_000_000_000)),
    mtime_ns=st.integers(-(10**9) * 10**9, 4 * 10**18),
    parts=st.lists(st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=3000)), max_size=4),
    attribute=st.binary(max_size=200),
)
NAMES = st.binary(min_size=1, max_size=200).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"-"))


def make(things: dict[bytes, Thing], volume: Path) -> None:
    folder = volume
    made: list[Path] = []
    folders: list[tuple[Path, Thing]] = []
    for raw, thing in things.items():
        path = folder / os.fsdecode(b"dots" if raw in {b".", b".."} else raw)
        if os.path.lexists(path):
            continue
        match thing.kind:
            case "link" if made:  # of files and links; of what else has no content tar makes two
                os.link(made[-1], path, follow_symlinks=False)
                continue
            case "symlink":
                path.symlink_to(os.fsdecode(thing.attribute.replace(b"\0", b"0") or b"/"))
                os.lchown(path, *thing.owner)
                os.utime(path, ns=(0, thing.mtime_ns), follow_symlinks=False)
                made.append(path)
                continue
            case "fifo":
                os.mkfifo(path)
            case "device":
                os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
            case "folder":
                path.mkdir()
                folder = path
                folders.append((path, thing))
                continue
            case _:
                with path.open("wb") as file:
                    for hole, part in thing.parts:
                        file.seek(hole, os.SEEK_CUR)
                        file.write(part)
                os.setxattr(path, "user.some", thing.attribute)
                made.append(path)
        dress(path, thing)
    for path, thing in reversed(folders):
        dress(path, thing)


def dress(path: Path, thing: Thing) -> None:
    os.chown(path, *thing.owner)
    path.chmod(thing.mode)
    os.utime(path, ns=(0, thing.mtime_ns))


@given(things=st.dictionaries(NAMES, THINGS, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_of_anything_comes_back(things: dict[bytes, Thing], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("tree")
    (place / "volume").mkdir()
    (place / "into").mkdir()
    make(things, place / "volume")

    async def there_and_back() -> None:
        engine = ArchiveEngine(place / "archives")
        archive = await stored(engine, Source("volumes/v", place / "volume"))
        assert (await engine.restore(archive.id, place / "into", [], quiet, devices=True)).good

    asyncio.run(there_and_back())
    assert told(place / "into" / "volumes" / "v") == told(place / "volume")


@contextmanager
def growing_at_most(megabytes: int) -> Iterator[None]:
    """Fail where this process took more memory meanwhile than it had (proc(5), clear_refs)."""
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    yield
    grown = (_memory("VmHWM") - before) / 1024
    assert grown <= megabytes, f"{grown:.0f} MiB"


def _memory(which: str) -> int:
    """Return a figure of our own memory, in KiB."""
    return int(Path("/proc/self/status").read_text().partition(f"{which}:")[2].split()[0])


async def test_a_hundred_thousand_small_files_take_no_more_memory_than_few(
    engine: ArchiveEngine, volume: Path, tmp_path: Path
) -> None:
    for folder in range(100):
        (volume / str(folder)).mkdir()
    for number in range(100_000):
        (volume / f"{number // 1000}" / f"{number}").write_bytes(b"x" * 10)
    (tmp_path / "into").mkdir()
    with growing_at_most(megabytes=30):
        archive = await stored(engine, Source("volumes/v", volume))
        assert (await engine.verify(archive.id, quiet)).good
        assert (await engine.restore(archive.id, tmp_path / "into", ["volumes/v/7"], quiet)).good
    assert archive.files == 100_000 + 101 + 2
    assert len(left(tmp_path / "into")) == 1000
    with growing_at_most(megabytes=60):
        assert len((await engine.contents(archive.id)).files) == 100_000 + 2
