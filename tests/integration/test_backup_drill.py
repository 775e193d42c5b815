"""A copy is restored beside what lives, and started there: what comes to life is told, and what does not, in words."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from homelab_agent.backup import alone, engines
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.drill_errors import CopyGone, DrillUnderWay, NotOursToStart
from homelab_agent.backup.drill_kinds import Patience
from homelab_agent.backup.dumps import Dumped
from homelab_agent.backup.point import Source
from homelab_agent.backup.settings import ARCHIVE
from homelab_agent.backup.trust import Trust
from tests import drilling
from tests.agent import Agent
from tests.backed_up import point, quiet
from tests.drilling import House, of
from tests.dumped import each
from tests.neighbours import images
from tests.neighbours.docker import Docker as Neighbour
from tests.waiting import until

PATIENCE = Patience(health=20, answer=10, stays=0.5)
NETWORK = 'ip -o link | sed "s/^.*: \\([a-z0-9]*\\):.*/\\1/" >/data/seen; echo "$SECRET" >>/data/seen'


@pytest.fixture
async def house(docker: Neighbour, control: Docker, open_directory: Path) -> House:
    return drilling.made(docker, control, open_directory)


def volume(house: House, name: str) -> Path:
    house.neighbour("volume", "create", name)
    return Path(house.neighbour("volume", "inspect", "--format", "{{.Mountpoint}}", name))


def run(house: House, name: str, *words: str, image: str = images.BUSYBOX, volume: str = "data") -> None:
    options = [word for word in words if word.startswith("--")]
    command = [word for word in words if not word.startswith("--")]
    house.neighbour("run", "-d", "--stop-timeout=0", f"--name={name}", f"-v={volume}:/data", *options, image, *command)


async def test_what_answers_lives_and_has_neither_a_network_nor_a_word_to_the_living(house: House) -> None:
    data = volume(house, "data")
    (data / "index.html").write_text("hello\n")
    script = f"{NETWORK}; exec httpd -f -h /data -p 8080"
    run(house, "web", "--env=SECRET=very-secret", "--expose=8080", "sh", "-c", script)
    until((data / "seen").exists, "it has begun")
    seen = (data / "seen").read_text()
    archive = await house.back_up(volumes=["data"])
    events = house.neighbour.api("GET", "/containers/web/json")["State"]
    (data / "seen").write_text("as it was\n")
    drilled = await house.drill(archive, PATIENCE)
    assert drilled.proven
    assert of(drilled, "web").said == "started, and answers HTTP/1.1 200 on 8080"
    assert of(drilled, "copy").said.startswith("2 files, as they were written")
    assert (data / "seen").read_text() == "as it was\n"
    assert house.neighbour.api("GET", "/containers/web/json")["State"] == events
    assert "eth0" in seen


async def test_a_trial_has_the_variables_of_the_living_and_no_interface_but_its_own(house: House) -> None:
    data = volume(house, "data")
    script = f"if [ -e /data/first ]; then {NETWORK}; cat /data/seen; exit 3; fi; touch /data/first; exec sleep 1000"
    run(house, "app", "--env=SECRET=very-secret", "sh", "-c", script)
    until((data / "first").exists, "it has begun")
    archive = await house.back_up(volumes=["data"])
    drilled = await house.drill(archive, PATIENCE)
    assert not drilled.proven
    assert of(drilled, "app").state == "bad"
    assert of(drilled, "app").said == "started, and ended with 3: lo; ***"


async def test_sqlite_is_asked_whether_it_is_whole(house: House) -> None:
    data = volume(house, "data")
    for name in ("good.db", "bad.db"):
        with closing(sqlite3.connect(data / name)) as base:
            base.execute("PRAGMA journal_mode = wal")
            base.executescript("CREATE TABLE things (name TEXT); CREATE INDEX names ON things (name);")
            base.executemany("INSERT INTO things VALUES (?)", [(f"thing {number}",) for number in range(1000)])
            base.commit()
            if name == "good.db":
                for file in (data / name, data / f"{name}-wal"):
                    shutil.copy(file, file.with_name(file.name.replace("good", "open")))
    run(house, "app", "sleep", "1000")
    (data / "bad.db").rename(bad := house.settings.directory.parent / "bad.db")
    drilled = await house.drill(await house.back_up(volumes=["data"]), PATIENCE)
    assert drilled.proven
    assert of(drilled, "SQLite files").said == "2, all whole"
    dump = {"container": "app", "kind": "sqlite", "path": "/data/good.db"}
    archive = await house.back_up(volumes=["data"], dump=[dump])
    drilled = await house.drill(archive, PATIENCE)
    assert (drilled.proven, of(drilled, "SQLite files").said) == (True, "2, all whole")
    assert of(drilled, "copy").said.startswith("2 files and 1 dump, as")
    content = bytearray(bad.read_bytes())
    content[8192:12288] = bytes(4096)
    (data / "bad.db").write_bytes(content)
    drilled = await house.drill(await house.back_up(volumes=["data"]), PATIENCE)
    assert not drilled.proven
    assert of(drilled, "SQLite files").said.startswith("1 of 3 are not whole: volumes/data/bad.db: ")


async def test_paths_without_a_container_are_proven_by_their_hashes(house: House, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("text")
    drilled = await house.drill(await house.back_up(paths=[tmp_path]), PATIENCE)
    assert (drilled.proven, drilled.detail) == (True, "copy: 1 file, as they were written")


async def test_an_image_that_is_gone_or_another_by_now_is_said_and_not_pulled(house: House) -> None:
    volume(house, "data")
    images.busybox(house.neighbour, "house/app:1", changes=("CMD sleep 1000",))
    run(house, "app", image="house/app:1")
    archive = await house.back_up(volumes=["data"])
    house.neighbour("rm", "--force", "app")
    house.neighbour("rmi", "house/app:1")
    drilled = await house.drill(archive, PATIENCE)
    assert (drilled.proven, drilled.repair) == (False, "docker pull house/app:1")
    assert of(drilled, "app").said == "There is no image house/app:1 here, and nothing is pulled."
    images.busybox(house.neighbour, "house/app:1", changes=("CMD sleep 1001",))
    drilled = await house.drill(archive, PATIENCE)
    assert "another by now" in of(drilled, "app").said
    assert drilled.repair.startswith("homelab-agent backup run things")


async def test_what_needs_others_or_a_place_that_is_not_in_the_copy_is_left_open(
    house: House, open_directory: Path
) -> None:
    volume(house, "data")
    (open_directory / "secret").write_text("in no copy\n")
    run(
        house,
        "app",
        f"--volume={open_directory}/secret:/etc/secret:ro",
        "sh",
        "-c",
        "cat /etc/secret && exec sleep 1000",
    )
    run(house, "other", "sleep", "1000")
    drilled = await house.drill(await house.back_up(volumes=["data"]), PATIENCE)
    assert drilled.proven
    said = of(drilled, "app").said
    assert said.startswith("started, and ended with 1: cat: can't open '/etc/secret'")
    assert said.endswith("; it has no network here, and so not other; without /etc/secret, not in the copy")
    assert of(drilled, "other").said == "started, and runs on after 0.5 s"


async def test_a_check_of_its_own_says_whether_it_is_well(house: House) -> None:
    (volume(house, "data") / "well").touch()
    check = ("--health-cmd=test -e /data/well", "--health-interval=1h")
    run(house, "well", *check, "sleep", "1000")
    run(house, "ill", *check, "sleep", "1000", volume="empty")
    drilled = await house.drill(await house.back_up(volumes=["data"], mode="live"), Patience(health=60))
    assert of(drilled, "well").said == "started, and its own check says that it is well"
    drilled = await house.drill(await house.back_up(volumes=["empty"], mode="live"), Patience(health=1))
    assert of(drilled, "ill").said == "runs, but its own check does not say within 1 s that it is well"
    assert not drilled.proven


async def test_a_link_in_a_copy_leads_a_trial_to_nothing_that_lives(house: House, open_directory: Path) -> None:
    inner = open_directory / "app"
    (inner / "real").mkdir(parents=True)
    house.neighbour(
        "run", "-d", "--stop-timeout=0", "--name=app", f"-v={inner}/real:/data", images.BUSYBOX, "sleep", "9"
    )
    (inner / "real").rename(inner / "moved")
    (inner / "real").symlink_to(inner / "moved")
    archive = await house.back_up(paths=[inner / "real"])
    assert "without /data" in of(await house.drill(archive, PATIENCE), "app").said


async def test_a_copy_of_somebody_else_starts_nothing(house: House, tmp_path: Path) -> None:
    archive = await house.back_up(paths=[tmp_path])
    (house.settings.records / "trust").unlink()
    with pytest.raises(NotOursToStart):
        await house.drill(archive, PATIENCE)
    shutil.rmtree(house.settings.directory)
    with pytest.raises(CopyGone):
        await house.drill(archive, PATIENCE)


async def test_a_drill_that_is_cut_short_leaves_nothing_nor_a_killed_one_after_the_next_start(house: House) -> None:
    volume(house, "data")
    # Its health is never said, so that a drill waits for it.
    run(house, "app", "--health-cmd=false", "--health-retries=1000", "sleep", "1000")
    archive = await house.back_up(volumes=["data"], mode="live")
    before = house.neighbour.state("app")
    trials = ("ps", "--quiet", "--filter", "label=homelab-agent.scratch")
    drill = asyncio.create_task(house.drill(archive))  # which sees that nothing is left
    await asyncio.to_thread(until, lambda: house.neighbour(*trials), "it has started a container", seconds=30)
    drill.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drill
    with drilling.running(house, archive) as child:
        await asyncio.to_thread(until, lambda: house.neighbour(*trials), "it has started a container", seconds=30)
        with pytest.raises(DrillUnderWay):
            await house.drilling().drill(archive.id)
        child.kill()
        await asyncio.to_thread(child.wait)
    assert len(await house.docker.scratches()) == 1
    assert [one.name for one in (await house.docker.inventory()).containers] == ["app"], "nobody backs it up"
    assert await alone.resume(house.settings) == []
    assert await house.docker.scratches() == []
    assert await asyncio.to_thread(lambda: list(house.place.iterdir())) == []
    assert house.neighbour("volume", "ls", "--quiet").split() == ["data"]
    assert house.neighbour.state("app")["StartedAt"] == before["StartedAt"]


@pytest.fixture
def home(agent: Agent, docker: Neighbour, open_directory: Path) -> Agent:
    """An agent with one set, which is backed up when asked, and a container that lives from it."""
    docker("run", "-d", "--stop-timeout=0", "--name=writer", "--volume=shop:/data", images.BUSYBOX, "sleep", "1000")
    agent.write(
        f'[backup]\ndocker = "{docker.socket}"\ndirectory = "{open_directory}/copies"\n'
        f'records = "{open_directory}/records"\nschedule = ""\nverify_schedule = ""\ndrill_schedule = "0 5 1 1 *"\n'
        '[[backup.set]]\nname = "shop"\nvolumes = ["shop"]\n'
    )
    agent.start()
    return agent


def asked(agent: Agent, *words: str, code: int = 0) -> str:
    done = agent.run(*words, seconds=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_person_asks_for_a_drill_and_finds_it_wherever_copies_are_spoken_of(home: Agent, docker: Neighbour) -> None:
    assert "there is no copy yet" in asked(home, "backup", "drill")
    asked(home, "backup", "run")
    said = asked(home, "backup", "drill")
    assert "is proven restorable: copy: 0 files, as they were written; writer: started, and runs on" in said
    [status, _] = json.loads(asked(home, "backup", "status", "--json"))
    assert (status["drill_ok"], status["proven_at"] is not None) == (True, True)
    assert "proven restorable" in home.finding("backup.shop")["detail"]
    assert "last proven restorable (oldest): shop, " in asked(home, "status")
    assert 'homelab_agent_backup_drill_success{engine="archive",set="shop"} 1.0' in home.get("/metrics")[1].decode()
    docker("rm", "--force", "writer")
    docker("rmi", images.BUSYBOX)
    said = asked(home, "backup", "drill", "shop", code=1)
    assert "is not proven restorable: writer: There is no image busybox:latest here" in said
    assert "docker pull busybox:latest" in said
    finding = home.finding("backup.shop")
    assert (finding["state"], finding["repair"]) == ("degraded", "docker pull busybox:latest")
    assert "(the last drill failed)" in asked(home, "backup", "status")
    assert "exclude one another" in asked(home, "backup", "drill", "shop", "--all", code=2)


async def test_what_a_command_wrote_is_given_to_the_one_that_reads_it(house: House) -> None:
    (volume(house, "data") / "things").write_text("of value\n")
    run(house, "app", "sleep", "1000")
    read = 'read said; [ "$said" = "of value" ] && [ ! -e /data/things ]'
    dump = {"container": "app", "kind": "command", "command": ["cat", "/data/things"], "load": ["sh", "-c", read]}
    drilled = await house.drill(await house.back_up(volumes=["data"], dump=[dump]), PATIENCE)
    assert of(drilled, "app").said == "started, and runs on after 0.5 s, 1 dump loaded"
    bad = {**dump, "load": ["sh", "-c", "echo not so >&2; exit 1"]}
    drilled = await house.drill(await house.back_up(volumes=["data"], dump=[bad]), PATIENCE)
    assert not drilled.proven
    assert "not so" in of(drilled, "app").said
    without = {**dump, "load": []}
    drilled = await house.drill(await house.back_up(volumes=["data"], dump=[without]), PATIENCE)
    assert of(drilled, "app").said.endswith("its output is as it was written, and no `load` says what reads it")


async def test_who_dumps_into_a_set_and_is_not_of_it_is_given_its_dump_too(house: House, open_directory: Path) -> None:
    things = open_directory / "things"
    things.mkdir()
    (volume(house, "data") / "said").write_text("of value\n")
    run(house, "guest", "--env=SECRET=very-secret", "sleep", "1000")
    read = 'read said; [ "$said" = "of value" ] && [ ! -e /data/said ] && [ "$SECRET" = very-secret ]'
    dump = {"container": "guest", "kind": "command", "command": ["cat", "/data/said"], "load": ["sh", "-c", read]}
    archive = await house.back_up(paths=[things], dump=[dump])
    drilled = await house.drill(archive, PATIENCE)
    assert of(drilled, "guest").said == "started, and runs on after 0.5 s, 1 dump loaded"
    assert drilled.proven
    bad = {**dump, "load": ["sh", "-c", "echo not so >&2; exit 1"]}
    drilled = await house.drill(await house.back_up(paths=[things], dump=[bad]), PATIENCE)
    assert not drilled.proven
    assert "not so" in of(drilled, "guest").said
    house.neighbour("rm", "--force", "guest")
    drilled = await house.drill(archive, PATIENCE)
    assert not drilled.proven, "of an image alone there is no such variable"


@asynccontextmanager
async def of_value() -> AsyncIterator[AsyncIterator[bytes]]:
    yield each(b"of value")


async def test_a_dump_whose_container_the_copy_does_not_tell_of_is_not_proven(house: House, tmp_path: Path) -> None:
    """As in copies that were made before they told of who is not of the set."""
    told = {"container": "guest", "kind": "command", "what": "output", "load": ["true"]}
    dump = Dumped("dumps/guest/output", told, of_value)
    about = {"containers": {}, "dumps": {dump.member: told}}
    old = point(Source("paths/things", tmp_path), dumps=[dump], about=about)
    engine = engines.make(house.settings, ARCHIVE, {})
    archive = await engine.finish(await engine.copy(old, quiet), old, quiet)
    await asyncio.to_thread(Trust(house.settings.records).note, archive, archive.at)
    drilled = await house.drill(archive, PATIENCE)
    assert (drilled.proven, of(drilled, "guest").state) == (False, "bad")
    assert of(drilled, "guest").said == "its dump was not loaded: the copy does not tell of its container"
    assert drilled.repair.startswith("homelab-agent backup run things")


async def test_a_file_of_sqlite_of_a_guest_is_looked_at_and_nobody_started_without_it(
    house: House, open_directory: Path
) -> None:
    things = open_directory / "things"
    things.mkdir()
    with closing(sqlite3.connect(volume(house, "data") / "good.db")) as base:
        base.executescript("CREATE TABLE things (name TEXT)")
    run(house, "guest", "sleep", "1000")
    dump = {"container": "guest", "kind": "sqlite", "path": "/data/good.db"}
    drilled = await house.drill(await house.back_up(paths=[things], dump=[dump]), PATIENCE)
    assert drilled.proven
    assert [one.what for one in drilled.shown] == ["copy", "SQLite files"]
    assert of(drilled, "SQLite files").said == "1, all whole"
