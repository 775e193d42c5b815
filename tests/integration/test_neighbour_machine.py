"""The machines of the tests run a real systemd and journald, break as they say, and leave nothing behind."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.neighbours import docker
from tests.neighbours import machine as neighbour
from tests.neighbours.leftovers import Traces
from tests.neighbours.machine import Machine
from tests.processes import children, family, is_alive
from tests.waiting import until


def wait_for(machine: Machine, unit: str, **properties: str) -> None:
    """Wait until a unit has these properties."""
    until(lambda: properties.items() <= machine.show(unit).items(), f"{unit} has {properties}")


def messages(machine: Machine, *words: str) -> list[str]:
    """Return what journalctl finds, in order."""
    return [entry["MESSAGE"] for entry in machine.journal(*words)]


def boots(machine: Machine) -> int:
    """Return of how many boots its journal knows."""
    return len(re.findall(r"^ *-?\d+ ", machine("journalctl", "--list-boots", "--no-pager"), flags=re.MULTILINE))


def run_once(machine: Machine, script: str, *settings: str) -> list[str]:
    """Run a script as the unit once.service to its end; return what it said to the journal."""
    words = (f"--property={each}" for each in settings)
    machine.run("systemd-run", "--wait", "--collect", "--unit=once", *words, "sh", "-euc", script)
    return messages(machine, "_SYSTEMD_UNIT=once.service")


def test_systemd_is_pid_1_with_a_journal_and_an_identity_of_its_own(machine: Machine) -> None:
    assert machine("cat", "/proc/1/comm") == "systemd"
    assert machine.show()["Version"].startswith(neighbour.NEIGHBOUR.version())
    assert machine.show()["Virtualization"] == "container-other"
    assert machine("hostname") == machine.hostname != os.uname().nodename
    entries = machine.journal()
    assert {entry["_MACHINE_ID"] for entry in entries} == {machine.machine_id}
    assert {entry["_HOSTNAME"] for entry in entries} == {machine.hostname}
    host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert machine("cat", "/proc/sys/kernel/random/boot_id").replace("-", "") == entries[0]["_BOOT_ID"]
    assert host.replace("-", "") != entries[0]["_BOOT_ID"]


WATCHED = """
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'systemd-notify --ready --status=serving; while systemd-notify WATCHDOG=1; do sleep 0.1; done'
WatchdogSec=2
TimeoutAbortSec=1
Restart=on-watchdog
RestartSec=0
"""


def test_a_frozen_unit_is_killed_by_its_watchdog_and_started_again(machine: Machine) -> None:
    machine.install("watched.service", WATCHED)
    machine.systemctl("start", "watched.service")
    before = machine.show("watched.service")
    assert before["StatusText"] == "serving"
    machine.freeze("watched.service")
    until(lambda: machine.show("watched.service")["MainPID"] not in {"0", before["MainPID"]}, "it runs again")
    wait_for(machine, "watched.service", ActiveState="active", StatusText="serving")
    assert any("Watchdog timeout" in message for message in messages(machine, "UNIT=watched.service"))


def test_a_thawed_unit_goes_on_and_a_killed_one_has_failed(machine: Machine) -> None:
    machine("systemd-run", "--service-type=exec", "--unit=sleeps", "sleep", "1000")
    status = machine.path(f"/proc/{machine.show('sleeps.service')['MainPID']}/status")
    machine.freeze("sleeps.service")
    until(lambda: "State:\tT" in status.read_text(), "it is stopped")
    machine.thaw("sleeps.service")
    until(lambda: "State:\tS" in status.read_text(), "it sleeps on")
    machine.kill("sleeps.service")
    wait_for(machine, "sleeps.service", ActiveState="failed", Result="signal")


SOCKET = """
[Socket]
ListenStream=127.0.0.1:8085
"""
ANSWER = """
import os, socket
listening = socket.socket(fileno=3)
while True:
    listening.accept()[0].sendall(b"%d" % os.getpid())
