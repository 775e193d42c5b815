"""The stack of compose/, on a real Docker Engine and a real journal: what it is, what it survives, what it says.

Grafana is not started: there is no package of it to be had here (`tests/stack_images.py`).
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator

import pytest

from tests import stack as here
from tests.stack import CONFIG, HERE, PLUGIN, SERVICES, Stack
from tests.waiting import until

VOLUMES = {f"homelab_{name}" for name in ("postgres", "loki", "grafana", "promtail")}
PASSWORDS = ("agent_database_password", "grafana_database_password", "grafana_admin_password", "grafana_secret_key")
OURS = {"127.0.0.1:5432", "127.0.0.1:3100"}
"""What listens on this machine; Grafana would on 127.0.0.1:3001."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A machine on which the stack is up."""
    with here.running() as one:
        one.said = one.up()
        yield one


def test_make_up_makes_volumes_and_passwords_and_says_where_to_go(stack: Stack) -> None:
    assert set(stack.docker("volume", "ls", "--quiet").split()) >= VOLUMES
    secrets = stack.machine.path(f"{HERE}/compose/secrets")
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (secrets, *secrets.iterdir())}
    assert modes == {"secrets": "0o700", **dict.fromkeys(PASSWORDS, "0o444"), "for_the_agent": "0o600"}
    passwords = {stack.secret(name) for name in PASSWORDS}
    assert len(passwords) == len(PASSWORDS)
    assert {len(each) for each in passwords} == {48}
    assert stack.secret("for_the_agent") == stack.secret("agent_database_password")
    for said in (
        "http://127.0.0.1:3001/",
        "db move --to postgresql://homelab@127.0.0.1:5432/homelab --password file:",
        f"file:{HERE}/compose/secrets/for_the_agent",
        f"cat {HERE}/compose/secrets/grafana_admin_password",
        "older than 28",  # Debian 12's is
    ):
        assert said in stack.said
    for container in SERVICES.split():
        assert not [each for each in passwords if each in json.dumps(stack.inspect(container))]
    assert not [each for each in passwords if each in stack.said + stack.compose("config")]


def test_made_again_it_keeps_what_there_is(stack: Stack) -> None:
    before = [stack.secret(name) for name in PASSWORDS]
    pids = [stack.inspect(name)["State"]["Pid"] for name in SERVICES.split()]
    stack.up()
    assert [stack.secret(name) for name in PASSWORDS] == before
    assert [stack.inspect(name)["State"]["Pid"] for name in SERVICES.split()] == pids


def test_what_runs_can_do_little(stack: Stack) -> None:
    for name in SERVICES.split():
        found = stack.inspect(name)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["LogConfig"]["Type"] == "journald"
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert not [mount for mount in found["Mounts"] if "docker.sock" in mount["Source"]]
        read_only = [mount["RW"] for mount in found["Mounts"] if mount["Type"] == "bind"]
        assert not any(read_only), name
    assert "GOMEMLIMIT=510MiB" in stack.inspect("loki")["Config"]["Env"], "85 % of the 600 that the .env gives it"
    assert set(stack.inspect("promtail")["NetworkSettings"]["Networks"]) == {"homelab_data"}
    assert (
        stack.docker("network", "inspect", "--format", "{{.Internal}}", "homelab_data", "homelab_edge") == "true\nfalse"
    )


def test_no_port_listens_beyond_what_the_file_says(stack: Stack) -> None:
    stated = json.loads(stack.compose("config", "--format", "json"))["services"]
    ports = {f"{port['host_ip']}:{port['published']}" for one in stated.values() for port in one.get("ports", ())}
    assert ports == {"127.0.0.1:5432", "127.0.0.1:3100", "127.0.0.1:3001"}
    open_ = stack.machine("ss", "--no-header", "--processes", "-tuln").splitlines()
    listening = {line.split()[4] for line in open_ if '"containerd"' not in line}  # which does without any container
    assert listening == OURS


def test_roles_have_what_they_need_and_nothing_else(stack: Stack) -> None:
    stack.sql("CREATE SCHEMA IF NOT EXISTS homelab; CREATE TABLE IF NOT EXISTS homelab.made AS SELECT 7 AS n")
    assert (
        stack.sql("SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user") == "f"
    )
    assert "pg_write_server_files" in stack.psql("COPY (SELECT 1) TO '/tmp/x'", role="homelab").stderr

    def as_grafana(statement: str) -> str:
        done = stack.psql(statement, role="grafana")
        return (done.stdout or done.stderr).strip()

    assert as_grafana("SELECT n FROM made") == "7"
    assert "read-only transaction" in as_grafana("CREATE TABLE homelab.mine ()")
    assert "permission denied" in as_grafana("BEGIN READ WRITE; DELETE FROM homelab.made")
    assert as_grafana("SHOW statement_timeout") == "30s"
    assert "no pg_hba.conf entry" in stack.psql("SELECT 1", role="grafana", database="postgres").stderr
    assert stack.sql("SHOW timescaledb.telemetry_level") == "off"
    assert stack.sql("SHOW shared_buffers") == "256MB", "a quarter of the limit"
    found = stack.sql("SELECT extname FROM pg_extension WHERE extname IN ('postgis', 'timescaledb') ORDER BY 1")
    assert found.split() == ["postgis", "timescaledb"]


