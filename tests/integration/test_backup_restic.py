"""The engine `restic` with the real restic: what is stored comes back, what is damaged is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.backup.point import Archive, Content, Point, Source
from homelab_agent.backup.restic import errors
from homelab_agent.backup.restic.engine import KitNotKept, ResticEngine
from homelab_agent.backup.restic.program import Access
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from tests import clock
from tests.backed_up import keep_beside
from tests.neighbours import restic, restic_key
from tests.neighbours.disk import Disks
from tests.neighbours.neighbour import need_root, program
from tests.waiting import until

AT = datetime(2026, 11, 28, 1, 0, 0, 123456, tzinfo=UTC)
PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True)
class Said:
    member: str
    pieces: tuple[bytes, ...]
    fails: bool = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async def given() -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece
            if self.fails:
                raise DumpFailed

        yield given()


class DumpFailed(AgentError):
    """pg_dump ended with 1."""


@dataclass(slots=True)
class House:
    """A directory to back up, a repository, and what is told."""

    top: Path
    engine: ResticEngine
    told: list[str] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.top / "volumes" / "app" / "_data"

    @property
    def repository(self) -> Path:
        return self.top / "repository"

    def point(self, hours: int = 0, **changed: Any) -> Point:
        point = Point("paperless", AT + timedelta(hours=hours), "crash", [Source("volumes/app", self.source)])
        return replace(point, **changed)

    async def store(self, point: Point | None = None) -> Archive:
        point = point or self.point()
        copied = await self.engine.copy(point, quiet)
        return await self.engine.finish(copied, point, quiet)

    async def files(self, archive: Archive) -> Mapping[str, Content]:
        return (await self.engine.contents(archive.id)).files

    def life(self, name: str = "offsite", password: str = PASSWORD) -> ResticEngine:
        """Another start of the agent, or one with another password."""
        return ResticEngine(
            Access(name, str(self.repository), password),
            self.top / "records",
            host="attic",
            clock=SystemClock(),
            tell=self.told.append,
        )

    def restic(self, *words: str) -> str:
        return restic.run(self.repository, PASSWORD, *words)

    def snapshots(self) -> int:
        return self.restic("snapshots", "--no-lock", "--compact").count("homelab-agent")


def quiet(done: int, total: int | None, what: str) -> None:
    """Nobody is told."""


BOTH = pytest.mark.parametrize("which", ["Debian's", "newer"], indirect=True)


@pytest.fixture
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which restic the agent finds: Debian's where a test does not ask for both."""
    asked = str(getattr(request, "param", "Debian's"))
    if asked == "newer":
        monkeypatch.setenv("PATH", f"{restic.newer().parent}:{os.environ['PATH']}")
    return asked


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with nothing in it."""
    made = tmp_path_factory.mktemp("empty") / "repository"
    restic.run(made, PASSWORD, "init")
    restic_key.weaken(made, PASSWORD)
    return made


@pytest.fixture
def house(tmp_path: Path, empty: Path, which: str) -> House:
    made = House(tmp_path, None)  # type: ignore[arg-type]
    made.engine = made.life()
    (made.source / "deep" / "er").mkdir(parents=True)
    (made.source / "a").write_bytes(b"first")
    (made.source / "deep" / "er" / "b").write_bytes(os.urandom(3_000_000))
    (made.source / os.fsdecode(b"caf\xe9\nnew")).write_bytes(b"a name that is no UTF-8")
    made.source.chmod(0o710)
    shutil.copytree(empty, made.repository)
    return made


async def test_a_repository_is_made_once_it_is_said_that_the_kit_is_kept(house: House) -> None:
    shutil.rmtree(house.repository)
    with pytest.raises(KitNotKept):
        await house.engine.init(kit_is_kept=False)
    assert not house.repository.exists()
    await house.engine.init(kit_is_kept=True)
    assert await house.engine.list() == []


@BOTH
async def test_what_is_stored_comes_back_by_member(house: House, tmp_path: Path) -> None:
    dump = Said("dumps/db.sql", (b"CREATE ", b"TABLE x;"))
    archive = await house.store(house.point(dumps=[dump], about={"host": "attic"}))
    assert (archive.files, archive.bytes) == (4, 3_000_000 + 5 + 23 + 15)
    assert [one.id for one in await house.life().list("paperless")] == [archive.id]
    assert await house.life().list("other") == []
    (listed,) = await house.life().list()
    assert listed == replace(archive, manifest=listed.manifest)
    into = tmp_path / "into"
    into.mkdir()
    verified = await house.life().restore(archive.id, into, [], quiet)
    assert verified.good, verified.faults
    assert same(into / "volumes" / "app", house.source)
    assert (into / "dumps" / "db.sql").read_bytes() == b"CREATE TABLE x;"
    assert sorted(path.name for path in into.iterdir()) == ["dumps", "volumes"]
    async with await house.life().dump(archive.id, "dumps/db.sql") as pieces:
        assert b"".join([piece async for piece in pieces]) == b"CREATE TABLE x;"


@BOTH
async def test_only_what_globs_stand_for_is_restored(house: House, tmp_path: Path) -> None:
    archive = await house.store(house.point(dumps=[Said("dumps/db.sql", (b"x",))]))
    into = tmp_path / "into"
    into.mkdir()
    verified = await house.engine.restore(archive.id, into, ["volumes/*/deep/**"], quiet)
    assert verified.good
    assert verified.files == 1
    assert [str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()] == ["volumes/app/deep/er/b"]
    assert (into / "volumes" / "app").stat().st_mode & 0o777 == 0o710


@BOTH
async def test_who_waits_is_told_how_much_there_is(house: House, tmp_path: Path, which: str) -> None:
    (house.source / "large").write_bytes(os.urandom(40_000_000))
    told: dict[str, list[tuple[int, int | None]]] = {}

    def say(done: int, total: int | None, what: str) -> None:
        told.setdefault(what, []).append((done, total))

    point = house.point()
    archive = await house.engine.finish(await house.engine.copy(point, say), point, say)
    await house.engine.verify(archive.id, say)
    (tmp_path / "into").mkdir()
    await house.engine.restore(archive.id, tmp_path / "into", [], say)
    for what in ("reading back", "hashing", "restoring"):
        assert {total for _, total in told[what]} == {archive.bytes}, what
    assert told["restoring"][-1][0] == (archive.bytes if which == "newer" else 0)


async def test_a_copy_without_its_manifest_does_not_count_and_is_swept(house: House) -> None:
    archive = await house.store()
    await house.engine.copy(house.point(1), quiet)  # and the agent was killed
    assert [one.id for one in await house.engine.list()] == [archive.id]
    assert await house.engine.sweep() == [], "the run is still under way here"
    house.engine = house.life()  # whose process is this one: the lock is still held
    assert await house.engine.sweep() == []


async def test_what_a_killed_run_left_is_swept(house: House) -> None:
    copied = await house.engine.copy(house.point(), quiet)
    house.engine._runs.pop(copied.partial)[1].close()  # what the kernel does when a process is killed
    assert house.snapshots() == 1
    (left,) = await house.life().sweep()
    assert copied.partial in left
    assert house.snapshots() == 0
    assert house.restic("stats", "--mode", "raw-data", "--no-lock", "--json").count('"total_size":0') == 1


@BOTH
async def test_an_unchanged_source_is_not_read_again_and_a_changed_one_is(house: House) -> None:
    first = await house.store()
    second = await house.store(house.point(1))
    assert await house.files(second) == await house.files(first)
    assert second.stored_bytes < 10_000
    (house.source / "a").write_bytes(b"second")
    (house.source / "deep" / "new").write_bytes(b"new")
    (house.source / os.fsdecode(b"caf\xe9\nnew")).unlink()
    (house.source / os.fsdecode(b"\xff")).write_bytes(b"other")
    third = await house.store(house.point(2))
    assert (await house.engine.verify(third.id, quiet)).good
    assert third.files == 4
    assert [one.id for one in await house.engine.list()] == [first.id, second.id, third.id]


@BOTH
async def test_when_the_one_before_is_gone_all_is_read_back(house: House) -> None:
    first = await house.store()
    files = await house.files(first)
    await house.engine.forget(first.id)
    heard: list[tuple[int | None, str]] = []

    def say(done: int, total: int | None, what: str) -> None:
        heard.append((total, what))

    point = house.point(1)
    second = await house.engine.finish(await house.engine.copy(point, quiet), point, say)
    assert heard == [(first.bytes, "reading back")]
    assert await house.files(second) == files
    assert (await house.engine.verify(second.id, quiet)).good


@pytest.mark.parametrize(
    ("which", "damage"),
    [("Debian's", "flipped"), ("newer", "flipped"), ("newer", "cut"), ("newer", "gone")],
    indirect=["which"],
)
async def test_damage_of_what_is_stored_is_told(house: House, damage: str) -> None:
    await _damage_is_told(house, damage)


@pytest.mark.soak
@pytest.mark.parametrize("damage", ["cut", "gone"])
async def test_damage_that_debians_restic_does_not_believe_at_first_is_told(house: House, damage: str) -> None:
    """It tries ten times, which takes most of a minute; what it says then is in the unit tests, too."""
    await _damage_is_told(house, damage)


async def _damage_is_told(house: House, damage: str) -> None:
    archive = await house.store()
    pack = max((house.repository / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    match damage:
        case "flipped":
            data[len(data) // 3] ^= 1
            pack.write_bytes(data)
        case "cut":
            pack.write_bytes(data[: len(data) // 3])
        case "gone":
            pack.unlink()
    verified = await house.engine.verify(archive.id, quiet)
    assert not verified.good
    assert "does not give back what was stored" in verified.faults[0]
    assert "offsite" in verified.faults[0]


async def test_a_file_that_changes_while_it_is_read_fails_the_copy(house: House) -> None:
    log = house.source / "log"
    with writing(log), pytest.raises(errors.Changed) as raised:
        await house.engine.copy(house.point(), quiet)
    assert "log" in str(raised.value)
    assert await house.engine.list() == []


async def test_what_is_left_out_may_change_and_is_not_stored(house: House) -> None:
    cache = house.source / "deep" / "cache"
    cache.mkdir()
    (cache / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    (cache / "big").write_bytes(b"not needed")
    (house.source / "a[1]*.tmp").write_bytes(b"kept: the glob does not stand for it")
    (house.source / "log").mkdir()
    source = Source("volumes/app", house.source, exclude=["log", "**/er"], exclude_caches=True)
    with writing(house.source / "log" / "x"):
        archive = await house.store(house.point(sources=[source]))
    names = {name.removeprefix("volumes/app/") for name in await house.files(archive)}
    assert names == {"a", "a[1]*.tmp", os.fsdecode(b"caf\xe9\nnew"), "deep/cache/CACHEDIR.TAG"}


async def test_what_restores_keep_beside_is_not_stored_and_may_change(house: House) -> None:
    before = await house.files(await house.store(house.point()))
    kept = [keep_beside(house.source), keep_beside(house.source / "deep")]
    with writing(kept[0] / "file"):
        archive = await house.store(house.point())
    assert await house.files(archive) == before


@pytest.mark.parametrize(
    ("dump", "error"),
    [
        (Said("dumps/db.sql", (b"half of it",), fails=True), DumpFailed),
        (Said("dumps/db.sql", ()), errors.NothingDumped),
    ],
)
async def test_a_dump_that_fails_fails_the_copy(house: House, dump: Said, error: type[AgentError]) -> None:
    with pytest.raises(error):
        await house.engine.copy(house.point(dumps=[dump]), quiet)
    assert await house.engine.list() == []


async def test_a_source_that_is_gone_is_not_passed_over(house: House) -> None:
    missing = Source("paths/srv", house.top / "srv")
    with pytest.raises(errors.SourceMissing):
        await house.engine.copy(house.point(sources=[missing]), quiet)


@BOTH
async def test_a_refusal_is_told_by_its_meaning(house: House, tmp_path: Path) -> None:
    with pytest.raises(errors.WrongPassword):
        await house.life(password="wrong").list()
    elsewhere = replace(house.engine._access, url=str(tmp_path / "nowhere"))
    engine = ResticEngine(elsewhere, tmp_path / "records", host="attic", clock=SystemClock())
    with pytest.raises(errors.NoRepository) as raised:
        await engine.list()
    assert "nowhere" not in str(raised.value), "a URL may hold a password"
    with pytest.raises(errors.NoSuchArchive):
        await house.engine.verify("0" * 64, quiet)


@BOTH
async def test_forgetting_one_gives_its_room_back_with_the_next_sweep(house: House) -> None:
    first = await house.store()
    (house.source / "deep" / "er" / "b").unlink()
    second = await house.store(house.point(1))
    await house.engine.forget(first.id)
    assert [one.id for one in await house.engine.list()] == [second.id]
    await house.life().sweep()
    assert sum(path.stat().st_size for path in house.repository.rglob("*") if path.is_file()) < 1_000_000
    assert (await house.engine.verify(second.id, quiet)).good


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Something that does not stop writing to a file."""
    with subprocess.Popen(["sh", "-c", 'while echo x >>"$0"; do :; done', path]) as writer:
        try:
            until(path.exists, "the writer writes")
            yield
        finally:
            writer.kill()


