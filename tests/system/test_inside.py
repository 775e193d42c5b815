"""What capabilities do inside the service's sandbox, with a Docker that comes later; what is seen to after a kill."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.installed import CONFIG, SERVICE, Checkout
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)  # the first one installs, on whatever else this host does

HALF = "homelab-agent-privileged.service"
RESUME = "homelab-agent-resume.service"
WRITER = "homelab-agent-writer"
OWNER, REMOTE, SITE = "carol", "/home/carol/remote.git", "/srv/site"
SETTINGS = f"""
[backup]
schedule = ""
verify_schedule = ""
drill_schedule = ""

[[backup.set]]
name = "shop"
volumes = ["shop"]
mode = "stop"

[gitops]
poll = 0

[[gitops.repository]]
name = "site"
full_name = "octo/site"
directory = "{SITE}"
allow_file = true

[[gitops.repository.action]]
name = "restart"
kind = "systemctl"
units = ["site.service"]
"""
SITE_UNIT = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=cp /srv/site/page /run/site-page\n"


@pytest.fixture(scope="module")
def house(equipped: Checkout) -> Checkout:
    """A service that backs up and deploys; Docker, whose containers it is about, does not run yet."""
    machine = equipped.machine
    machine.path(CONFIG).write_text(f"{machine.path(CONFIG).read_text()}\n{SETTINGS}")
    machine("useradd", "--create-home", OWNER)
    machine("install", "--directory", f"--owner={OWNER}", SITE)
    as_owner(equipped, f"git init --quiet --bare --initial-branch=main {REMOTE}")
    commit(equipped, "first")
    as_owner(equipped, f"git clone --quiet {REMOTE} {SITE}")
    machine.install("site.service", SITE_UNIT)
    machine("ip", "link", "add", "homelab0", "type", "veth", "peer", "name", "homelab1")
    machine("ip", "address", "add", "192.0.2.7/32", "dev", "homelab0")
    machine("ip", "link", "set", "homelab0", "up")
    machine.systemctl("restart", SERVICE)
    until(equipped.database_answers, "the database is there", seconds=60)
    return equipped


@pytest.fixture(scope="module")
def docker(house: Checkout) -> Iterator[None]:
    """Docker, with a container that writes to a volume of root's."""
    machine = house.machine
    machine.systemctl("start", "docker.service")
    machine("sh", "-c", "tar --directory=/ --create bin/busybox | docker import - busybox")
    much = "umask 077; [ -e /data/much ] || dd if=/dev/urandom of=/data/much bs=1M count=150 2>/dev/null"
    write = f"{much}; while :; do date >>/data/log; sleep 1; done"
    words = ("--detach", "--init", "--name", WRITER, "--volume", "shop:/data", "--restart", "unless-stopped")
    machine("/usr/bin/docker", "run", *words, "busybox", "/bin/busybox", "sh", "-c", f"PATH=/bin; {busy(write)}")
    until(lambda: machine.run("test", "-s", "/var/lib/docker/volumes/shop/_data/log").returncode == 0, "it writes")
    yield
    machine("/usr/bin/docker", "rm", "--force", WRITER)


def busy(script: str) -> str:
    """Let busybox's own commands be found, of which the image has no links."""
    return "".join(f'{name}() {{ /bin/busybox {name} "$@"; }}; ' for name in ("dd", "date", "sleep")) + script


def as_owner(house: Checkout, script: str) -> str:
    """Run a script as the owner of the working copy."""
    return house.machine("runuser", "--user", OWNER, "--", "env", f"HOME=/home/{OWNER}", "sh", "-ec", f"cd; {script}")


def commit(house: Checkout, page: str) -> str:
    """Push a commit with this page to the remote; return its hash."""
    who = "-c user.name=t -c user.email=t@example.org"
    words = (
        "rm -rf push",
        f"git clone --quiet {REMOTE} push 2>&1",
        "cd push",
        f"echo {page} >page",
        "git add page",
        f"git {who} commit --quiet --message={page}",
        "git push --quiet origin HEAD:main",
        "git rev-parse HEAD",
    )
    return as_owner(house, "; ".join(words)).splitlines()[-1]


