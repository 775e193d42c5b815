"""`homelab-agent secrets bootstrap` with the real OpenBao: from nothing to a secret read; killed anywhere."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets import openbao as room
from homelab_agent.secrets.first_start import UNFINISHED
from homelab_agent.secrets.settings import SecretsSettings
from tests.fixtures.soak import Soak
from tests.neighbours import machine as machines
from tests.neighbours import openbao as neighbour
from tests.neighbours.machine import Machine
from tests.neighbours.ports import free_port
from tests.neighbours.server import Server
from tests.waiting import until

ROOT = Path(__file__).parents[2]
VALUE = "s3cret-from-bootstrap"
NOBODY = 65534
REFERENCE = "openbao:secret/homelab/postgres#password"


class House:
    """A directory with the agent's configuration, and OpenBao below it."""

    def __init__(self, directory: Path, *, user: Sequence[str] = ()) -> None:
        """`user` are the words that run a command as somebody else."""
        neighbour.obtain()
        self.user = list(user)
        self.directory = directory
        self.bao = directory / "openbao"
        self.config = directory / "config.toml"
        self.config.write_text(f'# mine\n[agent]\nstate = "{directory / "state"}"\n')
        self.port = free_port()

    def command(self, *more: str) -> list[str]:
        words = ["secrets", "bootstrap", f"--bao={neighbour.program()}", f"--directory={self.bao}", *more]
        program = [*self.user, sys.executable, "-m", "homelab_agent", "--config", str(self.config)]
        return [*program, *words, f"--port={self.port}"]

    def bootstrap(self, *more: str) -> str:
        done = self.run(*more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*more), capture_output=True, text=True, timeout=100, check=False)

    @property
    def files(self) -> dict[str, tuple[int, int, bytes]]:
        """All there is, but what the store has in it."""
        return {
            str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
            for path in self.directory.rglob("*")
            if path.is_file() and "raft" not in path.parts
        }

    @contextmanager
    def served(self) -> Iterator[Server]:
        """Have the server run by the command that was printed."""
        line = next(line for line in self.bootstrap().splitlines() if line.startswith("to start the server"))
        server = Server(
            "OpenBao",
            [*self.user, *shlex.split(line.partition(":  ")[2])],
            ready=self.answers,
            log=self.directory / "log",
        )
        try:
            yield server.start()
        finally:
            server.close()

    def answers(self) -> bool:
        return self.bao_says("status").returncode == 0

    def bao_says(self, *words: str, token: str = "") -> subprocess.CompletedProcess[str]:
        env = {"BAO_ADDR": f"unix://{self.bao}/openbao.sock", "BAO_TOKEN": token, "HOME": str(self.directory)}
        argv = [str(neighbour.program()), *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)

    def operator(self) -> str:
        """Return the operator's token."""
        words = ["-field=token", "auth/approle/login", "role_id=operator"]
        done = self.bao_says("write", *words, f"secret_id=@{self.bao}/operator-secret-id")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def put(self, value: str) -> None:
        done = self.bao_says("kv", "put", "secret/homelab/postgres", f"password={value}", token=self.operator())
        assert done.returncode == 0, done.stderr

    def read(self) -> str:
        """Return the value as the agent reads it, with its role and its configuration."""
        settings = SecretsSettings(**tomllib.loads(self.config.read_text())["secrets"])
        secrets = Secrets(Redactor())
        room.add(settings, secrets, self.directory / "state", SystemClock())
        return secrets.find(REFERENCE).get()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="who is no root is that user in every test here")
def test_a_user_has_it_below_directories_of_his_own(open_directory: Path) -> None:
    house = House(open_directory, user=["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"])
    for path in (open_directory, house.config):
        os.chown(path, NOBODY, NOBODY)
    house.bootstrap()
    assert {path.stat().st_uid for path in open_directory.rglob("*")} == {NOBODY}
    with house.served():
        assert house.bao.joinpath("openbao.sock").stat().st_uid == NOBODY
        house.put(VALUE)


def test_from_nothing_to_a_secret_that_the_agent_reads_and_again_changes_nothing(house: House) -> None:
    said = house.bootstrap()
    assert f"Keep {house.bao}/unseal-key off this machine, too" in said
    assert {line.split()[0] for line in said.partition("\n\n")[0].splitlines()[1:]} == {"made:"}
    assert house.config.read_text().startswith("# mine\n")
    secret = (house.bao / "unseal-key", house.bao / "agent-secret-id", house.bao / "operator-secret-id")
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in secret)
    assert not any(file.read_text() in said for file in secret)
    before = house.files
    with house.served():
        house.put(VALUE)
        assert house.read() == VALUE
        again = house.bootstrap()
        assert {line.split(":")[0] for line in again.partition("\n\n")[0].splitlines()[1:]} == {"is there"}
        assert house.read() == VALUE
    house.bootstrap()
    after = house.files
    assert {name: after[name] for name in before} == before
    assert not list(house.bao.glob("raft.*"))