@contextmanager
def holding(house: House, *wrapped: str) -> Iterator[subprocess.Popen[bytes]]:
    """A restic that holds a lock while it waits for what it is to store; `wrapped` says where it runs."""
    source, sink = os.pipe()
    environment = restic.environment(house.repository, PASSWORD)
    words = [*wrapped, str(restic.program()), "backup", "--stdin"]
    with subprocess.Popen(words, stdin=source, env=environment) as holder:
        os.close(source)
        try:
            until(lambda: locked(house), "restic has locked the repository")
            yield holder
        finally:
            os.close(sink)
            holder.kill()


def locked(house: House) -> bool:
    """Whether a lock is there that was written whole: until then it has a longer name."""
    return any(len(path.name) == 64 for path in (house.repository / "locks").iterdir())


async def test_the_lock_of_a_dead_process_is_taken_away(house: House) -> None:
    archive = await house.store()
    with holding(house) as holder:
        holder.send_signal(signal.SIGKILL)
    assert list((house.repository / "locks").iterdir())
    await house.engine.forget(archive.id)  # which wants to be alone
    assert not list((house.repository / "locks").iterdir())
    assert house.told == []


async def test_a_lock_is_of_who_holds_it_whatever_its_number_is_elsewhere(house: House) -> None:
    """In a namespace of its own it is process 1, which on this host is no restic, and never ends."""
    need_root("making a namespace")
    archive = await house.store()
    with holding(house, "unshare", "--pid", "--fork", "--kill-child") as holder:
        forgetting = asyncio.create_task(house.engine.forget(archive.id))
        await clock.until(lambda: house.told, "it is told for whom is waited")
        assert f"process 1 on {socket.gethostname()}" in house.told[0]
        holder.kill()
        holder.wait()
        assert list((house.repository / "locks").iterdir()), "nobody has taken it away"
        await forgetting
    assert not list((house.repository / "locks").iterdir())