def finding(house: Checkout, check: str) -> dict[str, Any]:
    """Ask a check now, and return what it finds."""
    area = check.partition(".")[0]
    found = json.loads(house.machine.run("homelab-agent", "doctor", area, "--json").stdout)
    return next(dict(one) for one in found if one["check"] == check)


def state(house: Checkout) -> str:
    """Return how the container is, in Docker's word."""
    return house.machine("/usr/bin/docker", "inspect", "--format={{.State.Status}}", WRITER)


# What it reads and does


def test_without_docker_it_is_ready_and_says_so_and_goes_on_when_docker_comes(house: Checkout) -> None:
    assert house.machine.show(SERVICE)["ActiveState"] == "active"
    assert finding(house, "backup.docker")["state"] != "ok"
    house.machine.systemctl("start", "docker.service")
    until(lambda: finding(house, "backup.docker")["state"] == "ok", "Docker is found", seconds=60)


def test_interfaces_of_the_host_are_seen(house: Checkout) -> None:
    query = "SELECT count(*) FROM network_sample JOIN entity ON entity.id = entity_id WHERE label LIKE 'homelab0%'"
    ask = ("db", "psql", "-Atc", query)
    until(lambda: int(house.agent(*ask)) > 0, "the interface has a row", seconds=60)


def test_the_working_copy_of_another_user_is_moved_and_what_needs_root_is_done_after_it(house: Checkout) -> None:
    machine = house.machine
    head = commit(house, "second")
    house.agent("gitops", "sync", "site")
    assert machine("git", "-c", "safe.directory=*", "-C", SITE, "rev-parse", "HEAD") == head
    assert machine("stat", "--format=%U", f"{SITE}/page", f"{SITE}/.git/HEAD").split() == [OWNER, OWNER]
    assert machine("cat", "/run/site-page") == "second"


@pytest.mark.usefixtures("docker")
def test_a_volume_of_roots_is_backed_up_and_given_back(house: Checkout) -> None:
    house.agent("backup", "run", "shop")
    assert state(house) == "running"
    assert "all as they were written" in house.agent("restore", "shop", "--to", "/srv/back")
    machine = house.machine
    assert machine("stat", "--format=%U %a", "/srv/back/volumes/shop/much") == "root 600"
    machine("cmp", "/srv/back/volumes/shop/much", "/var/lib/docker/volumes/shop/_data/much")


# What is seen to after it


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize("killed", [HALF, SERVICE])
def test_containers_run_again_when_either_half_is_killed_while_they_stand_still(house: Checkout, killed: str) -> None:
    machine = house.machine
    before = machine.show(RESUME)["ConditionTimestampMonotonic"]
    with subprocess.Popen(machine.inside("homelab-agent", "backup", "run", "shop"), stdout=subprocess.DEVNULL) as asked:
        until(lambda: state(house) == "exited", "the container stands still", seconds=60)
        machine.kill(killed)
        until(lambda: state(house) == "running", "it runs again", seconds=60)
        asked.wait(60)
    until(lambda: machine.show(RESUME)["ConditionTimestampMonotonic"] != before, "systemd has looked, too")
    until(lambda: machine.show(SERVICE)["SubState"] == "running", "the service runs", seconds=60)


@pytest.fixture
def impatient(house: Checkout) -> Iterator[None]:
    """A watchdog that waits for eight seconds, and a root half that takes longer than that for a copy."""
    machine, drop_in = house.machine, f"{SERVICE}.d/50-impatient.conf"
    machine.install(drop_in, "[Service]\nWatchdogSec=8\nTimeoutAbortSec=3\n")
    machine.systemctl("restart", SERVICE)
    until(house.database_answers, "the database is there", seconds=60)
    yield
    machine("rm", f"/etc/systemd/system/{drop_in}")
    machine.systemctl("set-property", "--runtime", HALF, "CPUQuota=")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", SERVICE)


