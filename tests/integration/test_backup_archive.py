"""The engine `archive` with the real tar and zstd: what it stores comes back bit for bit, or it says that not."""

from __future__ import annotations

import asyncio
import io
import os
import random
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.backup.archive import engine as engine_module
from homelab_agent.backup.archive import files, manifest
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.archive.errors import Changed, CopyFailed, Hostile, NoRoom, NoSuchArchive, NotAsWritten
from homelab_agent.backup.archive.members import Member
from homelab_agent.backup.point import Archive, Dump, Source
from tests.backed_up import append_manifest, hostile, keep_beside, point, quiet, told
from tests.neighbours.neighbour import need_root, program

pytestmark = pytest.mark.usefixtures("root_with_tar")


@pytest.fixture(scope="module")
def root_with_tar() -> None:
    need_root("restoring owners and devices")
    for name, package in (("tar", "tar"), ("zstd", "zstd"), ("setfacl", "acl"), ("setcap", "libcap2-bin")):
        program(name, f"apt install {package}", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")


@pytest.fixture
def engine(tmp_path: Path) -> ArchiveEngine:
    return ArchiveEngine(tmp_path / "archives")


@dataclass(frozen=True)
class Said:
    """A dump of so many bytes."""

    member: str
    count: int

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            for first in range(0, self.count, 1_000_003):
                yield bytes(min(1_000_003, self.count - first))

        yield pieces()


async def stored(engine: ArchiveEngine, *sources: Source, dumps: tuple[Dump, ...] = ()) -> Archive:
    wanted = point(*sources, dumps=dumps, about={"images": {"db": "sha256:1"}})
    copied = await engine.copy(wanted, quiet)
    return await engine.finish(copied, wanted, quiet)


async def test_a_hostile_volume_comes_back_bit_for_bit(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = hostile(tmp_path / "vol.[ume] & co")
    archive = await stored(engine, Source("volumes/it & more", volume))
    assert (archive.verdict, archive.set_name) == ("crash", "things")
    verified = await engine.verify(archive.id, quiet)
    assert verified.good, verified.faults
    into = tmp_path / "into"
    into.mkdir()
    assert (await engine.restore(archive.id, into, [], quiet, devices=True)).good
    assert told(into / "volumes" / "it & more") == told(volume)


async def test_the_script_in_an_archive_restores_it_without_the_agent(
    engine: ArchiveEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PIECE_BYTES", 1_000_000)
    volume = hostile(tmp_path / "volume")
    archive = await stored(
        engine, Source("volumes/it", volume), dumps=(Said("dumps/db/shop sql", 3_500_000), Said("dumps/db/none", 0))
    )
    file = tmp_path / "archives" / f"{archive.id}.tar.zst"
    bare = {"PATH": "/usr/bin:/bin"}
    script = tmp_path / "restore.sh"
    words = f'zstd -dc "{file}" | tar -xO restore.sh > "{script}"'
    await asyncio.to_thread(subprocess.run, ["sh", "-c", words], env=bare, check=True)

    def script_with(*words: Path | str) -> str:
        argv = ["dash", script, file, *words]
        return subprocess.run(argv, env=bare, check=True, capture_output=True, text=True).stdout

    shown = await asyncio.to_thread(script_with)
    assert shown.splitlines()[1:] == ["dumps/db", "volumes/it"]
    await asyncio.to_thread(script_with, tmp_path / "into")
    assert told(tmp_path / "into" / "volumes" / "it") == told(volume)
    assert {path.name: path.read_bytes() for path in (tmp_path / "into" / "dumps" / "db").iterdir()} == {
        "shop sql": bytes(3_500_000),
        "none": b"",
    }
    await asyncio.to_thread(script_with, tmp_path / "part", "volumes/it")
    assert not (tmp_path / "part" / "dumps").exists()


async def test_several_sources_and_dumps_are_one_archive_and_globs_leave_out(
    engine: ArchiveEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PIECE_BYTES", 1_000_000)
    for name in ("one", "two"):
        (tmp_path / name / "cache").mkdir(parents=True)
        (tmp_path / name / "cache" / "junk").write_text("junk")
        (tmp_path / name / "kept").write_text(name)
    (tmp_path / "file").write_text("a single file")
    sources = (
        Source("volumes/one", tmp_path / "one", exclude=("**/cache/**",)),
        Source("volumes/two", tmp_path / "two"),
        Source("paths/file", tmp_path / "file"),
    )
    archive = await stored(engine, *sources, dumps=(Said("dumps/db.sql", 2_500_000), Said("dumps/empty", 0)))
    async with await engine.dump(archive.id, "dumps/db.sql") as pieces:
        assert b"".join([piece async for piece in pieces]) == bytes(2_500_000)
    into = tmp_path / "into"
    into.mkdir()
    assert (await engine.restore(archive.id, into, [], quiet)).good
    names = sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file())
    assert names == [
        "about.json",
        "dumps/db.sql/0000",
        "dumps/db.sql/0001",
        "dumps/db.sql/0002",
        "dumps/empty/0000",
        "paths/file",
        "restore.sh",
        "volumes/one/kept",
        "volumes/two/cache/junk",
        "volumes/two/kept",
    ]
    part = tmp_path / "part"
    part.mkdir()
    assert (await engine.restore(archive.id, part, ["volumes/two/*"], quiet)).good
    assert sorted(path.name for path in part.rglob("*") if path.is_file()) == ["junk", "kept"]


async def test_what_restores_keep_beside_is_in_no_archive(engine: ArchiveEngine, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "*").write_text("a name that is no glob")
    keep_beside(place)
    keep_beside(place / "deep")
    archive = await stored(engine, Source("paths/place", place, exclude=("x",)))
    files = (await engine.contents(archive.id)).files
    assert [name for name in files if name.startswith("paths")] == ["paths/place/deep/*"]


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(tree=st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=2000), max_size=8))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_comes_back(tree: dict[tuple[str, ...], bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("tree")
    volume = place / "volume"
    volume.mkdir()
    for parts, content in tree.items():
        path = volume.joinpath(*(part if part not in {".", ".."} else "dots" for part in parts))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue  # a file stands where a folder should be, or the name is too long

    async def there_and_back() -> None:
        engine = ArchiveEngine(place / "archives")
        archive = await stored(engine, Source("volumes/v", volume))
        (place / "into").mkdir()
        assert (await engine.restore(archive.id, place / "into", [], quiet)).good

    asyncio.run(there_and_back())
    assert told(place / "into" / "volumes" / "v") == told(volume)


async def test_a_file_that_changes_while_it_is_read_fails_the_copy(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    log = volume / "log"
    log.write_bytes(os.urandom(300_000_000))
    writing = await asyncio.create_subprocess_exec("sh", "-c", f'while :; do echo x >> "{log}"; done')
    try:
        with pytest.raises(Changed, match="changed while it was read"):
            await engine.copy(point(Source("volumes/v", volume)), quiet)
    finally:
        writing.kill()
        await writing.wait()
    assert list((tmp_path / "archives").rglob("*.partial")) == []
    assert await engine.list() == []


async def test_every_flipped_byte_and_every_truncation_is_found(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "noise").write_bytes(os.urandom(60_000))
    (volume / "text").write_text("again and again\n" * 5000)
    archive = await stored(engine, Source("volumes/v", volume))
    file = tmp_path / "archives" / f"{archive.id}.tar.zst"
    beside = files.short_of(file)
    for path in (file, beside):
        whole = path.read_bytes()
        step = 1000 if path == file else 40
        places = [*range(0, len(whole), step), len(whole) - 1, len(whole) - 9, len(whole) - 20]
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            assert not (await engine.verify(archive.id, quiet)).good, (path, place)
        for length in sorted(random.Random(7).sample(range(len(whole)), 15)):
            path.write_bytes(whole[:length])
            assert not (await engine.verify(archive.id, quiet)).good, (path, length)
        path.write_bytes(whole)
    assert (await engine.verify(archive.id, quiet)).good
    beside.unlink()
    assert [one.sha256 for one in await engine.list()] == [archive.sha256]


async def test_what_was_not_written_as_read_does_not_count(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "noise").write_bytes(os.urandom(60_000))
    wanted = point(Source("volumes/v", volume))
    copied = await engine.copy(wanted, quiet)
    [partial] = (tmp_path / "archives").rglob("*.partial")
    with partial.open("r+b") as file:
        file.seek(30_000)
        file.write(b"\0\0\0\0")
    with pytest.raises(NotAsWritten):
        await engine.finish(copied, wanted, quiet)
    assert list((tmp_path / "archives").rglob("*.*")) == []


async def test_no_partial_file_counts_and_only_a_dead_writers_is_swept(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    wanted = point(Source("volumes/v", volume))
    copied = await engine.copy(wanted, quiet)
    dead = tmp_path / "archives" / "things" / "things-20200101T000000Z.tar.zst.partial"
    dead.write_bytes(b"half")
    alone = dead.with_name("things-20200101T000000Z.json")
    alone.write_bytes(b"{}")
    assert await engine.list() == []
    assert sorted(await engine.sweep()) == [str(alone), str(dead)]
    archive = await engine.finish(copied, wanted, quiet)
    assert [one.id for one in await engine.list("things")] == [archive.id]
    assert await engine.sweep() == []


async def test_two_of_one_second_have_names_of_their_own(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    wanted = point(Source("volumes/v", volume))
    copies = [await engine.copy(wanted, quiet) for _ in range(2)]
    archives = [await engine.finish(one, wanted, quiet) for one in copies]
    assert len({one.id for one in archives}) == len(await engine.list()) == 2
    await engine.forget(archives[0].id)
    assert [one.id for one in await engine.list()] == [archives[1].id]
    with pytest.raises(NoSuchArchive):
        await engine.verify(archives[0].id, quiet)


async def test_a_place_that_cannot_be_written_to_is_told(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "archives").write_text("a file")
    with pytest.raises(CopyFailed):
        await engine.copy(point(Source("volumes/v", volume)), quiet)
    with pytest.raises(NoRoom):
        await ArchiveEngine(tmp_path).room("things", 1 << 60)
    with pytest.raises(CopyFailed, match="could not be copied"):
        await ArchiveEngine(tmp_path / "else").copy(point(Source("volumes/v", tmp_path / "gone")), quiet)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def file(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = 4
    return entry


HOSTILE: dict[str, list[tarfile.TarInfo]] = {
    "absolute": [file("/volumes/v/file")],
    "dots": [file("volumes/../../escaped")],
    "other top": [file("etc/cron.d/escaped")],
    "through a link": [link("volumes/v", "/OUTSIDE"), file("volumes/v/escaped")],
    "through a link of the agent's own names": [link("volumes/v/l", "../../.."), file("volumes/v/l/escaped")],
    "over a link": [link("volumes/v", "/OUTSIDE/escaped"), file("volumes/v")],
    "hard link out": [link("volumes/v", "../../OUTSIDE/secret", tarfile.LNKTYPE)],
    "hard link through a link": [link("volumes/a", "/OUTSIDE"), link("volumes/b", "volumes/a/secret", tarfile.LNKTYPE)],
    "device": [link("volumes/v", "", tarfile.CHRTYPE)],
}


@pytest.mark.parametrize("which", HOSTILE)
async def test_a_foreign_archive_never_leaves_its_place(which: str, engine: ArchiveEngine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in HOSTILE[which]:
            entry.linkname = entry.linkname.replace("/OUTSIDE", str(outside))
            tar.addfile(entry, io.BytesIO(b"evil") if entry.size else None)
    packed = zstandard.ZstdCompressor().compress(raw.getvalue())
    foreign = tmp_path / "archives" / "things" / "foreign.tar.zst"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(packed)
    lines = manifest.line(Member("volumes/v", "0", 4, "")), manifest.total(sha256="", tar_bytes=0, count=1)
    append_manifest(foreign, manifest.about(point()), *lines)
    into = tmp_path / "into" / "deep" / "deeper"
    into.mkdir(parents=True)
    with pytest.raises(Hostile):
        await engine.restore("things/foreign", into, [], quiet)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert await asyncio.to_thread(lambda: list(tmp_path.rglob("escaped"))) == []


async def test_who_waits_is_told_how_much_there_is(engine: ArchiveEngine, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "noise").write_bytes(os.urandom(40_000_000))
    heard: dict[str, set[tuple[bool, int | None]]] = {}

    def say(done: int, total: int | None, what: str) -> None:
        heard.setdefault(what, set()).add((0 < done <= (total or done), total))

    wanted = point(Source("volumes/v", volume))
    archive = await engine.finish(await engine.copy(wanted, say), wanted, say)
    await engine.verify(archive.id, say)
    (tmp_path / "into").mkdir()
    await engine.restore(archive.id, tmp_path / "into", [], say)
    await asyncio.sleep(0)  # the last of it is told by the loop
    known = {(True, archive.bytes)}
    assert heard == {"copied": {(True, None)}, "read back": known, "read": known, "restored": known}
    files.short_of(tmp_path / "archives" / f"{archive.id}.tar.zst").unlink()
    heard.clear()
    await engine.verify(archive.id, say)
    await asyncio.sleep(0)
    assert heard == {"read": {(True, None)}}
