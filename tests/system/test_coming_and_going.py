"""From `make run` to a service and away again: what was gathered is taken over, and stays when the service goes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import Agent, running
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


def gathered_by(agent: Agent) -> Path:
    """Run an agent until its samples are in PostgreSQL, and end it in order; return its state."""
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


@pytest.fixture(scope="module")
def annas(host: Checkout) -> str:
    """Where anna's `make run` has left its state."""
    host.machine("useradd", "--create-home", "anna")
    with running(Path(tempfile.mkdtemp(prefix="homelab-agent-test-"))) as agent:
        agent.directory.chmod(0o755)
        where = put(host, gathered_by(agent), owner="anna")
    shutil.rmtree(agent.directory)
    return where


def is_nowhere_enabled(machine: Machine) -> bool:
    units = (SERVICE, "homelab-agent.socket", "homelab-agent-privileged.socket")
    asked = [machine.run("systemctl", word, unit) for unit in units for word in ("is-enabled", "is-active")]
    return all(done.returncode != 0 for done in asked)


@pytest.mark.parametrize("pattern", ["/opt/homelab-agent/releases/*/pyvenv.cfg", "/etc/homelab-agent/config.toml"])
def test_killed_in_the_middle_nothing_is_enabled(host: Checkout, annas: str, pattern: str) -> None:
    host.bring_wheels()
    killed_when_there_is(host, pattern)
    assert is_nowhere_enabled(host.machine)


def test_where_somebody_else_listens_it_says_who_and_enables_nothing(host: Checkout, annas: str) -> None:
    machine = host.machine
    machine("systemd-run", "--quiet", "--unit=other", "python3", "-m", "http.server", "--bind=127.0.0.1", "8085")
    until(lambda: machine.run("grep", "--quiet", ":1F95 ", "/proc/net/tcp").returncode == 0, "somebody listens at 8085")
    said = host.refused("install", SUDO_USER="anna")
    machine("systemctl", "stop", "other.service")
    assert re.search(r"Port 8085 of 127\.0\.0\.1 is taken by process \d+ \(python3", said)
    assert "So nothing was enabled or started" in said
    assert is_nowhere_enabled(machine)


def test_what_does_not_come_up_is_not_left_enabled(host: Checkout, annas: str) -> None:
    host.change("homelab_agent/commands/run.py", "redactor = Redactor()", "raise SystemExit('it is broken')")
    said = host.refused("install", SUDO_USER="anna")
    host.reset()
    assert "The agent did not come up; its units are disabled again" in said
    assert "it is broken" in said.partition("Its last words:")[2]
    assert f"put /usr/local/lib/systemd/system/{SERVICE}" in said.partition("What it had changed until then:")[2]
    assert is_nowhere_enabled(host.machine)


def test_after_all_that_it_comes_up_with_what_make_run_has_gathered(host: Checkout, annas: str) -> None:
    machine = host.machine
    said = host.made("install", SUDO_USER="anna")
    assert f"It goes on with the data in {STATE}" in said, "which an earlier one has copied"
    assert machine.systemctl("is-enabled", SERVICE) == "enabled"
    assert "sudo usermod -aG homelab anna" in said
    assert machine.show(SERVICE)["ActiveState"] == "active"
    until(host.database_answers, "the database is there", seconds=60)
    assert rows(host, SAMPLED) == "t"
    assert machine("stat", "--format=%U", f"{annas}/state.db") == "anna", "theirs stays theirs"


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
    host: Checkout, agent: Agent
) -> None:
    machine = host.machine
    machine("rm", "-rf", STATE)
    put(host, gathered_by(agent), owner="root")
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
