"""Containers of a real Docker Engine stand still while the context lasts, and run as before after it, come what may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_agent.backup import docker as adapter
from homelab_agent.backup.freeze import FrozenTooLong, KeepsRestarting, Order, StopWouldRemove, frozen
from homelab_agent.backup.frozen import Frozen, HeldByAnother
from homelab_agent.backup.resume import Notice, NotResumed, Patience, resume_all
from tests.freezing import named
from tests.neighbours.docker import Docker
from tests.waiting import until

COMPOSE = "com.docker.compose"
OBEDIENT = ("sh", "-c", 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done')
DEAF = ("sleep", "1000")
"""As the first process of a container it gets no signal that it does not ask for."""


def service(docker: Docker, name: str, *words: str, needs: str = "", program: tuple[str, ...] = OBEDIENT) -> str:
    """Start a container as Compose would, and return its id."""
    labels = {"project": "house", "service": name, "container-number": "1", "depends_on": needs}
    told = [word for key, value in labels.items() for word in ("--label", f"{COMPOSE}.{key}={value}")]
    return docker("run", "-d", "--name", name, *told, *words, "busybox", *program)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Frozen]:
    found = Frozen(tmp_path / "frozen")
    yield found
    found.close()


@pytest.fixture
def notices() -> list[Notice]:
    return []


def told(notices: list[Notice]) -> list[str]:
    return [f"{one.name} {one.what}" for one in notices]


async def order(control: adapter.Docker, *names: str, mode: str = "pause", budget: float = 30) -> Order:
    containers = [await named(control, name) for name in names]
    return Order(containers, "stop" if mode == "stop" else "pause", "house", "run-1", budget)


def states(docker: Docker, *names: str) -> list[str]:
    return [docker.state(name)["Status"] for name in names]


@pytest.mark.parametrize(("mode", "still", "verdict"), [("pause", "paused", "crash"), ("stop", "exited", "cold")])
async def test_who_depends_is_frozen_first_and_resumed_last(
    docker: Docker, control: adapter.Docker, records: Frozen, notices: list[Notice], mode: str, still: str, verdict: str
) -> None:
    service(docker, "db")
    service(docker, "app", needs="db:service_started:false")
    async with frozen(control, records, await order(control, "db", "app", mode=mode), tell=notices.append) as freeze:
        assert states(docker, "db", "app") == [still, still]
        entries = {one.name: one for one in await records.read()}
        assert entries["app"].order < entries["db"].order
        assert entries["db"].identity.service == "db"
    assert states(docker, "db", "app") == ["running", "running"]
    done = "unpaused" if mode == "pause" else "started"
    stilled = "paused" if mode == "pause" else "stopped"
    assert told(notices) == [f"app {stilled}", f"db {stilled}", f"db {done}", f"app {done}"]
    assert freeze.verdict == verdict
    assert set(freeze.milliseconds) == {"db", "app"}
    assert freeze.milliseconds["app"] > 0
    assert await records.read() == []


async def test_what_somebody_else_has_paused_or_stopped_stays_so(
    docker: Docker, control: adapter.Docker, records: Frozen
) -> None:
    for name in ("runs", "paused", "stopped"):
        service(docker, name)
    docker("pause", "paused")
    docker("stop", "stopped")
    async with frozen(control, records, await order(control, "runs", "paused", "stopped", mode="stop")) as freeze:
        assert states(docker, "runs", "paused", "stopped") == ["exited", "paused", "exited"]
    assert states(docker, "runs", "paused", "stopped") == ["running", "paused", "exited"]
    assert freeze.verdict == "crash", "who is paused has not ended in order"
    assert set(freeze.milliseconds) == {"runs"}


async def test_one_that_was_killed_when_it_was_to_end_is_noticed(
    docker: Docker, control: adapter.Docker, records: Frozen, notices: list[Notice]
) -> None:
    service(docker, "deaf", "--stop-timeout", "1", program=DEAF)
    async with frozen(control, records, await order(control, "deaf", mode="stop"), tell=notices.append) as freeze:
        assert docker.state("deaf")["ExitCode"] == 137
    assert freeze.killed == ["deaf"]
    assert freeze.verdict == "dirty"
    assert told(notices) == ["deaf stopped", "deaf killed", "deaf started"]
    assert states(docker, "deaf") == ["running"]


@pytest.mark.parametrize("mode", ["pause", "stop"])
async def test_one_that_was_made_anew_meanwhile_runs_and_the_copy_is_dirty(
    docker: Docker, control: adapter.Docker, records: Frozen, mode: str
) -> None:
    service(docker, "app")
    async with frozen(control, records, await order(control, "app", mode=mode)) as freeze:
        docker("rm", "-f", "app")
        labels = [f"--label={COMPOSE}.{key}" for key in ("project=house", "service=app", "container-number=1")]
        docker("create", "--name", "app-again", *labels, "busybox", *OBEDIENT)
        if mode == "pause":
            docker("start", "app-again")
    assert states(docker, "app-again") == ["running"]
    assert freeze.stirred == ["app"]
    assert freeze.verdict == "dirty"
    assert await records.read() == []


async def test_one_that_was_renamed_is_known_and_one_that_was_removed_is_told(
    docker: Docker, control: adapter.Docker, records: Frozen, notices: list[Notice]
) -> None:
    for name in ("renamed", "removed"):
        docker("run", "-d", "--name", name, "busybox", *OBEDIENT)
    async with frozen(control, records, await order(control, "renamed", "removed"), tell=notices.append):
        docker("rename", "renamed", "other")
        docker("rm", "-f", "removed")
    assert states(docker, "other") == ["running"]
    assert {"renamed unpaused", "removed gone"} <= set(told(notices))
    assert await records.read() == []


async def test_who_let_one_run_meanwhile_makes_the_copy_dirty(
    docker: Docker, control: adapter.Docker, records: Frozen
) -> None:
    for name in ("app", "other"):
        service(docker, name)
    docker("stop", "other")
    async with frozen(control, records, await order(control, "app", "other")) as freeze:
        docker("unpause", "app")
        docker("start", "other")
    assert sorted(freeze.stirred) == ["app", "other"]
    assert states(docker, "app", "other") == ["running", "running"]


@pytest.mark.parametrize("deed", ["stop", "kill"])
async def test_one_that_somebody_ends_while_it_is_paused_stays_ended_and_the_copy_is_dirty(
    docker: Docker, control: adapter.Docker, records: Frozen, notices: list[Notice], deed: str
) -> None:
    service(docker, "app", "--stop-timeout", "1")
    service(docker, "other")
    async with frozen(control, records, await order(control, "app", "other"), tell=notices.append) as freeze:
        docker(deed, "app")
        await asyncio.to_thread(until, lambda: states(docker, "app") == ["exited"], "it has ended")
    assert freeze.verdict == "dirty"
    assert freeze.stirred == ["app"]
    assert "app left_alone" in told(notices)
    assert states(docker, "app", "other") == ["exited", "running"]
    assert await records.read() == []


async def test_a_budget_that_is_over_resumes_at_once_though_the_reader_takes_its_time(
    docker: Docker, control: adapter.Docker, records: Frozen
) -> None:
    service(docker, "app")
    given = await order(control, "app", budget=0.3)
    seen: list[str] = []

    async def read() -> None:
        async with frozen(control, records, given):
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.to_thread(until, lambda: states(docker, "app") == ["running"], "it runs")
                seen.append("the reader has ended")

    with pytest.raises(FrozenTooLong, match=r"0\.3 s"):
        await read()
    assert seen
    assert await records.read() == []


async def test_a_reader_that_is_cancelled_twice_leaves_nothing_frozen(
    docker: Docker, control: adapter.Docker, records: Frozen
) -> None:
    for name in ("one", "two"):
        service(docker, name)
    given = await order(control, "one", "two", mode="stop")
    ready = asyncio.Event()

    async def work() -> None:
        async with frozen(control, records, given):
            ready.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await ready.wait()
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)
    assert task.cancelled()
    assert states(docker, "one", "two") == ["running", "running"]
    assert await records.read() == []


async def test_being_cancelled_while_docker_stops_one_waits_for_docker(
    docker: Docker, control: adapter.Docker, records: Frozen, tmp_path: Path
) -> None:
    service(docker, "slow", "--stop-timeout", "2", program=DEAF)
    given = await order(control, "slow", mode="stop")

    async def work() -> None:
        async with frozen(control, records, given):
            pytest.fail("it was cancelled before")

    task = asyncio.create_task(work())
    noted = tmp_path / "frozen"
    await asyncio.to_thread(until, lambda: noted.exists() and any(noted.iterdir()), "it is noted")
    began = docker.state("slow")["StartedAt"]
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert docker.state("slow")["Status"] == "running"
    assert docker.state("slow")["StartedAt"] != began, "it was ended, and started again"


async def test_no_container_is_frozen_twice_nor_resumed_by_who_did_not_freeze_it(
    docker: Docker, control: adapter.Docker, records: Frozen, tmp_path: Path
) -> None:
    service(docker, "app")
    second = Frozen(tmp_path / "frozen")
    given = await order(control, "app")
    async with frozen(control, records, given):
        assert await resume_all(control, second) == []
        assert states(docker, "app") == ["paused"]
        docker("unpause", "app")
        with pytest.raises(HeldByAnother, match="app"):
            async with frozen(control, second, given):
                pass
        docker("pause", "app")
    assert states(docker, "app") == ["running"]
    second.close()


async def test_what_cannot_be_kept_still_is_refused_untouched(
    docker: Docker, control: adapter.Docker, records: Frozen
) -> None:
    service(docker, "app")
    docker("run", "-d", "--rm", "--name", "passing", "busybox", *OBEDIENT)
    with pytest.raises(StopWouldRemove, match="passing"):
        async with frozen(control, records, await order(control, "app", "passing", mode="stop")):
            pass
    assert states(docker, "app", "passing") == ["running", "running"]
    docker("run", "-d", "--restart", "always", "--name", "flaps", "busybox", "false")
    count = ("inspect", "--format", "{{.RestartCount}}", "flaps")
    until(lambda: int(docker(*count)) >= 6, "it restarts all the time; the next time is some seconds away", seconds=60)
    with pytest.raises(KeepsRestarting, match="flaps"):
        async with frozen(control, records, await order(control, "app", "flaps")):
            pass
    assert states(docker, "app") == ["running"]


@pytest.mark.parametrize(("mode", "policy"), [("pause", "always"), ("stop", "unless-stopped")])
async def test_docker_is_killed_and_started_meanwhile_and_all_run_again(
    docker: Docker, control: adapter.Docker, records: Frozen, mode: str, policy: str
) -> None:
    for name in ("one", "two"):
        service(docker, name, "--restart", policy)
    async with frozen(control, records, await order(control, "one", "two", mode=mode)) as freeze:
        await asyncio.to_thread(docker.kill)
        starting = asyncio.create_task(asyncio.to_thread(docker.start))
    await starting
    assert states(docker, "one", "two") == ["running", "running"]
    assert freeze.verdict == ("dirty" if mode == "pause" else "cold")
    assert await records.read() == []


async def test_docker_hangs_and_the_error_says_what_to_do_until_it_is_resumed(
    docker: Docker, control: adapter.Docker, records: Frozen, tmp_path: Path
) -> None:
    service(docker, "app")
    patience = Patience(resume=0.3, again=0.1, settle=0.2)
    async with adapter.Docker(docker.socket, patience=0.5) as hasty:
        with pytest.raises(NotResumed, match="app") as raised:
            async with frozen(hasty, records, await order(hasty, "app"), patience=patience):
                await asyncio.to_thread(docker.freeze)
    assert raised.value.repair == "homelab-agent backup resume"
    await asyncio.to_thread(docker.thaw)
    assert [one.name for one in await records.read()] == ["app"]
    other = Frozen(tmp_path / "frozen")
    assert [one.name for one in await resume_all(control, other)] == ["app"]
    assert states(docker, "app") == ["running"]
    assert await other.read() == []
    other.close()


async def test_one_is_awaited_until_it_is_well_and_one_that_stays_ill_is_told(
    docker: Docker, control: adapter.Docker, records: Frozen, notices: list[Notice]
) -> None:
    check = ("--health-interval", "200ms", "--health-retries", "1", "--health-cmd")
    program = (
        "sh",
        "-c",
        'rm -f /well; trap "exit 0" TERM; (sleep 1; touch /well) & while :; do sleep 1000 & wait; done',
    )
    service(docker, "db", *check, "test -e /well", program=program)
    service(docker, "app", needs="db:service_healthy:false")
    await asyncio.to_thread(until, lambda: docker.state("db")["Health"]["Status"] == "healthy", "it is well")
    seen: list[str] = []

    class Looking(adapter.Docker):
        async def start(self, container_id: str) -> None:
            seen.append((await named(self, "db")).health)
            await super().start(container_id)

    given = await order(control, "db", "app", mode="stop")
    async with Looking(docker.socket) as looking, frozen(looking, records, given):
        pass
    assert seen[1] == "healthy", "app was started when db was well"
    async with frozen(control, records, given, tell=notices.append, patience=Patience(health=0.2)):
        pass
    assert told(notices) == ["app stopped", "db stopped", "db started", "db unhealthy", "app started"]
    assert await records.read() == []
