"""Containers of a real Docker: named by the root half, measured as Docker measures them, the same when made anew."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from homelab_agent import places
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.privilege import VerbFailed
from homelab_agent.metrics.collectors.containers import Containers
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.roster import SHORT, VERB, Container, Roster, of_answer
from homelab_agent.metrics.sample import Reading, Values
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.privileged.client import Client
from tests.agent import Agent
from tests.clock import until as until_async
from tests.neighbours import compose, images
from tests.neighbours import docker as neighbour
from tests.neighbours.docker import Docker
from tests.neighbours.machine import Machine
from tests.root_half import asking
from tests.waiting import until

SETTINGS = MetricsSettings()
SLEEPS = ("--stop-timeout", "0", "busybox", "sleep", "1000")
PROJECT = """
name: shop
services:
  db: {image: busybox, command: [sleep, '1000'], stop_grace_period: 0s, container_name: the-db}
  app: {image: busybox, command: [sleep, '1000'], stop_grace_period: 0s, scale: 2}
"""


class Looks:
    """One look after the other at an engine's containers, on a clock that goes on by a minute each time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        self.containers = Containers(Host("here", root, monotonic=lambda: self.now), SETTINGS)

    def __call__(self) -> Mapping[str, Reading]:
        """Return what is told, by label; nothing where none runs."""
        self.now += 60
        try:
            return {one.entity.label: one for one in self.containers.collect()["container"]}
        except NotAvailable:
            return {}


def looking(docker: Docker) -> Looks:
    return Looks(Path(f"/proc/{docker.enclosure.first}/root"))


@pytest.fixture
def look(docker: Docker) -> Looks:
    return looking(docker)


@pytest.fixture
async def half(docker: Docker, open_directory: Path) -> AsyncIterator[Client]:
    """A root half that knows where this engine is."""
    path = open_directory / "config.toml"
    path.write_text(f"[metrics]\ndocker = '{docker.socket}'\n[log]\nformat = 'json'\n")
    async with asking(open_directory, command=list(map(str, places.command(path)))) as client:
        yield client


async def learn(look: Looks, half: Client) -> None:
    """Have the root half asked what is unknown, as the agent does."""
    await asyncio.to_thread(look)
    wanted = asyncio.Event()
    roster = Roster(look.containers, wanted, half, SystemClock(), lambda: 0.0)
    watching = asyncio.create_task(roster.watch())
    wanted.set()
    await until_async(lambda: not look.containers.unknown - look.containers._named.keys(), "they are named", seconds=30)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_containers_go_by_what_compose_calls_them_or_by_their_names(
    docker: Docker, look: Looks, half: Client, tmp_path: Path
) -> None:
    project = compose.Project(docker, tmp_path, PROJECT)
    await asyncio.to_thread(project, "up", "--detach")
    await asyncio.to_thread(docker, "run", "--detach", "--name", "lonely", *SLEEPS)
    await asyncio.to_thread(project, "run", "--detach", "--name", "once", "app")
    await learn(look, half)
    found = await asyncio.to_thread(look)
    assert set(found) == {"shop/db/1", "shop/app/1", "shop/app/2", "lonely", "once"}
    assert {one.values["image"] for one in found.values()} == {"busybox"}
    database = docker.api("GET", "/containers/the-db/json")["Id"]
    assert found["shop/db/1"].values["container_id"] == database[:12]

    before = {label: one.entity for label, one in found.items()}
    await asyncio.to_thread(project, "up", "--detach", "--force-recreate")
    await learn(look, half)
    anew = await asyncio.to_thread(look)
    assert {label: one.entity for label, one in anew.items()} == before
    restarts = {label: one.values["restarts"] for label, one in anew.items()}
    assert restarts == {"shop/db/1": 1, "shop/app/1": 1, "shop/app/2": 1, "lonely": 0, "once": 0}
    assert anew["shop/db/1"].values["container_id"] != database[:12]


