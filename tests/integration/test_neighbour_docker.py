"""The Docker Engine and Compose of the tests are the real ones, break as they say, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.neighbours import compose, images
from tests.neighbours import docker as neighbour
from tests.neighbours.docker import Docker
from tests.neighbours.leftovers import Traces
from tests.neighbours.things import Things
from tests.processes import children, family, is_alive
from tests.waiting import until

QUICK = ("--stop-timeout", "0", "busybox", "sleep", "1000")
"""An idle container that dockerd need not wait for."""


def test_it_is_debians_engine_beside_no_other(docker: Docker) -> None:
    assert docker("version", "--format", "{{.Server.Version}}").startswith(neighbour.NEIGHBOUR.version())
    assert docker("info", "--format", "{{.DockerRootDir}} {{.Driver}}") == f"{docker.directory}/data overlay2"
    assert docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}") == images.BUSYBOX
    assert docker.run("docker", "image", "ls", "-q").stdout, "inside, the usual socket is this engine's"
    assert not Path("/run/docker.sock").exists()


def test_containers_meet_by_name_and_publish_ports_inside(docker: Docker) -> None:
    serve = "echo from the container >/tmp/index.html; exec httpd -f -h /tmp"
    docker("network", "create", "net")
    docker("run", "-d", "--network", "net", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", serve)
    asked = docker("run", "--rm", "--network", "net", "busybox", "wget", "-q", "-O-", "http://web/")
    published = docker.run("busybox", "wget", "-q", "-O-", "http://127.0.0.1:8080/")
    assert asked == published.stdout.strip() == "from the container"


def test_a_memory_limit_holds(docker: Docker) -> None:
    eat = ("run", "--name", "eats", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero")
    with pytest.raises(AssertionError):
        docker(*eat)
    assert docker.state("eats")["OOMKilled"]
    assert docker.state("eats")["ExitCode"] == 137


def test_programs_of_this_host_become_an_image(docker: Docker) -> None:
    images.of_host(docker, "tools:1.2", images.of_package("zstd"), changes=['ENTRYPOINT ["/usr/bin/zstd"]'])
    here = subprocess.run(["/usr/bin/zstd", "--version"], capture_output=True, text=True, check=True)
    assert docker("run", "--rm", "tools:1.2", "--version") == here.stdout.strip()


def test_nothing_can_be_pulled(docker: Docker) -> None:
    with pytest.raises(AssertionError, match="dial"):
        docker("pull", "postgres:16")


def test_what_a_test_makes_is_removed(docker: Docker) -> None:
    before = Things.of(docker)
    docker("network", "create", "net")
    docker("volume", "create", "data")
    docker("tag", "busybox", "mine:1")
    docker("run", "-d", "--network", "net", "-v", "data:/data", "-v", "/anonymous", "mine:1", "sleep", "1000")
    docker("commit", docker("ps", "-q"), "child:1")
    before.remove_newer(docker)
    assert Things.of(docker) == before


def test_frozen_it_answers_nobody_and_thawed_it_goes_on(docker: Docker) -> None:
    docker.freeze()
    with pytest.raises(TimeoutError):
        docker.api("GET", "/_ping", seconds=0.5)
    docker.thaw()
    assert docker.api("GET", "/_ping") == b"OK"


def test_killed_alone_it_leaves_containers_running_and_ends_them_at_the_next_start(docker: Docker) -> None:
    docker("run", "-d", "--name", "plain", *QUICK)
    docker("run", "-d", "--name", "always", "--restart", "always", *QUICK)
    first = docker.state("always")["Pid"]
    docker.kill()
    with pytest.raises(OSError, match="refused"):
        docker.api("GET", "/_ping")
    assert len(docker.run("pgrep", "-fx", "sleep 1000").stdout.split()) == 2
    assert not docker.run("pgrep", "-x", "containerd").stdout
    docker.start()
    assert docker.state("plain")["ExitCode"] == 137
    until(lambda: docker.state("always")["Pid"] not in {0, first}, "the container is started again")


def test_with_live_restore_the_next_start_takes_containers_over() -> None:
    with neighbour.running(settings={"live-restore": True}) as docker:
        images.busybox(docker)
        docker("run", "-d", "--name", "plain", *QUICK)
        before = docker.state("plain")
        docker.kill()
        docker.start()
        assert docker.state("plain") == before


def test_a_restart_stops_containers_and_brings_back_what_shall_run_always(docker: Docker) -> None:
    docker("run", "-d", "--name", "plain", *QUICK)
    docker("run", "-d", "--name", "always", "--restart", "always", *QUICK)
    before = docker.pid
    docker.restart()
    assert docker.pid != before
    assert docker.state("plain")["Status"] == "exited"
    until(lambda: docker.state("always")["Running"], "the container is started again")


def test_after_a_power_cut_the_stopped_stay_stopped_and_the_others_follow_their_policy(docker: Docker) -> None:
    for name, policy in {"stopped": "unless-stopped", "always": "always", "plain": "no"}.items():
        docker("run", "-d", "--name", name, "--restart", policy, *QUICK)
    docker("exec", "always", "sh", "-c", "echo kept >/file")
    docker("stop", "stopped")
    everything = family(docker.enclosure.first)
    docker.power_cut()
    assert not any(map(is_alive, everything))
    docker.start()
    until(lambda: docker.state("always")["Running"], "the container is started again")
    assert docker("exec", "always", "cat", "/file") == "kept"
    assert docker.state("stopped")["Status"] == "exited"
    assert docker.state("plain")["ExitCode"] == 255


def test_frozen_or_full_it_can_still_be_cut_off() -> None:
    with neighbour.running(disk_megabytes=48) as docker:
        images.busybox(docker)
        docker.fill()
        with pytest.raises(AssertionError, match="no space left"):
            docker("run", "--rm", "busybox", "true")
        docker.free()
        docker("run", "--rm", "busybox", "true")
        docker.freeze()
        docker.power_cut()
        docker.start()
        docker("run", "--rm", "busybox", "true")


PROJECT = """
services:
  web:
    image: busybox
    command: [sh, -c, 'cp /run/secrets/word /tmp/index.html; exec httpd -f -h /tmp']
    init: true
    secrets: [word]
    mem_limit: 32m
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], interval: 0.5s, retries: 20}
  reader:
    image: busybox
    command: [wget, -q, -O-, 'http://web/']
    depends_on: {web: {condition: service_healthy}}
