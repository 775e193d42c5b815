"""What is gone comes back as it was made, under its own name or another, and leaves nothing where that fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.backup import alone
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.inventory import Volume
from homelab_agent.backup.restore import Restoring
from homelab_agent.backup.restore_errors import NotUnpacked, VolumeGone, VolumeNotOurs
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.core.errors import AgentError
from tests import restoring
from tests.agent import Agent
from tests.neighbours.compose import Project
from tests.neighbours.docker import Docker as Neighbour
from tests.restored import House, source

COMPOSE = """
name: shop
services:
  app:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    volumes:
      - files:/files
      - more:/more
volumes:
  files:
    labels:
      colour: green
  more:
"""
POINTS = 20
"""More notes and deeds than a restore has."""


@pytest.fixture
async def house(docker: Neighbour, open_directory: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        yield House(docker, await stack.enter_async_context(Docker(docker.socket)), open_directory)


@pytest.fixture
def project(docker: Neighbour, open_directory: Path) -> Project:
    return Project(docker, open_directory / "shop", COMPOSE)


def labels(docker: Neighbour, name: str) -> dict[str, str]:
    found: dict[str, str] = docker.api("GET", f"/volumes/{name}")["Labels"]
    return found


def volumes(docker: Neighbour) -> set[str]:
    return {one["Name"] for one in docker.api("GET", "/volumes")["Volumes"] or ()}


async def test_a_project_that_was_removed_with_its_volumes_comes_back_and_compose_takes_it_up(
    house: House, project: Project
) -> None:
    docker = house.neighbour
    project("up", "-d")
    docker("exec", "shop-app-1", "sh", "-c", "echo kept >/files/file; echo more >/more/file")
    before = labels(docker, "shop_files")
    await house.back_up(project="shop")
    project("down", "--volumes")
    assert not {"shop_files", "shop_more"} & volumes(docker)
    plan = await house.restoring.plan(Wish("things"))
    assert plan.makes == ["shop_files", "shop_more"]
    restored = await house.restore()
    assert restored.made == ["shop_files", "shop_more"]
    (note,) = restored.notes
    assert note == (
        "the container shop-app-1 is no more; make it anew: docker compose --project-name shop up -d "
        f"(in {project.directory})"
    )
    assert labels(docker, "shop_files").items() >= before.items()
    said = project.run("up", "-d")
    assert (said.returncode, "already exists" in said.stderr, "Recreate" in said.stderr) == (0, False, False)
    assert docker("exec", "shop-app-1", "cat", "/files/file", "/more/file") == "kept\nmore"


async def gone(house: House, **about: Any) -> str:
    """Have a copy of a volume that is gone."""
    place = house.volume("files")
    (place / "file").write_bytes(os.urandom(100_000))
    noted = {"files": {"driver": "local", "options": {}, "labels": {"colour": "green"}}}
    archive = await house.copy(source("volumes/files", place), about={"volumes": noted, **about})
    house.neighbour("volume", "rm", "files")
    return archive.id


async def test_a_volume_of_which_nothing_is_known_is_named(house: House) -> None:
    await gone(house, volumes={})
    with pytest.raises(VolumeGone) as error:
        await house.restore()
    assert "docker volume create files" in error.value.repair
    assert "files" not in volumes(house.neighbour)


async def test_a_restore_that_fails_leaves_no_volume(house: House) -> None:
    archive = await gone(house)
    file = house.copies / f"{archive}.tar.zst"
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(AgentError):
        await house.restore()
    assert "files" not in volumes(house.neighbour)
    await house.clean()
    file.write_bytes(whole)
    await house.restore()
    assert labels(house.neighbour, "files")["colour"] == "green"


class Overtaken(Docker):
    """Is too late with each volume: somebody else has just made it."""

    async def make_volume(self, volume: Volume) -> None:
        await super().make_volume(replace(volume, labels={}))
        await super().make_volume(volume)


async def test_a_volume_that_somebody_else_makes_meanwhile_is_never_removed(house: House) -> None:
    await gone(house)
    async with Overtaken(house.neighbour.socket) as docker:
        with pytest.raises(VolumeNotOurs):
            await Restoring(house.engine, docker, house.records).restore(Wish("things"))
    assert "files" in volumes(house.neighbour)
    await house.clean()


async def test_killed_at_any_point_a_volume_is_there_whole_or_not_at_all(house: House) -> None:
    archive = await gone(house)
    settings = BackupSettings(docker=house.neighbour.socket, directory=house.copies, records=house.records)
    outcomes: list[bool] = []
    code = -1
    while code != 0:
        task = restoring.Task(
            str(house.neighbour.socket), str(house.copies), str(house.records), "things", [archive], len(outcomes)
        )
        with restoring.running(task) as child:
            code = await asyncio.to_thread(child.wait, 60)
        assert code in {0, -9}
        await alone.resume(settings)
        outcomes.append("files" in volumes(house.neighbour))
        if outcomes[-1]:
            assert (house.volume("files") / "file").stat().st_size == 100_000
            house.neighbour("volume", "rm", "files")
        assert len(outcomes) < POINTS
    assert outcomes[:2] == [False, False]
    assert outcomes == sorted(outcomes), "from one point on it is there"


async def test_a_project_comes_back_under_another_name_beside_the_one_that_lives(
    house: House, project: Project, agent: Agent, open_directory: Path
) -> None:
    docker = house.neighbour
    project("up", "-d")
    docker("exec", "shop-app-1", "sh", "-c", "echo kept >/files/file; echo more >/more/file")
    archive = await house.back_up(project="shop")
    docker("exec", "shop-app-1", "sh", "-c", "echo lives >/files/file")
    agent.write(f'[backup]\ndocker = "{docker.socket}"\ndirectory = "{house.copies}"\nrecords = "{house.records}"\n')

    async def ask(*words: str, code: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            agent.command("restore", "things", *words),
            cwd=open_directory,
            env={**agent.env, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = json.loads(await ask("--to", "trial", "--json"))
    assert said["volumes"] == {"shop_files": "trial_files", "shop_more": "trial_more"}
    assert said["archive"] == archive.id
    brought = Path(said["directory"]) / f"paths{project.directory}" / "compose.yaml"
    assert brought.read_text() == COMPOSE
    assert labels(docker, "trial_files")["colour"] == "green"
    trial = Project(docker, brought.parent)
    started = trial.run("--project-name", "trial", "up", "-d")
    assert (started.returncode, "already exists" in started.stderr) == (0, False)
    assert docker("exec", "trial-app-1", "cat", "/files/file", "/more/file") == "kept\nmore"
    assert docker("exec", "shop-app-1", "cat", "/files/file") == "lives"
    assert "trial_files, trial_more" in await ask("--to", "trial", code=2)
    assert "--to ./Trial" in await ask("--to", "Trial", code=2)
    (open_directory / "second").mkdir()
    (open_directory / "second" / "file").touch()
    assert "not an empty directory" in await ask("--to", "second", code=2)
    assert not {"second_files", "second_more"} & volumes(docker)
    said = json.loads(await ask("--to", "third", "--path", "volumes/shop_more", "--json"))
    assert (said["volumes"], said["directory"]) == ({"shop_more": "third_more"}, None)
    await house.clean(open_directory)


async def test_a_project_that_cannot_be_made_leaves_nothing(house: House, project: Project) -> None:
    docker = house.neighbour
    project("up", "-d")
    archive = await house.back_up(project="shop")
    settings = BackupSettings(docker=docker.socket, directory=house.copies, records=house.records)
    before = volumes(docker)
    place = project.directory.parent / "trial"
    code, points = -1, 0
    while code != 0:
        task = restoring.Task(
            str(docker.socket), str(house.copies), str(house.records), "things", [archive.id], points, str(place)
        )
        with restoring.running(task) as child:
            code = await asyncio.to_thread(child.wait, 60)
        assert code in {0, -9}
        await alone.resume(settings)
        made = volumes(docker) - before
        assert made in (set(), {"trial_files", "trial_more"})
        assert place.exists() == bool(made)
        assert made or [path for path in place.parent.iterdir() if path.name.startswith(".")] == []
        points += 1
        assert points < POINTS
        if made:
            break
    assert code == 0 or points > 3


async def test_a_place_comes_back_with_the_folders_that_lead_there_or_not_at_all(
    house: House, open_directory: Path
) -> None:
    top = open_directory / "srv"
    place = top / "deep" / "files"
    await asyncio.to_thread(place.mkdir, parents=True)
    content = os.urandom(100_000)
    (place / "file").write_bytes(content)
    archive = await house.copy(source(f"paths{place}", place))
    await asyncio.to_thread(shutil.rmtree, top)
    plan = await house.restoring.plan(Wish("things"))
    assert [note.split()[2] for note in plan.notes] == [str(top), str(top / "deep")]
    restored = await house.restore()
    assert (place / "file").read_bytes() == content
    assert restored.notes == plan.notes
    await house.restoring.undo(restored.undo)
    assert not place.exists()
    settings = BackupSettings(docker=house.neighbour.socket, records=house.records, undo_days=0)
    assert await alone.expire(settings) == [restored.undo]
    assert not top.exists(), "as it was before"
    file = house.copies / f"{archive.id}.tar.zst"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(AgentError, match=archive.id):
        await house.restore()
    assert not top.exists()
    top.write_text("a file")
    with pytest.raises(NotUnpacked, match=str(top / "deep")):
        await house.restore()
    await house.clean()
    top.unlink()
    top.mkdir()
    (top / "deep").write_text("a file")
    with pytest.raises(NotUnpacked, match=str(top / "deep")):
        await house.restore()
    await house.clean(top)