def test_another_port_is_not_taken_over_and_that_is_said(house: House) -> None:
    assert "its port" not in house.bootstrap()
    house.port = free_port()
    assert f"not {house.port}: what is there stays as it is" in house.bootstrap()


def test_the_plan_says_what_would_be_made_and_makes_nothing(house: House) -> None:
    before = house.files
    said = house.bootstrap("--plan")
    assert "to make:  the unseal key" in said
    assert house.files == before
    assert not house.bao.exists()


def test_killed_anywhere_and_given_again_it_ends_well(house: House) -> None:
    killed_anywhere(house, Soak(0, random.randrange(2**32)), rounds=4)


@pytest.mark.soak
def test_killed_anywhere_again_and_again(tmp_path: Path, soak: Soak) -> None:
    killed_anywhere(House(tmp_path), soak, rounds=40)


def killed_anywhere(house: House, soak: Soak, rounds: int) -> None:
    dice = soak.dice
    for _ in soak.rounds(rounds):
        subprocess.run(["rm", "-rf", house.bao], check=True)
        delay = dice.uniform(0.3, 4)
        print(f"killed after {delay:.3f} s")
        kill_after(house, delay)
        house.bootstrap()
        assert not (house.bao / UNFINISHED).exists()
        with house.served():
            house.put(VALUE)
            assert house.read() == VALUE


def kill_after(house: House, seconds: float) -> None:
    """Kill it, and with it the server that it may have running, after so long."""
    with subprocess.Popen(house.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            run.kill()
    until(lambda: not is_held(house.bao / "raft/vault.db"), "nobody has the store open")


def is_held(file: Path) -> bool:
    def has(descriptors: Path) -> bool:
        try:
            return any(one.readlink() == file for one in descriptors.iterdir())
        except OSError:
            return False

    return any(map(has, Path("/proc").glob("[0-9]*/fd")))


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "failed"])
def test_a_first_start_that_was_cut_short_is_begun_anew(house: House, *, is_killed: bool) -> None:
    """Killed in it, it comes up healthy and lets nobody in; failed in it, it does not come up again."""
    make_files(house)
    cut_short(house, "operator-secret-id", after="role/operator", is_killed=is_killed)
    house.bootstrap()
    assert len(list(house.bao.glob("raft.unfinished-*"))) == 1
    with house.served():
        house.put(VALUE)
        assert house.read() == VALUE


def test_a_first_start_that_was_killed_before_its_last_request_ends_well(house: House) -> None:
    make_files(house)
    cut_short(house, "agent-secret-id", after="role/operator/custom-secret-id", is_killed=True)
    house.bootstrap()
    with house.served():
        house.put(VALUE)
        assert house.read() == VALUE


def cut_short(house: House, missing: str, *, after: str, is_killed: bool) -> None:
    """Have a store begun that comes no further than to a file, which is there afterwards."""
    file = house.bao / missing
    value = file.read_text()
    file.unlink()
    if is_killed:
        os.mkfifo(file)  # for which the server waits, as nobody writes to it
    argv = [str(neighbour.program()), "server", f"-config={house.bao / 'openbao.hcl'}"]
    server = Server("OpenBao", argv, ready=house.answers, log=house.directory / "first-start")
    server.spawn()
    try:
        if is_killed:
            until(lambda: server.tail(10**6).count(f'{after}"') > 1, "it has answered that request")
            server.kill()
        else:
            until(lambda: server.code == 1, "it has failed")
    finally:
        server.close()
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(value)


