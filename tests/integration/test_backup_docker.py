"""What a real Docker engine says is read as it is, what is asked of it is done, and that it hangs is said in time."""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_agent.backup import docker as engine
from homelab_agent.backup import proposal, sizes
from homelab_agent.backup.docker_errors import (
    CommandCutShort,
    CommandFailed,
    CommandTooSlow,
    ContainerGone,
    ContainerNotSo,
    DockerUnreachable,
    ImageGone,
)
from homelab_agent.backup.inventory import Identity, Mount
from homelab_agent.backup.scratch import Scratch
from homelab_agent.backup.settings import BackupSettings
from tests.neighbours import compose
from tests.neighbours.docker import Docker
from tests.taken import House
from tests.waiting import until

QUICK = ("--stop-timeout", "0", "busybox", "sleep", "1000")
PROJECT = """
name: shop
services:
  db:
    image: busybox
    command: [sh, -c, 'sleep 1000']
    environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: hidden, OTHER: hidden}
    volumes: [data:/var/lib/data, ./config:/config:ro]
    healthcheck: {test: [CMD, test, -e, /tmp/well], interval: 0.3s, retries: 100}
    stop_grace_period: 1s
  app:
    image: busybox
    command: [sleep, '1000']
    init: true
    expose: ['53/udp']
    volumes: [data:/shared:ro, './files:/files', 'bound:/bound']
    depends_on: {db: {condition: service_started}}
    stop_grace_period: 0s
volumes:
  data:
  bound: {driver: local, driver_opts: {type: none, o: bind, device: PLACE}}
"""


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> compose.Project:
    for name in ("config", "files", "bound"):
        (tmp_path / name).mkdir()
    return compose.Project(docker, tmp_path, PROJECT.replace("PLACE", str(tmp_path / "bound")))


async def test_an_inventory_has_a_projects_places_and_order(docker: Docker, project: compose.Project) -> None:
    await asyncio.to_thread(project, "up", "--detach", "--quiet-pull")
    async with engine.Docker(docker.socket) as asked:
        found = await asked.inventory()
    by_service = {one.identity.service: one for one in found.containers}
    app, db = by_service["app"], by_service["db"]
    files, root = project.directory, docker.directory / "data"
    assert found.refused == ""
    assert found.data_root == root
    assert found.version
    assert found.volumes["shop_data"].path == root / "volumes/shop_data/_data"
    assert found.volumes["shop_bound"].path == files / "bound"
    assert found.volumes["shop_data"].labels["com.docker.compose.project"] == "shop"
    assert sorted(app.mounts, key=lambda one: one.target) == [
        Mount("volume", "shop_bound", files / "bound", "/bound", writable=True),
        Mount("bind", "", files / "files", "/files", writable=True),
        Mount("volume", "shop_data", found.volumes["shop_data"].path, "/shared", writable=False),
    ]
    assert app.identity == Identity("shop", "app", "1", "shop-app-1")
    assert app.depends_on == {"db": "service_started"}
    assert app.ports == {"53/udp"}
    assert app.running
    assert app.compose_files == (files / "compose.yaml",)
    assert app.compose_hash
    assert app.programs == ("sleep",)
    assert app.networks == ("shop_default",)
    assert app.image_id.startswith("sha256:")
    assert db.health in {"starting", "unhealthy"}
    assert db.variables == {"POSTGRES_USER": "shop", "POSTGRES_PASSWORD": ""}
    assert (db.stop_seconds, app.stop_seconds) == (1, 0)