def test_a_changed_password_holds_from_the_next_start_on(stack: Stack) -> None:
    old = stack.secret("agent_database_password")
    path = stack.machine.path(f"{HERE}/compose/secrets/agent_database_password")
    path.unlink()
    path.write_text("another one")
    assert "password authentication failed" in stack.psql("SELECT 1", role="homelab").stderr
    done = stack.make("stack-restart", SERVICE="postgres")
    assert done.returncode == 0, done.stderr
    until(lambda: stack.is_healthy("postgres"), "it is well", seconds=60)
    assert stack.sql("SELECT 1") == "1"
    assert stack.secret("for_the_agent") == "another one"
    path.unlink()
    path.write_text(old)
    stack.kill("postgres")  # as a restart does, however it ends
    assert stack.sql("SELECT 1") == "1"


def test_no_password_is_logged_however_much_is(stack: Stack) -> None:
    file = stack.machine.path(f"{HERE}/compose/postgres/postgresql.conf")
    text = file.read_text()
    file.write_text(f"{text}log_min_duration_statement = 0\nlog_statement = all\nlog_min_error_statement = info\n")
    at = time.time()
    assert stack.make("stack-restart", SERVICE="postgres").returncode == 0
    until(lambda: stack.is_healthy("postgres"), "it is well", seconds=60)
    file.write_text(text)
    assert stack.make("stack-restart", SERVICE="postgres").returncode == 0
    until(lambda: stack.is_healthy("postgres"), "it is well", seconds=60)
    logged = stack.machine.journal("CONTAINER_NAME=homelab-postgres-1", f"--since=@{at:.6f}")
    said = "\n".join(str(one["MESSAGE"]) for one in logged)
    assert "CREATE EXTENSION" in said, "statements are logged"
    assert "duration: " in said
    for name in PASSWORDS:
        assert stack.secret(name) not in said


def test_an_agent_with_a_user_of_its_own_moves_as_it_is_told(stack: Stack) -> None:
    stack.machine("useradd", "--system", "homelab-agent")
    stack.machine("chmod", "go+x", "/root")  # where this checkout's Python may be
    stack.write_agent(database='url = "embedded"', user="homelab-agent")
    stack.machine.systemctl("restart", "homelab-agent.service")
    until(lambda: stack.agent("status").returncode == 0, "it is up", seconds=60)
    told = stack.up().partition("take along what it has:\n")[2].partition("Passwords are")[0].splitlines()
    hand_over, move = (line.strip() for line in told)
    found = {one["check"]: one for one in json.loads(stack.agent("doctor", "stack", "--json").stdout)}
    assert found["stack.database"]["repair"] == f"{hand_over}; {move}"
    stack.machine(*hand_over.removeprefix("sudo ").split())
    stack.machine(*move.split(), "--yes", seconds=110)
    assert 'password = "file:/etc/homelab-agent/' in stack.machine.path(CONFIG).read_text()
    stack.machine.systemctl("restart", "homelab-agent.service")
    rows = "SELECT count(*) > 0 FROM homelab.agent_start"
    until(lambda: stack.psql(rows, role="homelab").stdout.strip() == "t", "it writes there", seconds=60)
    found = {one["check"]: one for one in json.loads(stack.agent("doctor", "stack", "--json").stdout)}
    assert found["stack.database"]["state"] == "ok"

    path = stack.machine.path(f"{HERE}/compose/secrets/agent_database_password")
    old = path.read_text()
    path.unlink()
    path.write_text("yet another")
    assert hand_over in stack.make("stack-restart", SERVICE="postgres").stdout, "its copy is another's now"
    path.unlink()
    path.write_text(old)
    stack.make("stack-restart", SERVICE="postgres")
    until(lambda: stack.is_healthy("postgres"), "it is well", seconds=60)
    stack.machine.systemctl("stop", "homelab-agent.service")