def make_files(house: House) -> None:
    """Have the files made, as when it was killed just before the server came to its store."""
    with subprocess.Popen(house.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until((house.bao / UNFINISHED).exists, "the files are there")
        run.kill()
    until(lambda: not is_held(house.bao / "raft/vault.db"), "nobody has the store open")
    subprocess.run(["rm", "-rf", house.bao / "raft"], check=True)


def as_killed_at_the_end(house: House) -> None:
    """Have all made, but as if it had been killed when the server had just initialised itself."""
    make_files(house)
    marker = (house.bao / UNFINISHED).read_bytes()
    house.bootstrap()
    (house.bao / UNFINISHED).write_bytes(marker)


def test_a_store_whose_beginner_was_killed_and_that_was_used_is_kept(house: House) -> None:
    """The operator keeps his secret id elsewhere, as the unit's comment says."""
    as_killed_at_the_end(house)
    marker = (house.bao / UNFINISHED).read_bytes()
    with house.served():  # by which `bootstrap` is given, and sees that it is whole
        house.put(VALUE)
    (house.bao / UNFINISHED).write_bytes(marker)
    (house.bao / "operator-secret-id").write_text("")
    house.bootstrap()
    assert not list(house.bao.glob("raft.*"))
    assert not (house.bao / UNFINISHED).exists()
    with house.served():
        assert house.read() == VALUE


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["operator-secret-id", "agent-secret-id"], "lets in neither the agent"),
        (["unseal-key"], "does not come up unsealed"),
    ],
)
def test_where_it_is_in_doubt_whether_a_store_was_used_it_is_kept(house: House, files: list[str], said: str) -> None:
    as_killed_at_the_end(house)
    before = {name: (house.bao / name).read_bytes() for name in files}
    for name in files:
        (house.bao / name).write_text("" if name != "unseal-key" else "f" * 64)
    done = house.run()
    assert done.returncode == 1
    assert said in done.stderr
    assert not list(house.bao.glob("raft.*"))
    for name, value in before.items():
        (house.bao / name).write_bytes(value)
    house.bootstrap()
    assert not list(house.bao.glob("raft.*"))


def test_a_store_that_holds_data_is_never_begun_anew(house: House) -> None:
    house.bootstrap()
    with house.served():
        house.put(VALUE)
    (house.bao / UNFINISHED).touch()  # as if it had been killed when the operator had just been let in
    house.bootstrap()
    with house.served():
        assert house.read() == VALUE
        words = ["auth/approle/role/operator/custom-secret-id", "secret_id=another"]
        assert house.bao_says("write", *words, token=house.operator()).returncode == 0
        (house.bao / "operator-secret-id").write_text("lost")
        (house.bao / "agent-secret-id").write_text("lost, too")
        done = house.run()
        assert done.returncode == 1
        assert "lets in neither the agent" in done.stderr
    assert not list(house.bao.glob("raft.*"))
    (house.bao / "unseal-key").unlink()
    done = house.run()
    assert done.returncode == 1
    assert "put it back from where it is kept" in done.stderr
    assert (house.bao / "raft/vault.db").exists()


def test_an_agent_that_is_let_in_no_more_is_again(house: House) -> None:
    house.bootstrap()
    (house.bao / "agent-secret-id").write_text("of another role")
    with house.served():
        house.put(VALUE)
        house.bootstrap()
        assert house.read() == VALUE


def test_with_the_unseal_key_and_a_snapshot_a_new_machine_has_all(house: House, tmp_path: Path) -> None:
    house.bootstrap()
    snapshot = tmp_path / "kept.snap"
    with house.served():
        house.put(VALUE)
        done = house.bao_says("operator", "raft", "snapshot", "save", str(snapshot), token=house.operator())
        assert done.returncode == 0, done.stderr
    (tmp_path / "new").mkdir()
    new = House(tmp_path / "new")
    new.bao.mkdir()
    (new.bao / "unseal-key").write_text((house.bao / "unseal-key").read_text())
    new.bootstrap()
    with new.served():
        done = new.bao_says("operator", "raft", "snapshot", "restore", str(snapshot), token=new.operator())
        assert done.returncode == 0, done.stderr
        until(lambda: new.bao_says("kv", "list", "secret/homelab", token=new.operator()).returncode == 0, "it is back")
        assert new.read() == VALUE


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Vault v1.19.0 (abc), built 2025'", "is Vault v1.19.0"),
        ("echo 'OpenBao v2.3.1 (abc)'", "is version 2.3.1"),
        ("echo 'OpenBao v3.0.0 (abc)'", "is version 3.0.0"),
        ("exit 3", "is silent"),
    ],
)
def test_another_program_is_refused_in_one_line_with_the_repair(house: House, script: str, said: str) -> None:
    program = house.directory / "bao"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    done = house.run(f"--bao={program}")
    assert done.returncode == 1
    assert said in done.stderr
    assert "https://openbao.org/docs/install/" in done.stderr
    assert not house.bao.exists()


def test_without_the_program_it_says_where_it_comes_from(house: House) -> None:
    done = house.run("--bao=/nowhere/bao")
    assert done.returncode == 1
    assert "OpenBao is not installed" in done.stderr
    assert "https://openbao.org/docs/install/" in done.stderr


