"""Actions and probes run where and as whom the configuration says, within bounds, and end with all they started."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.privilege import VerbFailed, VerbRefused
from homelab_agent.gitops import owned
from homelab_agent.gitops.execution import LINES_MAX, TAIL_LINES
from homelab_agent.gitops.settings import Repository
from tests import gitops_verb, waiting
from tests.clock import until
from tests.gitops_half import OWNER, ROOT, Half, Site, serving
from tests.neighbours import compose
from tests.neighbours import machine as machines
from tests.neighbours.docker import PROGRAMS, Docker
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.machine import Machine
from tests.neighbours.neighbour import need_root
from tests.processes import is_alive

FILES = {
    "where.sh": '#!/bin/sh\npwd\nid -u\necho "$0 $*"\ncat\nenv | sort\n',
    "dir/in.sh": "#!/bin/sh\npwd\necho it is $1 >&2\nexit 3\n",
    "Makefile": "first:\n\t@echo first\nsecond:\n\t@echo second\n",
    "dir/Makefile": "all:\n\t@echo below\n-f:\n\t@echo dash\n",
}  # fmt: skip
MODES = {"where.sh": "100755", "dir/in.sh": "100755"}


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def site(open_directory: Path, git_remote: GitRemote) -> Site:
    git_remote.commit(FILES, modes=MODES)
    return Site(open_directory, git_remote, "file")


def acting(site: Site, *actions: dict[str, Any]) -> str:
    """Return a configuration with these actions, called `0`, `1` and so on."""
    return site.settings(sections={"action": [{"name": str(number), **one} for number, one in enumerate(actions)]})


def printed(half: Half) -> list[str]:
    return [line for _, line in half.lines]


# Where, and as whom


async def test_a_command_runs_as_the_owner_in_the_working_copy_and_knows_nothing_else(site: Site) -> None:
    plain = {"command": ["./where.sh", "--x", "a b", "$HOME;*"], "environment": {"COLOUR": "blue"}}
    async with serving(site.directory, acting(site, plain)) as half:
        done = await half("run_action", action="0")
    assert (done["state"], done["code"]) == ("ok", 0)
    where, who, words, *variables = printed(half)
    assert (where, who) == (str(site.path), str(OWNER))
    assert words == "./where.sh --x a b $HOME;*"
    assert "COLOUR=blue" in variables
    names = {line.partition("=")[0] for line in variables}
    assert names <= {"COLOUR", "HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "PWD", "HOMELAB_AGENT_CHILD"}
    assert done["tail"].splitlines() == printed(half)


async def test_what_fails_says_so_with_its_last_words(site: Site) -> None:
    actions = (
        {"command": ["./in.sh", "broken"], "directory": "dir"},
        {"command": ["./not-there.sh"]},
        {"command": ["homelab-agent-not-there"]},
        {"command": ["sh", "-c", "kill -9 $$"]},
    )
    async with serving(site.directory, acting(site, *actions)) as half:
        done = await half("run_action", action="0")
        assert (done["state"], done["code"]) == ("failed", 3)
        assert done["tail"] == f"{site.path}/dir\nit is broken"
        assert ("stderr", "it is broken") in half.lines
        done = await half("run_action", action="1")
        assert (done["state"], done["code"]) == ("failed", 127)
        assert "not-there.sh: not found" in done["tail"]
        with pytest.raises(VerbFailed, match="homelab-agent-not-there is not installed"):
            await half("run_action", action="2")
        assert (await half("run_action", action="3"))["code"] == -9


async def test_as_another_user_where_that_is_set(site: Site) -> None:
    need_root("to be another user")
    who = {"command": ["sh", "-c", "id -un; id -Gn; echo $HOME"]}
    as_root, as_daemon = {**who, "run_as": "root"}, {**who, "run_as": "daemon"}
    async with serving(site.directory, acting(site, as_root, as_daemon, {**who, "run_as": "not-there"})) as half:
        assert (await half("run_action", action="0"))["tail"].splitlines()[0] == "root"
        assert (await half("run_action", action="1"))["tail"].splitlines() == ["daemon", "daemon", "/usr/sbin"]
        with pytest.raises(VerbFailed, match="no user not-there"):
            await half("run_action", action="2")


async def test_a_directory_that_leads_out_of_the_working_copy_is_not_entered(site: Site) -> None:
    (site.directory / "outside").mkdir()
    for name, leads_to in (("out", ".."), ("far", str(site.directory / "outside")), ("in", "dir"), ("loop", "loop")):
        (site.path / name).symlink_to(leads_to)
    names = ("out", "far", "loop", "none", "in", "in/.", "Makefile")
    actions = [{"command": ["pwd"], "directory": name} for name in names]
    async with serving(site.directory, acting(site, *actions)) as half:
        for number in (0, 1):
            with pytest.raises(VerbFailed, match="does not lie in the working copy"):
                await half("run_action", action=str(number))
        for number in (2, 3, 6):
            with pytest.raises(VerbFailed, match="no directory"):
                await half("run_action", action=str(number))
        for number in (4, 5):
            assert (await half("run_action", action=str(number)))["tail"] == f"{site.path}/dir"


async def test_what_is_put_in_the_place_of_an_open_working_copy_is_not_what_is_worked_in(site: Site) -> None:
    repository = Repository(name="site", full_name="octo/site", directory=site.path)
    async with owned.opened(repository) as copy:
        assert (copy.user.uid, copy.user.groups) == (OWNER, tuple(os.getgrouplist(copy.user.name, copy.user.gid)))
        site.path.rename(site.directory / "elsewhere")
        site.path.symlink_to("/etc")
        async with copy.inside("dir") as directory:
            assert (Path(f"/proc/self/fd/{directory}") / "in.sh").exists()
    site.path.unlink()


# Within bounds


FAMILY = (
    "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000 >/dev/null 2>&1' &);"
    "sh -c 'trap \"\" TERM; echo $$; sleep 1000' & echo $$; while :; do sleep 1000; done"
)
"""Three that do not want to end: the program, one in its group, one in a session of its own."""


async def test_one_that_hangs_is_ended_with_all_it_has_started(site: Site) -> None:
    async with serving(site.directory, acting(site, {"command": ["sh", "-c", FAMILY], "timeout": 2.0})) as half:
        done = await half("run_action", action="0")
        assert done["state"] == "timed_out"
        assert done["seconds"] >= 2.0
        pids = [int(line) for line in done["tail"].splitlines()]
        assert len(pids) == 3
        await until(lambda: not any(map(is_alive, pids)), "all have ended")


async def test_when_who_called_goes_away_it_ends(site: Site) -> None:
    async with serving(site.directory, acting(site, {"command": ["sh", "-c", FAMILY]})) as half:
        asked = asyncio.create_task(half("run_action", action="0"))
        await until(lambda: len(half.lines) == 3, "it runs", seconds=30)
        pids = [int(line) for line in printed(half)]
        asked.cancel()
        await until(lambda: not any(map(is_alive, pids)), "all have ended", seconds=30)


async def test_a_gigabyte_of_output_costs_neither_memory_nor_the_end_of_it(site: Site) -> None:
    script = "yes $(printf %1000s x | tr ' ' y) | head -c 1G; echo; echo the end; echo error >&2; exit 5"
    async with serving(site.directory, acting(site, {"command": ["sh", "-c", script], "timeout": 100.0})) as half:
        done = await half("run_action", action="0")
        high = highest_memory(site)
    assert (done["state"], done["code"]) == ("failed", 5)
    assert {"the end", "error"} <= set(done["tail"].splitlines())
    assert len(half.lines) <= LINES_MAX + TAIL_LINES + 2
    assert {"the end", "error"} <= set(printed(half)[-TAIL_LINES:]), "the last is told after all"
    assert [line for line in printed(half) if "lines were left out" in line]
    assert len(done["tail"].splitlines()) <= TAIL_LINES
    assert len(done["tail"].splitlines()[0]) == 1000, "it begins with a whole line"
    assert high < 150 * 1024


def highest_memory(site: Site) -> int:
    """Return how much of it the site's half has ever used, in kB."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"serve" in words and str(site.directory / "config.toml").encode() in words:
                found.append(int((process / "status").read_text().partition("VmHWM:")[2].split()[0]))
    (high,) = found
    return high


