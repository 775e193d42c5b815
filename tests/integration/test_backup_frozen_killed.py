"""Who holds containers frozen is killed at any moment, or the power fails: what comes after lets all run as before."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_agent.backup import docker as adapter
from homelab_agent.backup.freeze import Mode
from homelab_agent.backup.frozen import Frozen
from homelab_agent.backup.resume import Patience, resume_all
from tests.fixtures.soak import Soak
from tests.freezing import Deed, Dies, freezing
from tests.integration.test_backup_freeze import DEAF, service, states
from tests.neighbours.docker import Docker
from tests.waiting import until

BOTH = ("db", "app")
PATIENCE = Patience(settle=1)

POINTS: list[tuple[Mode, Dies, Deed, int]] = [
    ("pause", "before", "pause", 1),
    ("pause", "after", "pause", 1),
    ("pause", "before", "pause", 2),
    ("pause", "after", "pause", 2),
    ("pause", "body", "pause", 1),
    ("pause", "before", "unpause", 1),
    ("pause", "after", "unpause", 1),
    ("pause", "after", "unpause", 2),
    ("stop", "before", "stop", 1),
    ("stop", "after", "stop", 1),
    ("stop", "before", "stop", 2),
    ("stop", "body", "stop", 1),
    ("stop", "after", "start", 1),
    ("stop", "after", "start", 2),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "frozen"


@pytest.fixture
def records(directory: Path) -> Iterator[Frozen]:
    found = Frozen(directory)
    yield found
    found.close()


@pytest.fixture
def both(docker: Docker) -> None:
    service(docker, "db", "--restart", "unless-stopped")
    service(docker, "app", "--restart", "unless-stopped", needs="db:service_started:false")


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("mode", "dies", "deed", "count"), POINTS)
async def test_a_holder_that_is_killed_at_any_point_leaves_what_is_needed_to_resume(
    *,
    docker: Docker,
    control: adapter.Docker,
    records: Frozen,
    directory: Path,
    mode: Mode,
    dies: Dies,
    deed: Deed,
    count: int,
) -> None:
    with freezing(docker, directory, BOTH, mode, dies=dies, deed=deed, count=count) as child:
        child.wait(30)
    assert await records.read(), "it is noted"
    await resume_all(control, records, patience=PATIENCE)
    assert states(docker, *BOTH) == ["running", "running"]
    assert await records.read() == []
    assert await resume_all(control, records) == []


async def test_a_holder_that_is_killed_while_docker_still_stops_one_is_not_believed_too_early(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path
) -> None:
    service(docker, "slow", "--restart", "unless-stopped", "--stop-timeout", "3", program=DEAF)
    began = docker.state("slow")["StartedAt"]
    with freezing(docker, directory, ["slow"], "stop"):
        await asyncio.to_thread(until, lambda: directory.exists() and any(directory.iterdir()), "it is noted")
        await asyncio.sleep(0.5)
    assert states(docker, "slow") == ["running"], "Docker waits for it to end"
    await resume_all(control, records, patience=PATIENCE)
    assert states(docker, "slow") == ["running"]
    assert docker.state("slow")["StartedAt"] != began, "it was started again when it had ended"
    assert await records.read() == []


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("mode", ["pause", "stop"])
async def test_after_a_power_cut_all_run_as_before(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path, mode: Mode
) -> None:
    service(docker, "unasked", "--restart", "unless-stopped")
    docker("stop", "unasked")
    with freezing(docker, directory, BOTH, mode) as child:
        await frozen_by(child)
        await asyncio.to_thread(docker.power_cut)
    await asyncio.to_thread(docker.start)
    entries = await resume_all(control, records, patience=PATIENCE)
    assert sorted(one.name for one in entries) == ["app", "db"]
    assert states(docker, *BOTH, "unasked") == ["running", "running", "exited"]
    assert await records.read() == []


@pytest.mark.usefixtures("both")
async def test_resuming_while_docker_is_away_goes_on_until_it_is_back(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path
) -> None:
    with freezing(docker, directory, BOTH, "stop") as child:
        await frozen_by(child)
    await asyncio.to_thread(docker.stop)
    resuming = asyncio.create_task(resume_all(control, records, patience=PATIENCE))
    await asyncio.to_thread(docker.start)
    await resuming
    assert states(docker, *BOTH) == ["running", "running"]


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("mode", ["pause", "stop"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[]", b'{"container": 1}'])
async def test_a_damaged_file_is_no_reason_to_leave_one_down(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path, mode: Mode, content: bytes
) -> None:
    with freezing(docker, directory, BOTH, mode) as child:
        await frozen_by(child)
    damage(directory, content)
    await resume_all(control, records, patience=PATIENCE)
    assert states(docker, *BOTH) == ["running", "running"]
    assert noted(directory) == []


@pytest.mark.usefixtures("both")
async def test_two_that_resume_at_once_do_not_meet(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path
) -> None:
    with freezing(docker, directory, BOTH, "stop") as child:
        await frozen_by(child)
    other = Frozen(directory)
    done = await asyncio.gather(*(resume_all(control, one, patience=PATIENCE) for one in (records, other)))
    assert sorted(len(one) for one in done) == [0, 2]
    assert states(docker, *BOTH) == ["running", "running"]
    other.close()


async def sweep(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path, soak: Soak, least: int
) -> None:
    """Kill a process that freezes and resumes all the time, at random moments."""
    for number in soak.rounds(least):
        mode: Mode = soak.dice.choice(("pause", "stop"))
        with freezing(docker, directory, BOTH, mode, again=True) as child:
            await frozen_by(child)
            await asyncio.sleep(soak.dice.uniform(0, 1))
        await resume_all(control, records, patience=PATIENCE)
        assert states(docker, *BOTH) == ["running", "running"], f"round {number}, {mode}"
        assert noted(directory) == []


@pytest.mark.usefixtures("both")
async def test_killed_ten_times_at_random_all_run_as_before(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path, soak: Soak
) -> None:
    await sweep(docker, control, records, directory, soak, 10)


@pytest.mark.soak
@pytest.mark.usefixtures("both")
async def test_killed_at_sixty_random_moments_all_run_as_before(
    docker: Docker, control: adapter.Docker, records: Frozen, directory: Path, soak: Soak
) -> None:
    await sweep(docker, control, records, directory, soak, 60)


async def frozen_by(child: subprocess.Popen[str]) -> None:
    """Return when it says that they are frozen."""
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == "frozen\n"


def damage(directory: Path, content: bytes) -> None:
    for path in directory.iterdir():
        path.write_bytes(content)


def noted(directory: Path) -> list[Path]:
    return list(directory.iterdir())