def test_another_server_in_the_configuration_is_left_alone(house: House) -> None:
    text = (
        house.config.read_text() + '\n[secrets]\nurl = "https://bao.example:8200"\nlogin = "token"\ntoken = "env:T"\n'
    )
    house.config.write_text(text)
    done = house.run()
    assert done.returncode == 78
    assert "https://bao.example:8200" in done.stderr
    assert house.config.read_text() == text
    assert not house.bao.exists()


# A machine with systemd


@pytest.fixture
def machine() -> Iterator[Machine]:
    """One that has this checkout, and OpenBao's program where its package has it."""
    neighbour.obtain()
    with machines.running(shared=[ROOT]) as one:
        one("cp", neighbour.program(), "/usr/bin/bao")
        yield one


def test_on_a_machine_with_systemd_it_becomes_a_unit_that_unseals_itself_at_each_boot(machine: Machine) -> None:
    machine("useradd", "--system", "homelab-agent")
    machine.install("homelab-agent.service", "[Service]\nUser=homelab-agent\nExecStart=/bin/sleep 1000\n")
    words = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "homelab_agent", "secrets", "bootstrap"]
    said = machine(*words, seconds=120)
    print(said)
    assert "shred -u /etc/openbao/unseal-key" in said
    assert machine.show("openbao.service")["UnitFileState"] == "enabled"
    unit = machine("cat", "/etc/systemd/system/openbao.service")
    plain = "LoadCredential=unseal-key:/etc/openbao/unseal-key"
    by_hand = unit.replace("LoadCredentialEncrypted=unseal-key:/etc/openbao/unseal-key.cred", plain)
    assert by_hand != unit
    machine.install("openbao.service", by_hand)
    assert "shred" not in machine(*words, seconds=120)
    machine.install("openbao.service", unit)
    machine("shred", "-u", "/etc/openbao/unseal-key")
    drop_in = "/etc/systemd/system/homelab-agent.service.d/openbao.conf"
    machine("cp", drop_in, "/root/openbao.conf")
    machine("rm", drop_in)
    machine.systemctl("start", "homelab-agent.service")
    machine.systemctl("daemon-reload")
    machine("cp", "/root/openbao.conf", drop_in)  # as if it had been killed before systemd was told
    assert machine.show("homelab-agent.service")["NeedDaemonReload"] == "yes"
    again = machine(*words, seconds=120)
    assert {line.split(":")[0] for line in again.partition("\n\n")[0].splitlines()[1:]} == {"is there"}
    assert machine.show("homelab-agent.service")["NeedDaemonReload"] == "no"
    configuration = machine("cat", "/etc/homelab-agent/config.toml")
    assert 'secret_id = "credential:openbao-secret-id"' in configuration

    machine.reboot()
    bao = ["env", "HOME=/tmp", "BAO_ADDR=unix:///run/openbao/openbao.sock", "bao"]
    until(lambda: machine.run(*bao, "status").returncode == 0, "it is unsealed")
    machine.systemctl("start", "homelab-agent.service")
    agent = machine.show("homelab-agent.service")["MainPID"]
    status = dict(line.split(":\t") for line in machine("cat", f"/proc/{agent}/status").splitlines() if ":\t" in line)
    who = [f"--reuid={status['Uid'].split()[0]}", f"--regid={status['Gid'].split()[0]}"]
    as_agent = ["setpriv", *who, f"--groups={','.join(status['Groups'].split())}"]
    credential = "/run/credentials/homelab-agent.service/openbao-secret-id"
    login = ["write", "-field=token", "auth/approle/login", "role_id=homelab-agent", f"secret_id=@{credential}"]
    assert machine(*as_agent, *bao, *login).startswith("s.")

    audit = [entry["MESSAGE"] for entry in machine.journal("_SYSTEMD_UNIT=openbao.service")]
    assert any('"path":"auth/approle/login"' in line for line in audit)
    exposure = machine("systemd-analyze", "security", "--no-pager", "openbao.service").splitlines()[-1]
    print(exposure)
    assert float(exposure.split(": ")[1].split()[0]) < 1.5


def test_the_openbao_that_somebody_else_has_set_up_is_left_alone(machine: Machine) -> None:
    machine.install("openbao.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    machine.systemctl("start", "openbao.service")
    words = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "homelab_agent", "secrets", "bootstrap"]
    done = machine.run(*words, seconds=120)
    assert done.returncode == 1
    assert "There is an OpenBao here already" in done.stderr
    assert "sleep 1000" in machine("systemctl", "cat", "openbao.service")
    assert machine.show("openbao.service")["ActiveState"] == "active"