async def test_the_lock_of_another_host_is_never_taken_away(house: House) -> None:
    need_root("having another name")
    archive = await house.store()
    with holding(house, "unshare", "--uts", "sh", "-c", 'hostname nas && exec "$@"', "sh") as holder:
        holder.kill()
    forgetting = asyncio.create_task(house.engine.forget(archive.id))
    await clock.until(lambda: house.told, "it is told for whom is waited")
    assert "on nas" in house.told[0]
    with pytest.raises(errors.RepositoryLocked, match="on nas"):
        await house.engine._locks.clear(house.told.append, seconds=0, alone=True)
    assert list((house.repository / "locks").iterdir())
    await house.engine.room("paperless", 1)  # who need not be alone goes on
    house.restic("unlock", "--remove-all")
    await forgetting
    assert await house.engine.list() == []


async def test_a_disk_without_room_is_told_before_anything_is_frozen(disk: Disks, house: House) -> None:
    house.top = disk(megabytes=32).point
    shutil.copytree(house.engine._access.url, house.repository)
    for url in (str(house.repository), f"local:{house.repository}"):
        engine = ResticEngine(replace(house.engine._access, url=url), house.top, host="attic", clock=SystemClock())
        await engine.room("paperless", 8 << 20)
        with pytest.raises(errors.NoRoom, match="has room for"):
            await engine.room("paperless", 64 << 20)