secrets: {word: {file: ./word}}
"""


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> compose.Project:
    """A project of two services, one of which waits for the other's health."""
    (tmp_path / "word").write_text("a word\n")
    return compose.Project(docker, tmp_path, PROJECT)


def test_compose_brings_a_project_up_in_order_and_down(docker: Docker, project: compose.Project) -> None:
    assert compose.NEIGHBOUR.version() == compose.VERSION
    before = Things.of(docker)
    project("up", "--detach", "--quiet-pull")
    until(lambda: project.services()["reader"]["State"] == "exited", "the reader has read")
    assert project.services()["web"]["Health"] == "healthy"
    assert project("logs", "--no-log-prefix", "reader") == "a word"
    project("down", "--timeout", "1")
    assert Things.of(docker) == before


def test_compose_refuses_a_bad_key_and_is_dockers_plug_in(docker: Docker, project: compose.Project) -> None:
    compose.plug_into(docker)
    assert docker("compose", "version", "--short") == compose.VERSION
    (project.directory / "compose.yaml").write_text("services: {web: {imagine: busybox}}")
    refused = project.run("config", "--quiet")
    assert refused.returncode != 0
    assert "imagine" in refused.stderr


def traces(directory: Path) -> list[str]:
    """Return what this host shows of the engine in that directory, and of any engine's network."""
    traces = Traces.now()
    return [*traces.of(directory), *traces.found & {"interface docker0"}]


def test_nothing_is_left_of_an_engine_that_was_closed_amid_its_work() -> None:
    mine = set(children(os.getpid()))
    with neighbour.running(disk_megabytes=48) as docker:
        images.busybox(docker)
        docker("network", "create", "net")
        docker("run", "-d", "--network", "net", "-p", "8080:80", "-v", "data:/data", *QUICK)
        everything = family(docker.enclosure.first)
        kinds = {trace.split()[0].rstrip("0123456789") for trace in traces(docker.directory)}
        assert kinds == {"cgroup", "file", "loop"}
    assert not any(map(is_alive, everything))
    until(lambda: not traces(docker.directory), "nothing is left", seconds=5)
    assert not set(children(os.getpid())) - mine


UNTIDY = """
import signal
from tests.neighbours import docker, images
with docker.running(disk_megabytes=48) as engine:
    images.busybox(engine)
    engine("run", "-d", "busybox", "sleep", "1000")
    print(engine.directory, engine.enclosure.first, flush=True)
    signal.pause()
"""


def test_nothing_is_left_when_the_tests_are_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", UNTIDY], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        directory, first = tests.stdout.readline().split()
        everything = family(int(first))
        assert len(everything) > 4
        tests.kill()
    until(lambda: not any(map(is_alive, everything)), "no process is left")
    until(lambda: not traces(Path(directory)), "nothing is left")
