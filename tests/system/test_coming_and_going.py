"""From `make run` to a service and away again: what was gathered is taken over, and stays when the service goes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent import Agent, running
from tests.installed import CONFIG, HERE, SERVICE, STATE, Checkout, bare_with_checkout
from tests.neighbours.machine import Machine
from tests.waiting import until

pytestmark = pytest.mark.timeout(500)

SAMPLED = "SELECT count(*) > 0 FROM cpu WHERE host = 'testhost'"
"""Whether there is a sample of the agent before, whose host was called so."""
EMPTY = "/usr/local/share/fish/vendor_completions.d"
"""A directory that was there before us, with nothing in it."""
MINE = "/etc/systemd/system/homelab-agent.service.d/50-mine.conf"
RECORDS = "/srv/the records"
ASKED = "/srv/asked"
NOTES_WHO_ASKS = f"""\
from __future__ import annotations
import os, sys
try:
    print(os.getuid(), *sys.argv[1:], file=open("{ASKED}", "a"))
except OSError:
    pass
"""
"""A release that notes there as whom it is run, with which words; the service itself cannot."""
PLACES = ("/etc", "/opt", "/usr", "/var/lib", "/var/cache", "/run")


@pytest.fixture(scope="module")
def host() -> Iterator[Checkout]:
    """The checkout on a bare machine, where nothing was installed yet."""
    with bare_with_checkout() as one:
        one.machine("mkdir", "--parents", EMPTY)
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


def killed_when(host: Checkout, condition: Callable[[], bool], **given: str) -> None:
    """Run `make install` and kill it, with all it has started, as soon as that is so."""
    machine = host.machine
    words = host.command("install", SUDO_USER="anna", GROUP="yes", **given)
    machine("systemd-run", "--quiet", "--unit=first", "--collect", *words)
    until(condition, "it is as far as that", seconds=250)
    machine("systemctl", "kill", "--signal=SIGKILL", "first.service")
    until(lambda: ended(machine, "first.service"), "it is dead")


def told_to_builder(machine: Machine, word: str) -> bool:
    """Return whether the environment of a process of a dynamic user has such a word."""
    script = 'for each in /proc/[0-9]*; do ! grep -qs "$1" $each/environ || stat -c %u $each; done'
    users = machine.run("sh", "-c", script, "sh", word).stdout.split()
    return any(61184 <= int(user) <= 65519 for user in users)


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


def test_a_group_of_that_name_that_somebody_is_of_is_not_taken_unasked(host: Checkout) -> None:
    machine = host.machine
    machine("useradd", "bert")
    machine("groupadd", "--gid=700", "--users=bert", "homelab")
    said = host.refused("install").splitlines()
    assert "There is a group homelab already, and of it are: bert." in said[0]
    assert "sudo make install GROUP=yes" in said[1]


def test_a_command_that_pip_has_put_is_not_written_over(host: Checkout) -> None:
    command = "/usr/local/bin/homelab-agent"
    host.machine("cp", "/bin/true", command)
    said = host.refused("install", GROUP="yes")
    assert f"mv {command} {command}.old" in said.splitlines()[0]
    host.machine("rm", command)


@pytest.mark.parametrize("target", ["install", "run"])
def test_without_pythons_venv_there_is_one_line_with_what_brings_it(host: Checkout, target: str) -> None:
    module = host.machine("python3", "-c", "import ensurepip; print(*ensurepip.__path__)")
    package = host.machine("python3", "-c", "import sys; print('python%d.%d-venv' % sys.version_info[:2])")
    host.machine("mv", module, f"{module}.away")  # as on a Debian without python3-venv
    said = host.refused(target, GROUP="yes").splitlines()
    host.machine("mv", f"{module}.away", module)
    assert said[0] == f"Python's venv module is missing. Run: apt-get install -y {package}"
    assert host.machine.run("test", "-e", "/opt/homelab-agent").returncode == 1


def test_what_pip_is_told_is_nobodys_to_read(host: Checkout, annas: str) -> None:
    machine = host.machine
    host.bring_wheels()
    shown: list[str] = []

    def is_told() -> bool:
        shown.append(machine.systemctl("show", "homelab-agent-build.service"))
        return told_to_builder(machine, "hunter2")

    killed_when(host, is_told, https_proxy="http://me:hunter2@127.0.0.1:9")
    assert "ActiveState=active" in shown[-1]
    assert not [line for text in shown for line in text.splitlines() if "hunter2" in line]


@pytest.mark.parametrize("pattern", ["/opt/homelab-agent/releases/*/pyvenv.cfg", "/etc/homelab-agent/config.toml"])
def test_killed_in_the_middle_nothing_is_enabled(host: Checkout, annas: str, pattern: str) -> None:
    host.bring_wheels()
    killed_when(host, lambda: host.machine.run("sh", "-c", f"ls {pattern}").returncode == 0)
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
    host.machine("install", "--mode=666", "/dev/null", ASKED)
    host.change("homelab_agent/__main__.py", "from __future__ import annotations\n", NOTES_WHO_ASKS)
    host.change("homelab_agent/commands/run.py", "redactor = Redactor()", "raise SystemExit('it is broken')")
    said = host.refused("install", SUDO_USER="anna")
    host.reset()
    asked = [line.split(maxsplit=1) for line in host.machine("cat", ASKED).splitlines()]
    assert {"config", "completion"} <= {words.split()[0] for user, words in asked if user != "0"}
    assert {words for user, words in asked if user == "0"} == {
        f"--config {CONFIG} installing adopt {HERE} ",
        f"--config {CONFIG} installing free",
    }
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
    assert "who is of homelab  bert: may administer it without a log-in" in said
    machine("gpasswd", "--delete", "bert", "homelab")
    assert machine.show(SERVICE)["ActiveState"] == "active"
    until(host.database_answers, "the database is there", seconds=60)
    assert rows(host, SAMPLED) == "t"
    assert machine("stat", "--format=%U", f"{annas}/state.db") == "anna", "theirs stays theirs"


def test_uninstalled_nothing_but_data_is_left(host: Checkout) -> None:
    machine = host.machine
    with_it = files(machine)
    machine("homelab-agent", "config", "set", "metrics.interval", "7")
    machine.install("homelab-agent.service.d/50-mine.conf", "[Service]\nNice=1\n")
    machine("mv", "/opt/homelab-agent/placed", "/opt/homelab-agent/placed.new")  # as an install that was killed
    said = host.made("uninstall")
    assert f"Its data stays in {STATE}" in said
    assert f"Your changes to its units stay as well: {MINE.rpartition('/')[0]}" in said
    gone, left = with_it - files(machine), files(machine)
    for place in ("/opt/homelab-agent", "/usr/local/bin/homelab-agent", "/run/homelab-agent"):
        assert place in gone, place
    kept = (STATE, "/etc/homelab-agent", MINE.rpartition("/")[0])
    assert {path for path in left if "homelab" in path and not path.startswith(kept)} == set()
    assert EMPTY in left, "it is not ours"
    assert "/usr/local/share/zsh" in gone, "nobody else was in need of it"
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
    machine("homelab-agent", "config", "set", "backup.records", RECORDS)
    for name in ("frozen", "of somebody else"):
        machine("mkdir", "--parents", f"{RECORDS}/{name}")
    said = host.refused("uninstall", PURGE="1")
    assert "Nothing was removed." in said
    for place in (STATE, MINE.rpartition("/")[0], f"what the root half has noted in {RECORDS}"):
        assert place in said.partition("This removes for ever:")[2]
    assert machine.show(SERVICE)["ActiveState"] == "active"
    host.made("uninstall", PURGE="1", YES="1")
    assert machine("ls", RECORDS) == "of somebody else"
    assert {path for path in files(machine) if "homelab" in path} == set()
    accounts = machine("cat", "/etc/passwd", "/etc/group")
    assert "homelab" not in accounts