async def test_limits_bind_and_secrets_do_not_show(site: Site) -> None:
    actions = (
        {"command": ["sh", "-c", "ulimit -n; ulimit -v"], "open_files": 99, "memory_max": 512 * 1024 * 1024},
        {"command": ["sh", "-c", "ulimit -n; ulimit -v"]},
        {
            "command": ["sh", "-c", "echo $API_TOKEN $LEVEL; echo $API_TOKEN >&2"],
            "environment": {"API_TOKEN": "sesame-open", "LEVEL": "info"},
        },
    )
    async with serving(site.directory, acting(site, *actions)) as half:
        assert (await half("run_action", action="0"))["tail"].split() == ["99", "524288"]
        assert (await half("run_action", action="1"))["tail"].split() == ["4096", "unlimited"]
        half.lines.clear()
        assert sorted((await half("run_action", action="2"))["tail"].splitlines()) == ["***", "*** info"]
        assert sorted(half.lines) == [("stderr", "***"), ("stdout", "*** info")]


# Kinds


async def test_make_makes_its_target_whatever_that_is_called(site: Site) -> None:
    below: dict[str, str] = {"directory": "dir"}
    kinds: list[dict[str, str]] = [{}, {"target": "second"}, below, {**below, "target": "-f"}, {"target": "none"}]
    async with serving(site.directory, acting(site, *({"kind": "make", **kind} for kind in kinds))) as half:
        said = [(await half("run_action", action=str(number)))["tail"] for number in range(5)]
    assert said[:4] == ["first", "second", "below", "dash"]
    assert "No rule to make target 'none'" in said[4]