async def test_the_half_names_all_there_are_and_says_that_docker_does_not_answer(docker: Docker, half: Client) -> None:
    names = ("running", "ended", "paused")
    for name in names:
        await asyncio.to_thread(docker, "run", "--detach", "--name", name, "--label", "a=b", *SLEEPS)
    docker("pause", "paused")
    docker("stop", "ended")
    found = of_answer(await half.call(VERB, deadline=30))
    inspected = {name: docker.api("GET", f"/containers/{name}/json") for name in names}
    assert found == {
        one["Id"]: Container(one["Id"], name, "busybox", image_id=one["Image"].removeprefix("sha256:")[:SHORT])
        for name, one in inspected.items()
    }
    await asyncio.to_thread(docker.stop)
    with pytest.raises(VerbFailed, match=r"Docker does not answer at .*docker\.sock") as raised:
        await half.call(VERB, deadline=30)
    assert "metrics.docker" in raised.value.repair


def stats(docker: Docker, name: str) -> dict[str, Any]:
    """Return what Docker itself says of a container's use."""
    found: dict[str, Any] = docker.api("GET", f"/containers/{name}/stats?stream=false&one-shot=1")
    return found


def name_all(docker: Docker, look: Looks) -> None:
    """Say what containers are called, without a root half."""
    listed = {one["Id"]: one["Names"][0][1:] for one in docker.api("GET", "/containers/json?all=1")}
    look.containers.learn({id_: Container(id_, name, "busybox") for id_, name in listed.items()}, frozenset())


def seen(docker: Docker, look: Looks, name: str) -> Values:
    name_all(docker, look)
    return look()[name].values