def test_killed_in_its_first_start_postgresql_goes_on_with_the_next(stack: Stack) -> None:
    said = stack.inspect("postgres")
    trial = (
        "run",
        "--detach",
        "--name",
        "trial",
        "--env",
        "PGDATA=/home/postgres/pgdata/data",
        "--env",
        "MEMORY_MB=512",
    )
    mounts = [f"{HERE}/compose/postgres:/etc/homelab:ro", "trial:/home/postgres/pgdata"]
    mounts += [f"{HERE}/compose/secrets/{name}:/run/secrets/{name}:ro" for name in PASSWORDS[:2]]
    options = [*(word for mount in mounts for word in ("--volume", mount)), "--tmpfs", "/var/run/postgresql:uid=1000"]
    stack.docker(*trial, *options, "--entrypoint", "/bin/sh", said["Config"]["Image"], "/etc/homelab/start.sh")
    volume = stack.machine.path("/var/lib/docker/volumes/trial/_data")
    for sign in ("unfinished/base", "data/PG_VERSION", "data/postmaster.pid"):
        until((volume / sign).exists, f"it has come to {sign}")
        stack.machine("kill", "-KILL", str(stack.docker("inspect", "--format", "{{.State.Pid}}", "trial")))
        until(lambda: stack.docker("inspect", "--format", "{{.State.Running}}", "trial") == "false", "it is dead")
        stack.docker("start", "trial")
    ask = ("docker", "exec", "trial", "psql", "-XAtq", "-U", "postgres", "-h", "/var/run/postgresql", "homelab", "-c")
    well = ("docker", "exec", "trial", "/bin/sh", "/etc/homelab/healthy.sh")
    until(lambda: stack.machine.run(*well).returncode == 0, "it is well", seconds=60)
    assert stack.machine(*ask, "SELECT count(*) FROM pg_roles WHERE rolname IN ('homelab', 'grafana')") == "2"
    stack.docker("rm", "--force", "--volumes", "trial")
    stack.docker("volume", "rm", "trial")


def test_what_dies_comes_back_with_all_it_had(stack: Stack) -> None:
    stack.sql("CREATE TABLE IF NOT EXISTS survives (n int); INSERT INTO survives VALUES (1)")
    stack.machine("systemd-run", "--wait", "--unit=before", "echo", "said before the end")
    stack.until_found('{component="system"} |= "said before the end"')
    for name in SERVICES.split():
        stack.kill(name)
    assert stack.sql("SELECT count(*) FROM survives") == "1"
    assert stack.count('{component="system"} |~ "^said before the end$"') == 1


def test_down_and_up_again_loses_nothing(stack: Stack) -> None:
    stack.sql("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
    stack.machine("systemd-run", "--wait", "--unit=first", "echo", "said while it is up")
    stack.until_found('{component="system"} |= "said while it is up"')
    assert stack.make("down").returncode == 0
    assert not stack.docker("ps", "--all", "--quiet")
    stack.compose("down", "--volumes")
    stack.machine("systemd-run", "--wait", "--unit=second", "echo", "said while it is down")
    stack.up()
    assert stack.sql("SELECT count(*) FROM kept") == "1"
    stack.until_found('{component="system"} |= "said while it is down"')
    assert stack.count('{component="system"} |~ "^said while it is up$"') == 1, "the shipper goes on where it was"


def test_without_compose_memory_or_a_journal_make_up_says_what_helps(stack: Stack) -> None:
    settings = stack.machine.path(f"{HERE}/compose/.env")
    before = settings.read_text()
    stack.machine("mv", PLUGIN, f"{PLUGIN}.away")
    assert "docker-compose-plugin" in stack.make("up").stderr, "Debian 12 has Compose 1 only"
    stack.machine("mv", f"{PLUGIN}.away", PLUGIN)
    settings.write_text(f"{before}HOMELAB_JOURNAL=/nowhere\n")
    assert "Storage=persistent" in stack.make("up").stderr
    settings.write_text(before)
    assert stack.make("down").returncode == 0
    little = stack.machine.path("/run/meminfo")
    little.write_text("MemTotal: 3000000 kB\nMemAvailable: 2300000 kB\n")
    stack.machine("mount", "--bind", "/run/meminfo", "/proc/meminfo")
    refused = stack.make("up", SERVICE=SERVICES)
    assert refused.returncode != 0
    assert "PROFILE=edge" in refused.stderr
    assert "FORCE=1" in refused.stderr
    assert "the stack may take 2392" in refused.stderr, "all their limits"
    assert stack.make("up", SERVICE=SERVICES, FORCE="1").returncode == 0
    assert stack.make("up", SERVICE=SERVICES).returncode == 0, "what runs has its memory"
    stack.machine("umount", "/proc/meminfo")


def test_images_are_fetched_before_they_are_started_for_the_first_time(stack: Stack) -> None:
    settings = stack.machine.path(f"{HERE}/compose/.env")
    before = settings.read_text()
    names = ("POSTGRES", "LOKI", "GRAFANA", "PROMTAIL", "ALLOY")
    nowhere = "".join(f"HOMELAB_{name}_IMAGE=127.0.0.1:1/{name.lower()}:1\n" for name in names)
    settings.write_text(nowhere)  # of which each is asked for, where nobody answers
    for given, asked in (({}, "promtail"), ({"PROFILE": "alloy"}, "alloy"), ({"PROFILE": "edge-alloy"}, "alloy-edge")):
        done = stack.make("pull", **given)
        assert done.returncode != 0, given
        assert asked in done.stderr, given
    assert settings.read_text() == nowhere, "what is started is chosen by make up"
    settings.write_text(before)