STACK = """
services:
  web:
    image: busybox:latest
    container_name: homelab-agent-web
    command: sleep 1000
    stop_grace_period: 0s
    healthcheck: {test: "true", interval: 1s}
"""


async def test_compose_brings_its_stack_up(site: Site, docker: Docker) -> None:
    compose.plug_into(docker)
    site.write({"stack/compose.yaml": STACK})
    at_this_engine = {"DOCKER_HOST": f"unix://{docker.socket}", "DOCKER_CONFIG": str(docker.config), "PATH": PROGRAMS}
    action = {"kind": "compose", "directory": "stack", "run_as": "root", "environment": at_this_engine}
    async with serving(site.directory, acting(site, action)) as half:
        done = await half("run_action", action="0")
        assert done["state"] == "ok", done
        site.write({"stack/compose.yaml": "services: 1\n"})
        assert (await half("run_action", action="0"))["state"] == "failed"
    assert docker.state("homelab-agent-web")["Running"]


async def test_a_container_holds_while_it_runs_and_is_not_unhealthy(site: Site, docker: Docker) -> None:
    run = ("run", "--detach", "--stop-timeout", "0")
    docker(*run, "--name", "plain", "busybox", "sleep", "1000")
    ill = ("--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1")
    docker(*run, *ill, "--name", "ill", "busybox", "sleep", "1000")
    docker(*run, "--name", "over", "busybox", "true")
    await until(lambda: docker.state("ill")["Health"]["Status"] == "unhealthy", "it is ill", seconds=60)
    await until(lambda: not docker.state("over")["Running"], "it is over", seconds=60)
    names = ("plain", "ill", "over", "none", "--help")
    config = site.directory / "config.toml"
    config.write_text(site.settings(sections={"probe": [{"kind": "container", "target": name} for name in names]}))
    said = []
    for number in range(len(names)):
        done = docker.run(*gitops_verb.command(config, "run_probe", repository="site", probe=number))
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
    assert [answer["holds"] for answer in said] == [True, False, False, False, False]
    assert [answer["detail"] for answer in said[:3]] == ["it is running", "it is running, unhealthy", "it is exited"]
    assert "no such container: none" in said[3]["detail"].lower()