@BOTH
async def test_what_is_reached_by_sftp_is_a_repository_the_room_of_which_is_not_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real server of OpenSSH; that it is on this host is what restic is not told."""
    server = program("sftp-server", "apt install openssh-sftp-server", path="/usr/lib/openssh")
    ssh = house.top / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\nexec {server}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    access = replace(house.engine._access, url=f"sftp:backup@nas:{house.repository}")
    house.engine = ResticEngine(
        access, house.top / "records", host="attic", clock=SystemClock(), tell=house.told.append
    )
    await house.engine.room("paperless", 1 << 60)
    assert house.told == [f"whether offsite has room for {1 << 60} bytes cannot be known from here"]
    archive = await house.store()
    assert [one.id for one in await house.life().list()] == [archive.id]
    assert (await house.engine.verify(archive.id, quiet)).good


@BOTH
async def test_the_lock_of_the_living_is_waited_for_and_told(house: House) -> None:
    archive = await house.store()
    with holding(house) as holder:
        forgetting = asyncio.create_task(house.engine.forget(archive.id))
        await clock.until(lambda: house.told, "it is told for whom is waited")
        assert f"process {holder.pid} on" in house.told[0]
    await forgetting
    assert await house.engine.list() == []


async def test_nothing_secret_is_among_the_arguments(house: House) -> None:
    dump = Stuck("dumps/db.sql")
    copying = asyncio.create_task(house.engine.copy(house.point(dumps=[dump]), quiet))
    await clock.until(lambda: running(b"--stdin-filename=dumps/db.sql"), "restic runs")
    (command, variables) = running(b"--stdin-filename=dumps/db.sql")[-1]
    assert PASSWORD.encode() not in command + variables
    assert str(house.repository).encode() not in command + variables
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert not running(b"--stdin-filename=dumps/db.sql")
    assert house.snapshots() == 0


@dataclass(frozen=True, slots=True)
class Stuck:
    """A dump that begins and does not go on."""

    member: str

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async def given() -> AsyncIterator[bytes]:
            yield b"it begins"
            await asyncio.Event().wait()

        yield given()


def running(word: bytes) -> list[tuple[bytes, bytes]]:
    """The arguments and variables of each process that has this among its arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and word in (command := (entry / "cmdline").read_bytes()):
                found.append((command, (entry / "environ").read_bytes()))
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two directories are the same: names, content, modes, owners, times."""
    done = subprocess.run(["diff", "-r", "--no-dereference", one, other], capture_output=True, check=False)
    return done.returncode == 0 and shown(one) == shown(other)


def shown(top: Path) -> list[tuple[str, int, int, int, int]]:
    paths = [top, *top.rglob("*")]
    stats = [(str(path.relative_to(top)), path.lstat()) for path in paths]
    return sorted((name, one.st_mode, one.st_uid, one.st_gid, one.st_mtime_ns) for name, one in stats)