"""
SERVICE = """
[Service]
ExecStart=/usr/bin/python3 /usr/local/bin/answer
Restart=always
RestartSec=0
"""
ASK = """
import socket
connection = socket.create_connection(("127.0.0.1", 8085))
print("connected", flush=True)
print(connection.recv(9).decode())
"""


def test_who_connects_while_a_socket_activated_unit_is_restarted_is_answered(machine: Machine) -> None:
    machine.path("/usr/local/bin/answer").write_text(ANSWER)
    machine.install("answer.socket", SOCKET)
    machine.install("answer.service", SERVICE)
    machine.systemctl("start", "answer.socket")
    assert machine.show("answer.service")["ActiveState"] == "inactive"
    first = machine("python3", "-c", ASK).split()[1]
    assert machine.show("answer.service")["MainPID"] == first
    machine.freeze("answer.service")
    with subprocess.Popen(machine.inside("python3", "-c", ASK), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        machine.kill("answer.service")
        second = client.stdout.readline().strip()
    assert second not in {first, ""}
    assert machine.show("answer.service")["MainPID"] == second


def test_credentials_dynamic_users_and_state_directories_work(machine: Machine) -> None:
    machine.path("/root/token").write_text("a word")
    machine.path("/root/token").chmod(0o600)
    script = 'id -un; cat "$CREDENTIALS_DIRECTORY/token"; echo; : >"$STATE_DIRECTORY/file"; ls /root'
    said = run_once(machine, script, "DynamicUser=yes", "LoadCredential=token:/root/token", "StateDirectory=once")
    assert said[:2] == ["once", "a word"]
    assert said[2].endswith("Permission denied")
    assert machine.path("/var/lib/private/once/file").exists()


def test_limits_of_memory_and_tasks_hold(machine: Machine) -> None:
    eats = machine.run("systemd-run", "--wait", "--property=MemoryMax=16M", "tail", "/dev/zero")
    assert "code=killed/status=KILL" in eats.stderr
    assert run_once(machine, "for _ in 1 2 3; do sleep 5 & done", "TasksMax=3")[-1].endswith("Cannot fork")


NATIVE = """
import socket, subprocess
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
fields = b"MESSAGE=the door is shut\\nPRIORITY=4\\nHOMELAB_COMPONENT=gate\\n"
journald.sendto(fields, "/run/systemd/journal/socket")
subprocess.run(["journalctl", "--sync"], check=True)  # who has ended when it is read is of no unit
"""


def test_native_fields_reach_the_journal(machine: Machine) -> None:
    machine.path("/usr/local/bin/native").write_text(NATIVE)
    run_once(machine, "exec /usr/bin/python3 /usr/local/bin/native")
    (entry,) = machine.journal("HOMELAB_COMPONENT=gate")
    assert entry["MESSAGE"] == "the door is shut"
    assert (entry["PRIORITY"], entry["_TRANSPORT"]) == ("4", "journal")
    assert entry["_SYSTEMD_UNIT"] == "once.service"


def test_a_killed_journald_comes_back_and_units_go_on_logging_as_before(machine: Machine) -> None:
    machine("mkfifo", "/run/words")
    machine(
        "systemd-run", "--unit=talks", "sh", "-c", "exec 3<>/run/words; while read -r word <&3; do echo $word; done"
    )
    machine("sh", "-c", "echo before >/run/words")
    until(lambda: messages(machine, "_SYSTEMD_UNIT=talks.service") == ["before"], "it is heard")
    killed = machine.show("systemd-journald.service")["MainPID"]
    machine.kill("systemd-journald.service")
    until(lambda: machine.show("systemd-journald.service")["MainPID"] not in {"0", killed}, "journald is back")
    wait_for(machine, "systemd-journald.service", ActiveState="active")
    machine("sh", "-c", "echo after >/run/words")
    until(lambda: messages(machine, "_SYSTEMD_UNIT=talks.service") == ["before", "after"], "it is heard again")


def test_two_machines_do_not_see_each_other(machine: Machine) -> None:
    with neighbour.running() as other:
        both = (machine, other)
        for one in both:
            one.install("answer.service", SERVICE)
            one.install("answer.socket", SOCKET)
            one.systemctl("start", "answer.socket")
            one("systemd-run", "--service-type=exec", "--unit=mine", "sleep", "1000")
            one("systemd-cat", "echo", f"I am {one.hostname}")
        for one in both:
            assert one("pgrep", "-x", "sleep") == one.show("mine.service")["MainPID"]
            assert [each for each in messages(one) if each.startswith("I am")] == [f"I am {one.hostname}"]
        assert machine.machine_id != other.machine_id
        other.power_cut()
        assert machine.show("mine.service")["ActiveState"] == "active"


def test_a_power_cut_loses_what_was_not_synced_and_the_next_boot_goes_on_with_the_rest(machine: Machine) -> None:
    machine("sh", "-c", "echo kept >/var/synced && sync /var/synced")
    machine("systemd-cat", "echo", "before the cut")
    assert "before the cut" in messages(machine)  # and synced now
    for _ in range(5):  # whoever on this host calls sync(2) at that moment saves it
        machine.path("/var/lost").write_text("written")
        everything = family(machine.pid)
        machine.power_cut()
        assert not any(map(is_alive, everything))
        machine.boot()
        if not machine.run("cat", "/var/lost").stdout:
            break
    else:
        pytest.fail("no power cut lost anything")
    assert machine("cat", "/var/synced") == "kept"
    assert boots(machine) >= 2
    first = machine.journal()[0]["_BOOT_ID"]
    assert "before the cut" in messages(machine, f"_BOOT_ID={first}")
    assert "before the cut" not in messages(machine, "--boot")


STOPPING = """
[Service]
ExecStart=sleep 1000
ExecStop=/bin/sh -c 'echo in order >/var/stopped'
[Install]
WantedBy=multi-user.target
"""


def test_a_reboot_stops_units_in_order_and_starts_what_is_enabled(machine: Machine) -> None:
    machine.install("stopping.service", STOPPING)
    machine.systemctl("enable", "--now", "stopping.service")
    machine.path("/run/volatile").touch()
    machine.reboot()
    assert machine("cat", "/var/stopped") == "in order"
    assert machine.show("stopping.service")["ActiveState"] == "active"
    assert not machine.path("/run/volatile").exists()
    assert boots(machine) == 2
    assert any(each.startswith("Stopped stopping.service") for each in messages(machine, "--boot=-1"))


def test_a_boot_that_fails_names_the_unit(machine: Machine) -> None:
    machine.install("fails.service", STOPPING.replace("sleep 1000", "false"))
    machine.systemctl("enable", "fails.service")
    with pytest.raises(AssertionError, match=r"degraded(.|\n)*fails\.service"):
        machine.reboot()
    machine.reboot(state="degraded")
    assert machine.show("fails.service")["Result"] == "exit-code"


def test_a_full_disk_takes_nothing_more_and_spares_the_rest(machine: Machine) -> None:
    writing = ("dd", "if=/dev/zero", "of=/var/more", "bs=4k", "count=1")
    machine.fill()
    assert "No space left on device" in machine.run(*writing).stderr
    assert machine.systemctl("is-system-running") == "running"
    machine.free()
    machine(*writing)


def test_a_frozen_machine_does_nothing_until_it_is_thawed(machine: Machine) -> None:
    machine.freeze()
    with subprocess.Popen(machine.inside("true"), stdin=subprocess.DEVNULL) as asking:
        with pytest.raises(subprocess.TimeoutExpired):
            asking.wait(0.5)
        machine.thaw()
        assert asking.wait(20) == 0


def test_its_files_are_its_own_but_for_the_directories_it_shares(tmp_path: Path) -> None:
    with neighbour.running(shared=[tmp_path]) as machine:
        for place in ("/usr", "/etc", "/root", "/tmp"):
            machine("sh", "-c", f"echo of the machine >{place}/homelab-agent-written")
            assert not Path(place, "homelab-agent-written").exists()
        (tmp_path / "given").write_text("of the host")
        assert machine("cat", str(tmp_path / "given")) == "of the host"
        machine("sh", "-c", f"echo of the machine >{tmp_path}/taken")
    assert (tmp_path / "taken").read_text() == "of the machine\n"


def test_its_network_is_its_own_or_the_hosts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=5)"
        with neighbour.running() as machine:
            assert machine("ls", "/sys/class/net") == "lo"
            assert "Connection refused" in machine.run("python3", "-c", connect).stderr
        with neighbour.running(own_network=False) as machine:
            machine("python3", "-c", connect)


def test_debians_docker_runs_as_a_unit_and_outlives_a_power_cut(machine: Machine) -> None:
    docker.obtain()
    machine.systemctl("enable", "--now", "docker.service")
    machine("sh", "-c", "tar -C / -c bin/busybox | docker import - busybox")
    talking = ("busybox", "/bin/busybox", "sh", "-c", "echo from the container; exec busybox sleep 1000")
    machine("docker", "run", "-d", "--name", "talks", "--restart=always", "--log-driver=journald", *talking)
    until(lambda: "from the container" in messages(machine, "CONTAINER_NAME=talks"), "it is heard")
    machine("sync", "-f", "/var/lib/docker")
    machine.power_cut()
    machine.boot()
    assert machine("docker", "inspect", "--format={{.State.Status}}", "talks") == "running"


def test_nothing_is_left_of_a_machine_that_was_closed_amid_its_work() -> None:
    mine = set(children(os.getpid()))
    with neighbour.running() as machine:
        machine("systemd-run", "sleep", "1000")
        with subprocess.Popen(
            machine.inside("sh", "-c", "echo in; exec sleep 1000"), stdout=subprocess.PIPE
        ) as entered:
            assert entered.stdout is not None
            assert entered.stdout.readline() == b"in\n"
            everything = [*family(machine.pid), *family(entered.pid)]
            entered.kill()  # as a time limit or Ctrl-C does, while its command is left to whoever adopts it
        kinds = {trace.split()[0].rstrip("0123456789") for trace in Traces.now().of(machine.directory)}
        assert kinds == {"cgroup", "file", "loop"}
    assert not any(map(is_alive, everything))
    until(lambda: not Traces.now().of(machine.directory), "nothing is left", seconds=5)
    assert not set(children(os.getpid())) - mine


UNTIDY = """
import signal, subprocess, sys
from tests.neighbours.machine import running
with running() as machine:
    machine("systemd-run", "sleep", "1000")
    entered = subprocess.Popen(machine.inside("sleep", "1000"))
    if sys.argv[1] == "frozen":
        machine.freeze()
    print(machine.directory, machine.pid, entered.pid, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_nothing_is_left_when_the_tests_are_killed(state: str) -> None:
    with subprocess.Popen([sys.executable, "-c", UNTIDY, state], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        directory, first, entered = tests.stdout.readline().split()
        everything = [*family(int(first)), *family(int(entered))]
        assert len(everything) > 4
        tests.kill()
    until(lambda: not any(map(is_alive, everything)), "no process is left")
    until(lambda: not Traces.now().of(Path(directory)), "nothing is left")