async def test_a_running_project_is_proposed_with_what_it_would_cost(docker: Docker, project: compose.Project) -> None:
    await asyncio.to_thread(project, "up", "--detach", "--quiet-pull")
    docker("exec", "shop-db-1", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x >/var/lib/data/big")
    async with engine.Docker(docker.socket) as asked:
        inventory = await asked.inventory()
    (first,) = proposal.proposed(inventory, BackupSettings())
    (found,) = proposal.proposed(inventory, BackupSettings(), await sizes.sizes(first.sources))
    files = project.directory
    assert {source.member: source.path for source in found.sources} == {
        "volumes/shop_data": inventory.volumes["shop_data"].path,
        "volumes/shop_bound": files / "bound",
        f"paths{files}/files": files / "files",
        f"paths{files}/compose.yaml": files / "compose.yaml",
    }
    assert [one.identity.service for one in found.to_freeze] == ["app", "db"]
    assert 3_000_000 <= found.bytes < 3_100_000
    assert found.freeze_seconds == found.bytes / 300e6
    assert [one.cause for one in found.refusals] == ["shop-app-1 would stand still, and it answers DNS"]


async def test_containers_in_every_state_are_there_and_none_that_went(docker: Docker) -> None:
    docker("run", "-d", "--name", "runs", *QUICK)
    docker("run", "-d", "--name", "waits", *QUICK)
    docker("pause", "waits")
    docker("run", "--name", "ended", "busybox", "sh", "-c", "exit 0")
    docker("create", "--name", "made", "busybox", "true")
    async with engine.Docker(docker.socket) as asked:
        found = {one.name: one for one in (await asked.inventory()).containers}
        assert {name: one.state for name, one in found.items()} == {
            "runs": "running",
            "waits": "paused",
            "ended": "exited",
            "made": "created",
        }
        docker("rm", "-f", "runs")
        assert await asked.container(found["runs"].id) is None
        assert await asked.find(found["runs"].identity) is None


async def test_pausing_twice_and_waking_who_is_awake_are_said(docker: Docker) -> None:
    docker("run", "-d", "--name", "one", *QUICK)
    async with engine.Docker(docker.socket) as asked:
        await asked.pause("one")
        assert docker.state("one")["Paused"]
        with pytest.raises(ContainerNotSo, match="paused"):
            await asked.pause("one")
        with pytest.raises(ContainerNotSo, match="pause"):
            await asked.start("one")
        await asked.unpause("one")
        with pytest.raises(ContainerNotSo, match="not paused"):
            await asked.unpause("one")
        await asked.start("one")
        await asked.stop("one", seconds=0)
        assert not docker.state("one")["Running"]
        await asked.stop("one", seconds=0)
        with pytest.raises(ContainerNotSo, match="not running"):
            await asked.pause("one")
        with pytest.raises(ContainerGone):
            await asked.pause("nobody")


@pytest.mark.parametrize(("traps", "code"), [("trap 'exit 3' INT; trap '' TERM", 3), ("trap '' INT TERM", 137)])
async def test_a_container_is_stopped_by_the_signal_asked_for_else_killed(
    docker: Docker, traps: str, code: int
) -> None:
    docker("run", "-d", "--name", "one", "busybox", "sh", "-c", f"{traps}; while :; do sleep 0.1; done")
    async with engine.Docker(docker.socket) as asked:
        await asked.stop("one", seconds=2, signal="SIGINT")
        found = await asked.container("one")
    assert found is not None
    assert (found.state, found.exit_code) == ("exited", code)


async def test_health_is_waited_for(docker: Docker, project: compose.Project) -> None:
    await asyncio.to_thread(project, "up", "--detach", "--quiet-pull")
    async with engine.Docker(docker.socket) as asked:
        assert not await asked.wait_healthy("shop-db-1", seconds=0.1)
        assert await asked.wait_healthy("shop-app-1", seconds=5)
        docker("exec", "shop-db-1", "touch", "/tmp/well")
        assert await asked.wait_healthy("shop-db-1", seconds=20)
        await asked.stop("shop-db-1", seconds=0)
        assert not await asked.wait_healthy("shop-db-1", seconds=20)
        assert not await asked.wait_healthy("nobody", seconds=20)


async def test_who_was_made_anew_or_renamed_is_found(docker: Docker, project: compose.Project) -> None:
    await asyncio.to_thread(project, "up", "--detach", "--quiet-pull")
    async with engine.Docker(docker.socket) as asked:
        before = await asked.container("shop-app-1")
        assert before is not None
        await asyncio.to_thread(project, "up", "--detach", "--force-recreate", "--no-deps", "app")
        await asyncio.to_thread(project, "run", "--detach", "--no-deps", "app")
        docker("rename", "shop-app-1", "another")
        after = await asked.find(before.identity)
        assert after is not None
        assert after.id != before.id
        assert after.name == "another"
        docker("run", "-d", "--name", "plain", *QUICK)
        plain = await asked.find(Identity("", "", "", "plain"))
        assert plain is not None
        docker("rm", "-f", "plain")
        docker("run", "-d", "--name", "plain", *QUICK)
        again = await asked.find(plain.identity)
    assert again is not None
    assert again.id != plain.id


@pytest.fixture
def shell(docker: Docker) -> str:
    return docker("run", "-d", *QUICK)


async def output(command: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in command])