@pytest.mark.usefixtures("docker", "impatient")
def test_they_run_again_when_the_watchdog_ends_an_agent_that_stands_still_meanwhile(house: Checkout) -> None:
    machine, before = house.machine, house.process()
    with subprocess.Popen(machine.inside("homelab-agent", "backup", "run", "shop"), stdout=subprocess.DEVNULL) as asked:
        until(lambda: state(house) == "exited", "the container stands still", seconds=60)
        machine.systemctl("set-property", "--runtime", HALF, "CPUQuota=2%")
        machine.systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", SERVICE)
        until(lambda: house.process() not in {"0", before}, "it is killed and started again", seconds=60)
        machine.systemctl("set-property", "--runtime", HALF, "CPUQuota=")
        until(lambda: state(house) == "running", "the container runs again", seconds=60)
        asked.wait(60)
    [killed] = [one for one in machine.journal(f"--unit={SERVICE}") if "Watchdog timeout" in str(one["MESSAGE"])]
    at = datetime.fromtimestamp(int(killed["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
    ended, began = house.machine(
        "/usr/bin/docker", "inspect", "--format={{.State.FinishedAt}} {{.State.StartedAt}}", WRITER
    ).split()
    assert datetime.fromisoformat(ended) < at < datetime.fromisoformat(began)


@pytest.mark.usefixtures("docker")
def test_after_a_power_cut_they_run_again_at_boot(house: Checkout) -> None:
    machine = house.machine
    machine.systemctl("enable", "docker.service")
    with subprocess.Popen(machine.inside("homelab-agent", "backup", "run", "shop"), stdout=subprocess.DEVNULL) as asked:
        until(lambda: state(house) == "exited", "the container stands still", seconds=60)
        machine.power_cut()
        asked.wait(60)
    machine.boot()
    assert machine.show(RESUME)["ConditionResult"] == "yes"
    until(lambda: state(house) == "running", "it runs again", seconds=60)


# What doctor says of it


def test_doctor_says_how_confined_both_are_and_what_the_root_half_can_do(house: Checkout) -> None:
    sandbox = finding(house, "unit.sandbox")
    assert sandbox["state"] == "ok"
    assert "homelab-agent 1." in sandbox["detail"]
    assert "homelab-agent-privileged" in sandbox["detail"]
    assert "move a working copy forward" in finding(house, "unit.root_half")["detail"]
    for check in ("enabled", "sockets", "files", "program", "credentials"):
        assert finding(house, f"unit.{check}")["state"] == "ok"


def test_doctor_finds_what_was_done_to_the_units_and_its_repairs_mend_it(house: Checkout) -> None:
    machine = house.machine
    machine.systemctl("disable", SERVICE)
    machine.systemctl("stop", "homelab-agent-privileged.socket")
    loose = "homelab-agent.service.d/loose.conf"
    machine.install(loose, "[Service]\nProtectHome=no\nSupplementaryGroups=docker\n")
    for check, word in (
        ("sockets", "systemctl start"),
        ("enabled", "systemctl enable"),
        ("sandbox", "rm /etc/systemd"),
    ):
        found = finding(house, f"unit.{check}")
        assert found["state"] in {"failed", "degraded"}, found
        assert word in found["repair"]
        command = found["repair"].partition(": ")[2] if check == "sandbox" else found["repair"]
        machine("sh", "-ec", command.rpartition("away with it: ")[2].replace("sudo ", ""))
        assert finding(house, f"unit.{check}")["state"] == "ok"


def test_doctor_says_which_credential_is_not_given_and_which_is_gone(house: Checkout) -> None:
    machine = house.machine
    before, token = machine.path(CONFIG).read_text(), "/etc/homelab-agent/credentials/api-token"
    machine("cp", token, f"{token}-2")
    assert "not given to the service yet: api-token-2" in finding(house, "unit.credentials")["detail"]
    assert "credential:api-token" in before
    machine.path(CONFIG).write_text(before.replace("credential:api-token", "credential:api-token-2"))
    found = finding(house, "unit.credentials")
    assert (found["state"], "web.api_token" in found["detail"]) == ("failed", True)
    machine.path(CONFIG).write_text(before)
    machine("mv", f"{token}-2", token)
    assert finding(house, "unit.credentials")["state"] == "ok"
    machine("mv", token, "/root/away")
    assert "does not start again" in finding(house, "unit.credentials")["detail"]
    machine("mv", "/root/away", token)