def test_cpu_and_memory_are_what_docker_says(docker: Docker, look: Looks) -> None:
    works = "seq 1000000 | md5sum; touch /done; sleep 1000"
    words = ("--memory", "64m", "--cpus", "0.5", "--stop-timeout", "0", "--name", "busy")
    docker("run", "--detach", *words, "busybox", "sh", "-c", works)
    until(lambda: "done" in docker("exec", "busy", "ls", "/"), "it has done its work", seconds=60)
    before, ours, after = stats(docker, "busy"), seen(docker, look, "busy"), stats(docker, "busy")
    cpu = [one["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9 for one in (before, after)]
    assert cpu[0] <= float(str(ours["cpu_s"])) <= cpu[1]
    held_up = [one["cpu_stats"]["throttling_data"]["throttled_time"] / 1e9 for one in (before, after)]
    assert 0 < held_up[0] <= float(str(ours["throttled_s"])) <= held_up[1]
    memory = after["memory_stats"]
    idle = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file"))
    assert ours["memory_bytes"] == pytest.approx(memory["usage"] - idle, abs=2**20)
    assert ours["memory_limit_bytes"] == memory["limit"] == 64 * 2**20


def test_what_goes_to_disks_is_what_docker_says() -> None:
    with neighbour.running(disk_megabytes=256) as docker:
        images.busybox(docker)
        look = looking(docker)
        disk = (look.root / docker.directory.relative_to("/") / "data").stat().st_dev
        loop = f"/dev/loop{os.minor(disk)}"
        # With version 1 of control groups the kernel counts what goes to a disk where there is a limit for it.
        words = ("--device-write-bps", f"{loop}:1gb", "--volume", "/data", "--stop-timeout", "0", "--name", "busy")
        works = "dd if=/dev/zero of=/data/file bs=64k count=64 oflag=direct; touch /done; sleep 1000"
        docker("run", "--detach", *words, "busybox", "sh", "-c", works)
        until(lambda: "done" in docker("exec", "busy", "ls", "/"), "it has done its work", seconds=60)
        ours, said = seen(docker, look, "busy"), stats(docker, "busy")["blkio_stats"]
    moved = {"read": 0, "write": 0}
    for one in said["io_service_bytes_recursive"]:
        if (kind := one["op"].lower()) in moved:
            moved[kind] += one["value"]
    assert [ours["read_bytes"], ours["written_bytes"]] == [moved["read"], moved["write"]]
    assert moved["write"] >= 64 * 65536


def test_a_container_that_comes_and_goes(docker: Docker, look: Looks) -> None:
    assert look() == {}
    docker("run", "--detach", "--name", "guest", *SLEEPS)
    first = seen(docker, look, "guest")
    assert (first["restarts"], first["restarted"], first["cpu_pct"]) == (0, None, None)
    assert seen(docker, look, "guest")["restarted"] == 0
    docker("stop", "guest")
    assert look() == {}
    docker("start", "guest")
    back = seen(docker, look, "guest")
    assert (back["restarts"], back["restarted"], back["reset"], back["cpu_pct"]) == (1, 1, True, None)
    docker("restart", "guest")
    again = seen(docker, look, "guest")
    assert (again["restarts"], again["restarted"], again["reset"], again["read_bytes_per_s"]) == (2, 1, True, None)
    settled = seen(docker, look, "guest")
    assert (settled["restarts"], settled["restarted"], settled["reset"]) == (2, 0, False)
    assert settled["cpu_pct"] is not None


def test_a_process_killed_for_want_of_memory_is_counted(docker: Docker, look: Looks) -> None:
    greedy = "tail /dev/zero; touch /survived; sleep 1000"
    docker(
        "run", "--detach", "--name", "greedy", "--memory", "16m", "--stop-timeout", "0", "busybox", "sh", "-c", greedy
    )
    until(lambda: "survived" in docker("exec", "greedy", "ls", "/"), "the shell has outlived it", seconds=60)
    assert seen(docker, look, "greedy")["oom_kills"] == 1


def test_docker_is_not_asked_for_a_sample(docker: Docker, look: Looks) -> None:
    docker("run", "--detach", "--name", "guest", *SLEEPS)
    name_all(docker, look)
    docker.freeze()
    first, second = look(), look()
    assert (set(first), second["guest"].values["cpu_pct"] is not None) == ({"guest"}, True)


ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


def test_an_agent_shows_them_by_name_and_the_command_does(
    docker: Docker, agent: Agent, request: pytest.FixtureRequest
) -> None:
    docker("run", "--detach", "--name", "guest", "--memory", "64m", *SLEEPS)
    own = f"slow_interval = 1\ndocker = '{docker.socket}'"
    agent.write(own, database="postgresql://nobody@127.0.0.1:9/nowhere")
    agent.env["PYTHONPATH"] = str(request.config.rootpath)

    def shown() -> str:
        asked = docker.run("python3", "-c", ASK, f"http://127.0.0.1:{agent.port}/metrics")
        return next((line for line in asked.stdout.splitlines() if line.startswith("container_spec_memory_limit")), "")

    command = agent.command("metrics", "sample", "--json", "--families", "container")
    agent.argv = docker.inside(*agent.argv)
    agent.spawn()
    assert (
        until(shown, "the agent shows a container", seconds=60)
        == 'container_spec_memory_limit_bytes{name="guest",image="busybox"} 67108864'
    )
    with_path = ("env", f"PYTHONPATH={request.config.rootpath}", *command)
    [found] = json.loads(docker.run(*with_path).stdout)["families"]["container"]
    assert (found["key"], found["memory_limit_bytes"], found["cpu_pct"] is not None) == ("guest", 67108864, True)


def test_containers_whose_groups_systemd_makes_are_found(machine: Machine) -> None:
    settings = {"exec-opts": ["native.cgroupdriver=systemd"]}
    machine.path("/etc/docker").mkdir(exist_ok=True)
    machine.path("/etc/docker/daemon.json").write_text(json.dumps(settings))
    machine.systemctl("start", "docker.service")
    machine("sh", "-c", "tar -C / -c bin/busybox | docker import - busybox")
    for options in ((), ("--cgroup-parent", "media.slice")):
        words = ("run", "--detach", *options, "busybox", "/bin/busybox", "sleep", "1000")
        container_id = machine("/usr/bin/docker", *words)
        look = Looks(machine.path("/"))
        look.containers.learn({container_id: Container(container_id, "guest", "busybox")}, frozenset())
        found = look()["guest"].values
        assert found["container_id"] == container_id[:12]
        assert found["cpu_s"]
        assert found["memory_bytes"]