async def fed(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_fifty_megabytes_come_whole_with_bounded_memory(docker: Docker, shell: str) -> None:
    script = "head -c 52428800 /dev/zero | tr '\\0' x; echo warned >&2"
    expected, got, most = hashlib.sha256(b"x" * 52428800), hashlib.sha256(), 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with engine.Docker(docker.socket) as asked, asked.execute(shell, ["sh", "-c", script]) as command:
        async for piece in command:
            got.update(piece)
            most = max(most, len(piece))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert got.digest() == expected.digest()
    assert (command.code, command.stderr) == (0, "warned")
    assert most <= 256 * 1024
    assert grown < 20 * 1024, "KiB"


async def test_a_commands_failure_is_told_after_its_output(docker: Docker, shell: str) -> None:
    async with engine.Docker(docker.socket) as asked:
        async with asked.execute(shell, ["sh", "-c", "echo half; echo why >&2; exit 7"]) as command:
            assert await anext(command) == b"half\n"
            with pytest.raises(CommandFailed, match=r"ended with 7\. \(why\)"):
                await anext(command)
            assert command.code == 7
        with pytest.raises(CommandFailed, match=r"12[67]"):
            async with asked.execute(shell, ["/nothing"]) as command:
                await output(command)
        with pytest.raises(ContainerGone):
            async with asked.execute("nobody", ["true"]):
                pass
        await asked.pause(shell)
        with pytest.raises(ContainerNotSo):
            async with asked.execute(shell, ["true"]):
                pass


async def test_what_goes_in_comes_out_as_that_user_with_those_variables(docker: Docker, shell: str) -> None:
    script = "echo $WORD $(id -un); cat"
    pieces = [bytes([number]) * 300_000 for number in range(64)]
    async with engine.Docker(docker.socket) as asked:
        argv, env = ["sh", "-c", script], {"WORD": "a word"}
        async with asked.execute(shell, argv, user="nobody", env=env, stdin=fed(*pieces)) as command:
            said = await output(command)
        async with asked.execute(shell, ["head", "-c", "1"], stdin=fed(*pieces)) as command:
            assert await output(command) == b"\0", "who reads no more than this has not failed"
    assert said == b"a word nobody\n" + b"".join(pieces)


async def test_what_feeds_a_command_may_fail_and_the_command_with_it(docker: Docker, shell: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"part"
        message = "the archive is broken"
        raise LookupError(message)

    async with engine.Docker(docker.socket) as asked:
        with pytest.raises(LookupError, match="the archive is broken"):
            async with asked.execute(shell, ["cat"], stdin=broken()) as command:
                await output(command)


async def test_a_command_that_takes_too_long_or_loses_its_container_is_given_up(docker: Docker, shell: str) -> None:
    async with engine.Docker(docker.socket) as asked:
        with pytest.raises(CommandTooSlow, match=r"within 0\.3 s"):
            async with asked.execute(shell, ["sleep", "100"], seconds=0.3) as command:
                await output(command)
        async with asked.execute(shell, ["sh", "-c", "echo begun; sleep 100"]) as command:
            assert await anext(command) == b"begun\n"
            await asked.stop(shell, seconds=0)
            with pytest.raises((CommandFailed, CommandCutShort)):
                await anext(command)


ABANDON = """
import asyncio, sys
from pathlib import Path
from homelab_agent.backup.docker import Docker
async def main():
    argv = ["sh", "-c", "echo; exec sleep 777"]
    async with Docker(Path(sys.argv[1])) as asked, asked.execute(sys.argv[2], argv) as command:
        await anext(command)
asyncio.run(main())
"""


def test_a_command_that_is_left_is_killed(docker: Docker, shell: str, request: pytest.FixtureRequest) -> None:
    argv = ("env", f"PYTHONPATH={request.config.rootpath}", sys.executable, "-c", ABANDON, "/run/docker.sock", shell)
    done = docker.run(*argv)
    assert done.returncode == 0, done.stderr
    until(lambda: "sleep 777" not in docker("exec", shell, "ps"), "the command is gone")


async def test_a_trial_has_no_network_and_leaves_nothing(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("restored\n")
    script = "cat /data/word; touch /data/mine; ls /sys/class/net"
    image = json.loads(docker("image", "inspect", "busybox"))[0]["Id"]
    async with engine.Docker(docker.socket) as asked:
        mount = Mount("bind", "", tmp_path, "/data", writable=True)
        trial = Scratch("homelab-agent-trial", image, [mount], ["sh", "-c", script], labels={"mine": "yes"})
        made = await asked.create(trial)
        await asked.start(made)
        assert await asked.exit_code(made, seconds=20) == 0
        assert docker("logs", made).split() == ["restored", "lo"]
        assert (tmp_path / "mine").exists()
        assert await asked.scratches() == [made]
        await asked.remove(made)
        await asked.remove(made)
        assert await asked.scratches() == []
        with pytest.raises(ImageGone):
            await asked.create(Scratch("homelab-agent-trial", "sha256:" + "0" * 64))


async def test_an_engine_that_hangs_or_is_gone_is_said_in_time(docker: Docker, shell: str) -> None:
    async with engine.Docker(docker.socket, patience=0.5) as asked:
        docker.freeze()
        with pytest.raises(DockerUnreachable, match=r"no answer within 0\.5 s") as raised:
            await asked.inventory()
        assert "systemctl restart docker" in raised.value.repair
        for call in (asked.container(shell), asked.pause(shell), asked.unpause(shell)):
            with pytest.raises(DockerUnreachable):
                await call
        with pytest.raises(DockerUnreachable):
            async with engine.Docker(docker.socket, patience=0.5):
                pass
        docker.thaw()
    with pytest.raises(DockerUnreachable):
        async with engine.Docker(docker.directory / "none"):
            pass


async def test_a_command_whose_engine_is_killed_was_cut_short(docker: Docker, shell: str) -> None:
    argv = ["sh", "-c", "echo begun; sleep 100"]
    async with engine.Docker(docker.socket) as asked, asked.execute(shell, argv) as command:
        await anext(command)
        await asyncio.to_thread(docker.kill)
        with pytest.raises(CommandCutShort):
            await anext(command)


async def test_a_copy_tells_how_a_share_is_mounted_without_its_password(docker: Docker, tmp_path: Path) -> None:
    options = ("type=cifs", "device=//nas/photos", "o=username=me,password=hidden,vers=3.0")
    docker("volume", "create", *(f"--opt={one}" for one in options), "photos")
    share = "--mount=type=volume,src=photos,dst=/photos,volume-nocopy"
    docker("create", "--name", "app", "--volume=data:/data", share, "busybox", "sleep", "1000")
    house = House(docker, tmp_path)
    about = (await house.engine.contents((await house.take(volumes=["data"])).archive.id)).about
    assert about["volumes"]["photos"]["options"] == {
        "type": "cifs", "device": "//nas/photos", "o": "username=me,vers=3.0",
    }  # fmt: skip
    assert about["volumes"]["photos"]["left_out"] == ["password (of o)"]
    assert "hidden" not in json.dumps(about)