# Probes of the owner's


async def test_a_command_holds_when_it_exits_0(site: Site) -> None:
    probes: list[dict[str, Any]] = [
        {"kind": "command", "command": ["test", "-x", "where.sh"]},
        {"kind": "command", "command": ["./dir/in.sh", "ill"]},
        {"kind": "command", "command": ["homelab-agent-not-there"]},
        {"kind": "command", "command": ["sh", "-c", f"test $(id -u) = {OWNER}"]},
        {"kind": "http", "target": "http://127.0.0.1/"},
    ]
    async with serving(site.directory, site.settings(sections={"probe": probes})) as half:
        assert (await half("run_probe", probe=0)) == {"holds": True, "detail": "it ended with 0"}
        assert (await half("run_probe", probe=1)) == {"holds": False, "detail": "it ended with 3: it is ill"}
        assert "not installed" in (await half("run_probe", probe=2))["detail"]
        assert (await half("run_probe", probe=3))["holds"]
        for number in (4, 5):
            with pytest.raises(VerbRefused):
                await half("run_probe", probe=number)


# systemd


@pytest.fixture
def machine() -> Iterator[Machine]:
    """One that has this checkout."""
    with machines.running(shared=[ROOT]) as one:
        yield one


UNIT = "[Service]\nExecStart=/bin/sleep 1000\n"


def test_units_are_restarted_in_order_asked_for_and_the_agent_too(machine: Machine, site: Site) -> None:
    for name in ("first", "second"):
        machine.install(f"{name}.service", UNIT)
    machine.systemctl("start", "first.service")
    machine("mkdir", "-p", "/srv/site")
    actions = [
        {"name": "both", "kind": "systemctl", "units": ["first.service", "second.service"]},
        {"name": "none", "kind": "systemctl", "units": ["none.service", "first.service"]},
        {"name": "dash", "kind": "systemctl", "units": ["--help"]},
    ]
    probes = [{"kind": "unit", "target": name} for name in ("first.service", "none.service", "--version")]
    machine.path("/srv/config.toml").write_text(
        site.settings(sections={"action": actions, "probe": probes}).replace(str(site.path), "/srv/site")
    )

    def do(verb: str, **arguments: object) -> dict[str, Any]:
        done = machine.run(*gitops_verb.command(Path("/srv/config.toml"), verb, **arguments))
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    before = machine.show("first.service")["MainPID"]
    assert do("run_action", repository="site", action="both")["state"] == "ok"
    restarted = machine.show("first.service")["MainPID"]
    assert restarted != before
    assert machine.show("second.service")["ActiveState"] == "active"
    failed = do("run_action", repository="site", action="none")
    assert failed["state"] == "failed"
    assert "none.service not found" in failed["tail"]
    assert machine.show("first.service")["MainPID"] == restarted, "one that fails is the last"
    assert do("run_action", repository="site", action="dash")["state"] == "failed"
    asked = [do("run_probe", repository="site", probe=number) for number in range(3)]
    assert [answer["holds"] for answer in asked] == [True, False, False]
    assert [answer["detail"] for answer in asked[:2]] == ["it is active", "it is inactive"]

    said = do("restart_agent")
    assert "homelab-agent.service not found" in said["error"]
    assert "restart_agent = false" in said["repair"]
    machine.install("homelab-agent.service", UNIT)
    machine.systemctl("start", "homelab-agent.service")
    agent = machine.show("homelab-agent.service")["MainPID"]
    assert do("restart_agent") == {}
    waiting.until(lambda: machine.show("homelab-agent.service")["MainPID"] not in {agent, "0"}, "it was restarted")
