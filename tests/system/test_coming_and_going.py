"""From `make run` to a service and away again: what was gathered is taken over, and stays when the service goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import Agent
from tests.installed import CONFIG, SERVICE, STATE, Checkout, bare_with_checkout
from tests.neighbours.machine import Machine
from tests.waiting import until

pytestmark = pytest.mark.timeout(500)

SAMPLED = "SELECT count(*) > 0 FROM cpu WHERE host = 'testhost'"
"""Whether there is a sample of the agent before, whose host was called so."""
PLACES = ("/etc", "/opt", "/usr", "/var/lib", "/var/cache", "/run")


@pytest.fixture(scope="module")
def host() -> Iterator[Checkout]:
    """The checkout on a bare machine, where nothing was installed yet."""
    with bare_with_checkout() as one:
        yield one


@pytest.fixture
def gathered(agent: Agent) -> Path:
    """The state of an agent that has run, has its samples in PostgreSQL, and has ended in order."""
    agent.start_with_database()
    until(lambda: agent.sql("SELECT 1 FROM tick"), "it has sampled", seconds=60)
    agent.stop()
    return agent.state


def rows(host: Checkout, query: str) -> str:
    return str(host.agent("db", "psql", "-Atc", query))


def files(machine: Machine) -> set[str]:
    """Return every path of the machine that could be a trace of us."""
    found = machine("find", *PLACES, "-xdev").splitlines()
    return {path for path in found if not path.endswith("/homelab-agent-tests.conf")}  # the machine's own


def put(host: Checkout, state: Path, *, owner: str) -> str:
    """Put an agent's state where `make run` of that user has it; return where."""
    machine = host.machine
    home = machine("getent", "passwd", owner).split(":")[5]
    where = f"{home}/.local/state/homelab-agent" if owner != "root" else STATE
    machine("mkdir", "--parents", str(Path(where).parent))
    ignored = shutil.ignore_patterns("*.sock", ".s.PGSQL*")
    shutil.copytree(state, machine.path(where), symlinks=True, ignore=ignored)
    machine("chown", "--recursive", f"{owner}:", home if owner != "root" else where)
    return where


def ended(machine: Machine, unit: str) -> bool:
    return machine.show(unit)["ActiveState"] in {"failed", "inactive"}


def killed_when_there_is(host: Checkout, pattern: str) -> None:
    """Run `make install` and kill it, with all it has started, as soon as such a file is there."""
    machine = host.machine
    machine("systemd-run", "--quiet", "--unit=first", "--collect", *host.command("install", SUDO_USER="anna"))
    until(lambda: machine.run("sh", "-c", f"ls {pattern}").returncode == 0, f"{pattern} is there", seconds=250)
    machine("systemctl", "kill", "--signal=SIGKILL", "first.service")
    until(lambda: ended(machine, "first.service"), "it is dead")


def test_killed_in_the_middle_nothing_is_enabled_and_again_it_comes_up_with_what_was_gathered(
    host: Checkout, gathered: Path
) -> None:
    machine = host.machine
    machine("useradd", "--create-home", "anna")
    theirs = put(host, gathered, owner="anna")
    host.bring_wheels()
    for pattern in ("/opt/homelab-agent/releases/*/pyvenv.cfg", "/etc/homelab-agent/config.toml"):
        killed_when_there_is(host, pattern)
        assert machine.run("systemctl", "is-enabled", SERVICE).returncode != 0
        assert machine.run("systemctl", "is-active", "homelab-agent.socket").returncode != 0
    said = host.made("install", SUDO_USER="anna")
    assert f"copied {theirs} to {STATE}" in said
    assert "sudo usermod -aG homelab anna" in said
    assert machine.show(SERVICE)["ActiveState"] == "active"
    until(host.database_answers, "the database is there", seconds=60)
    assert rows(host, SAMPLED) == "t"
    assert machine.run("test", "-e", f"{theirs}/state.db").returncode == 0, "theirs stays theirs"
    assert machine("stat", "--format=%U", f"{theirs}/state.db") == "anna"


def test_uninstalled_nothing_but_data_is_left(host: Checkout) -> None:
    machine = host.machine
    with_it = files(machine)
    machine("homelab-agent", "config", "set", "metrics.interval", "7")
    said = host.made("uninstall")
    assert f"Its data stays in {STATE}" in said
    gone, left = with_it - files(machine), files(machine)
    for place in ("/opt/homelab-agent", "/usr/local/bin/homelab-agent", "/run/homelab-agent"):
        assert place in gone, place
    named = {path for path in left if "homelab" in path and not path.startswith((STATE, "/etc/homelab-agent"))}
    assert named == set()
    assert machine.run("systemctl", "cat", SERVICE).returncode != 0
    assert machine("systemctl", "--failed", "--no-legend") == ""
    host.made("uninstall")  # once more it is no error


def test_installed_again_it_takes_over_what_root_has_gathered_and_the_configuration(
    host: Checkout, gathered: Path
) -> None:
    machine = host.machine
    machine("rm", "-rf", STATE)
    put(host, gathered, owner="root")
    machine("systemd-run", "--quiet", "--unit=holder", "flock", f"{STATE}/agent.lock", "sleep", "infinity")
    assert "end it with Ctrl-C, then: make install" in host.refused("install")
    assert machine.run("systemctl", "is-enabled", SERVICE).returncode != 0
    machine("systemctl", "stop", "holder.service")
    said = host.made("install")
    assert f"took over {STATE}, which make run has gathered as root" in said
    assert machine("find", STATE, "!", "-user", "homelab-agent") == ""
    assert "interval = 7" in machine("cat", CONFIG)
    until(host.database_answers, "the database is there", seconds=60)
    assert rows(host, SAMPLED) == "t"


def test_purged_everything_is_gone_but_only_after_a_question(host: Checkout) -> None:
    machine = host.machine
    assert "Nothing was removed." in host.refused("uninstall", PURGE="1")
    assert machine.show(SERVICE)["ActiveState"] == "active"
    host.made("uninstall", PURGE="1", YES="1")
    assert {path for path in files(machine) if "homelab" in path} == set()
    accounts = machine("cat", "/etc/passwd", "/etc/group")
    assert "homelab" not in accounts
