"""The installed service on a real systemd: what it tells, what ends it, what then happens, and who waits meanwhile."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.installed import CLIENTS, CONFIG, PAGE, SERVICE, Checkout
from tests.neighbours.machine import Machine
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)  # the first one installs, on whatever else this host does

SOCKET = "homelab-agent.socket"
HALF = "homelab-agent-privileged.service"
HALF_SOCKET = "/run/homelab-agent/privileged.sock"
EXPOSURE = {SERVICE: 1.7, HALF: 7.7, "homelab-agent-resume.service": 6.4}
"""The most that `systemd-analyze security` may give; what is stricter has a lower score."""


@pytest.fixture(autouse=True)
def _it_runs(checkout: Checkout, installed: Machine) -> None:
    if installed.show(SERVICE)["SubState"] != "running":
        installed.systemctl("restart", SERVICE)
    is_well(checkout)


def is_well(checkout: Checkout) -> str:
    """Wait until the service has said that it is ready, and has its database; return its process."""
    until(lambda: checkout.machine.show(SERVICE)["SubState"] == "running", "the service runs", seconds=60)
    until(checkout.database_answers, "the database is there", seconds=60)
    return checkout.process()


@contextmanager
def configured(machine: Machine, more: str) -> Iterator[None]:
    """Have something more in the configuration while the context lasts."""
    file = machine.path(CONFIG)
    before = file.read_text()
    file.write_text(f"{before}\n{more}\n")
    try:
        yield
    finally:
        file.write_text(before)


def messages(machine: Machine, since: str, *words: str) -> list[str]:
    """Return what the service, and systemd of it, has told the journal since the cursor."""
    entries = machine.journal(f"--after-cursor={since}", *(words or (f"--unit={SERVICE}",)))
    return [str(entry["MESSAGE"]) for entry in entries]


def cursor(machine: Machine) -> str:
    return str(machine.journal("--lines=1")[0]["__CURSOR"])


def reloads(machine: Machine, since: str) -> list[str]:
    """Return what it has told of a file that it has taken."""
    return [one for one in messages(machine, since) if '"config.reloaded"' in one]


# What it tells


def test_it_has_said_that_it_is_ready_when_its_start_ends_and_systemd_shows_how_it_stands(
    checkout: Checkout, installed: Machine
) -> None:
    installed.systemctl("restart", SERVICE)
    assert checkout.asked("/api/health/live")[0] == 200
    shown = installed.show(SERVICE)
    assert (shown["Type"], shown["ActiveState"], shown["SubState"]) == ("notify", "active", "running")
    until(lambda: installed.show(SERVICE)["StatusText"] == "all is well", "it says that all is well")
    installed.fill()
    try:
        until(lambda: "need" in installed.show(SERVICE)["StatusText"], "it says that it needs somebody", seconds=60)
        assert re.match(r"\d+ needs? you: \w+", installed.show(SERVICE)["StatusText"])
    finally:
        installed.free()
    until(lambda: installed.show(SERVICE)["StatusText"] == "all is well", "it is well again", seconds=90)


def test_a_good_file_is_taken_by_reload_and_a_bad_one_changes_nothing(checkout: Checkout, installed: Machine) -> None:
    before, since = installed.show(SERVICE), cursor(installed)
    with configured(installed, ""):
        installed("homelab-agent", "config", "set", "log.level", "debug")
        text = installed.path(CONFIG).read_text()
        installed.systemctl("reload", SERVICE)
        until(lambda: reloads(installed, since), "it has read the file")
        assert "log.level" in reloads(installed, since)[0]
        since = cursor(installed)
        installed.path(CONFIG).write_text(f"{text}\n[metrics\n")
        installed.systemctl("reload", SERVICE)
        until(lambda: any('"config.invalid"' in one for one in messages(installed, since)), "it says what is wrong")
    installed.systemctl("reload", SERVICE)
    after = installed.show(SERVICE)
    assert after["ActiveState"] == "active"
    assert [after[name] for name in ("MainPID", "NRestarts")] == [before[name] for name in ("MainPID", "NRestarts")]
    assert checkout.asked("/api/health/live")[0] == 200


# What ends it


def test_a_killed_agent_is_started_again_with_its_data_and_its_door_is_seen_to(
    checkout: Checkout, installed: Machine
) -> None:
    before, since = is_well(checkout), cursor(installed)
    samples = int(checkout.agent("db", "psql", "-Atc", "SELECT count(*) FROM tick"))
    installed.systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", SERVICE)
    until(lambda: checkout.process() not in {"0", before}, "it is started again")
    is_well(checkout)
    assert int(checkout.agent("db", "psql", "-Atc", "SELECT count(*) FROM tick")) >= samples
    said = messages(installed, since)
    assert "nothing was open" in said, "the door was not looked after"
    assert any("homelab-agent-resume.service" in one for one in messages(installed, since, "--unit=init.scope"))


def test_what_ended_in_order_leaves_nothing_to_be_seen_to(checkout: Checkout, installed: Machine) -> None:
    since = cursor(installed)
    installed.systemctl("restart", SERVICE)
    assert "nothing was open" not in messages(installed, since)


def test_a_killed_root_half_is_started_again_by_the_next_call(installed: Machine) -> None:
    call = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{HALF_SOCKET}'); s.recv(1)"
    as_agent = ("setpriv", "--reuid=homelab-agent", "--regid=homelab-agent", "--clear-groups", "--")
    seen = set()
    for _ in range(2):
        with subprocess.Popen(installed.inside(*as_agent, "python3", "-I", "-c", call)) as caller:
            until(lambda: installed.show(HALF)["SubState"] == "running", "the root half runs")
            seen.add(installed.show(HALF)["MainPID"])
            asked_at = installed.show("homelab-agent-resume.service")["ConditionTimestampMonotonic"]
            installed.kill(HALF)
            until(lambda: installed.show(HALF)["SubState"] == "failed", "it was killed")
            caller.wait(20)
        later = lambda: installed.show("homelab-agent-resume.service")["ConditionTimestampMonotonic"] != asked_at  # noqa: B023, E731
        until(later, "it is asked what it has left still")
    assert len(seen) == 2
    installed.systemctl("reset-failed", HALF)


@pytest.fixture
def impatient(checkout: Checkout, installed: Machine) -> Iterator[None]:
    """A watchdog that waits for eight seconds, for a test cannot for thirty; signals that block the loop or eat."""
    library = installed("find", f"/opt/homelab-agent/releases/{checkout.release()}", "-name", "site-packages")
    blocks = f"{library}/blocks.pth"
    block = "import signal, time; signal.signal(signal.SIGUSR2, lambda *_, t=time: t.sleep(1000))\n"
    take = "import signal; signal.signal(signal.SIGWINCH, lambda *_: b'x' * 2**30)\n"
    installed.path(blocks).write_text(block + take)
    installed.install(f"{SERVICE}.d/50-impatient.conf", "[Service]\nWatchdogSec=8\n")
    installed.systemctl("restart", SERVICE)
    is_well(checkout)
    yield
    installed("rm", blocks, f"/etc/systemd/system/{SERVICE}.d/50-impatient.conf")
    installed.systemctl("daemon-reload")
    installed.systemctl("restart", SERVICE)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("signal", ["SIGSTOP", "SIGUSR2"])
def test_an_agent_that_stands_still_is_killed_by_the_watchdog_says_where_and_runs_again(
    checkout: Checkout, installed: Machine, signal: str
) -> None:
    before, since = is_well(checkout), cursor(installed)
    installed.systemctl("kill", "--kill-whom=main", f"--signal={signal}", SERVICE)
    until(lambda: checkout.process() not in {"0", before}, "it is killed and started again", seconds=60)
    is_well(checkout)
    said = messages(installed, since)
    assert any("Watchdog timeout" in one for one in said)
    assert any("Fatal Python error: Aborted" in one for one in said), "where it stood is not told"
    if signal == "SIGUSR2":
        assert any("<string>" in one and "lambda" in one for one in said), "what blocked the loop is not told"
    assert "nothing was open" in said


def killed_for_memory(machine: Machine) -> int:
    """Return how many processes of the service were killed for want of memory, since its control group was made."""
    group = f"system.slice/{SERVICE}"
    for file in (f"{group}/memory.events", f"memory/{group}/memory.oom_control"):  # of version 2, and 1
        with suppress(FileNotFoundError):
            counted = machine.path(f"/sys/fs/cgroup/{file}").read_text()
            return int(dict(line.split() for line in counted.splitlines())["oom_kill"])
    return 0


def test_killed_for_want_of_memory_it_is_started_again(checkout: Checkout, installed: Machine) -> None:
    since = cursor(installed)
    limit = ("set-property", "--runtime", SERVICE)
    installed.systemctl(*limit, "MemoryMax=24M", "MemorySwapMax=0", "MemoryHigh=infinity")
    try:
        installed.systemctl("--no-block", "restart", SERVICE)
        until(lambda: killed_for_memory(installed), "the kernel has killed one of it", seconds=60)
        until(lambda: int(installed.show(SERVICE)["NRestarts"]) > 1, "it is killed and started again", seconds=60)
        assert any("status=9/KILL" in one for one in messages(installed, since))
    finally:
        installed.systemctl(*limit, "MemoryMax=1G", "MemorySwapMax=infinity", "MemoryHigh=768M")
    is_well(checkout)
    assert checkout.asked("/api/health/live")[0] == 200


def test_with_a_bad_configuration_it_stays_ended_says_why_and_nobody_starts_it_by_asking(
    checkout: Checkout, installed: Machine
) -> None:
    since = cursor(installed)
    with configured(installed, "[metrics"):
        assert installed.run("systemctl", "restart", SERVICE).returncode != 0
        until(lambda: installed.show(SOCKET)["ActiveState"] == "inactive", "its sockets are closed")
        refused = installed.run("python3", "-I", "-c", f"import urllib.request as r; r.urlopen('{PAGE}')")
        assert "Connection refused" in refused.stderr
        shown = installed.show(SERVICE)
        assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == ("failed", "78", "0")
    said = messages(installed, since)
    assert len([one for one in said if "Starting" in one]) == 1
    assert any(CONFIG in one and "not TOML" in one for one in said)
    installed.systemctl("start", SERVICE)
    assert checkout.asked("/api/health/live")[0] == 200


# Who waits meanwhile


def test_of_twenty_restarts_under_eight_clients_nobody_hears_but_by_waiting(
    checkout: Checkout, installed: Machine
) -> None:
    end = "/run/clients-end"
    asking = subprocess.Popen(installed.inside("python3", "-I", "-c", CLIENTS, end), stdout=subprocess.PIPE, text=True)
    with asking:
        try:
            for _ in range(20):
                installed.systemctl("restart", SERVICE)
        finally:
            installed("touch", end)
        told = json.loads(asking.communicate(timeout=90)[0])
    print(told)
    assert told["failed"] == []
    assert told["done"] >= 160


# What the next one tells of how it ended

TOLD = """
import json, sqlite3
asked = sqlite3.connect("file:/var/lib/homelab-agent/state.db?mode=ro", uri=True)
items = [item for (said,) in asked.execute("SELECT items FROM notify_message") for item in json.loads(said)]
print([item[4] for item in items if item[1] == "agent restarted"][-1:])
"""


@pytest.fixture
def telling(checkout: Checkout, installed: Machine) -> Iterator[None]:
    """Somebody to tell, who does not answer: what is told waits for him in state.db."""
    address = "/var/lib/homelab-agent/phone"
    installed("install", "--owner=homelab-agent", "--mode=600", "/dev/null", address)
    installed.path(address).write_text("json://127.0.0.1:9/")
    with configured(installed, f'[[notify.target]]\nname = "phone"\nurl = "file:{address}"'):
        installed.systemctl("restart", SERVICE)
        is_well(checkout)
        yield
    installed.systemctl("restart", SERVICE)


def is_told(installed: Machine, how: str) -> None:
    """Wait until it is told how the agent before this one ended."""
    until(lambda: how in installed("python3", "-I", "-c", TOLD), f"it is told that it {how}", seconds=30)


@pytest.mark.usefixtures("impatient", "telling")
@pytest.mark.parametrize(
    ("signal", "how"),
    [
        ("SIGWINCH", "was killed by the kernel for want of memory"),
        ("SIGKILL", "was killed (signal KILL)"),
        ("SIGSEGV", "crashed (signal SEGV)"),
        ("SIGUSR2", "was ended by its watchdog"),
    ],
)
def test_how_it_ended_is_told(checkout: Checkout, installed: Machine, signal: str, how: str) -> None:
    before, limit = is_well(checkout), ("set-property", "--runtime", SERVICE)
    installed.systemctl(*limit, "MemoryMax=512M", "MemorySwapMax=0", "MemoryHigh=infinity")
    try:
        installed.systemctl("kill", "--kill-whom=main", f"--signal={signal}", SERVICE)
        until(lambda: checkout.process() not in {"0", before}, "it is started again", seconds=60)
        is_told(installed, how)
    finally:
        installed.systemctl(*limit, "MemoryMax=1G", "MemorySwapMax=infinity", "MemoryHigh=768M")


# What it may


@pytest.mark.parametrize("unit", EXPOSURE)
def test_no_unit_is_more_exposed_than_it_was(installed: Machine, unit: str) -> None:
    said = installed("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
    score = re.search(rf"exposure level for {re.escape(unit)}: ([\d.]+)", said)
    assert score is not None
    assert float(score[1]) <= EXPOSURE[unit], said


def test_the_units_have_no_word_that_this_systemd_does_not_know(installed: Machine) -> None:
    units = [SERVICE, SOCKET, HALF, "homelab-agent-privileged.socket", "homelab-agent-resume.service"]
    done = installed.run("systemd-analyze", "verify", "--man=no", *units)
    assert (done.returncode, done.stderr) == (0, "")
