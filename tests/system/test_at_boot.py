"""A host that boots without all that its agent speaks to: it is ready, says what is missing, and takes up each.

PostgreSQL's password is in OpenBao, to which a credential of systemd's lets the agent in: all of it in its sandbox.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installed import CONFIG, SERVICE, Checkout
from tests.neighbours import machine as machines
from tests.neighbours import openbao, tailscale, wheels
from tests.neighbours import tailnet as tailnets
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)  # the first one installs, on whatever else this host does

TAILNET = "/srv/tailnet"
"""Where the daemon's socket is there: the service's /tmp is its own."""
LAN = "192.168.77.7"
PASSWORD = "of-nobody-but-openbao"
SETTINGS = f"""
[gate]
funnel = true
socket = "{TAILNET}/homelab.sock"
every = 0.5
in_doubt = 0.1

[gitops]
poll = 0

[[gitops.repository]]
name = "site"
full_name = "octo/site"
id = 7
directory = "/srv/site"
secret = [{{name = "main", secret = "openbao:secret/homelab/hook#secret"}}]
"""
POSTGRES = "postgresql@15-house.service"
OPENBAO, AWAY = "/etc/openbao/openbao.hcl", "/etc/openbao/away"
"""Without this file its unit is not started, though the agent's wants it."""
AS_POSTGRES = ("runuser", "--user", "postgres", "--")
SANDBOX = """
import re, sys
text = open("/usr/local/lib/systemd/system/homelab-agent.service").read()
text = re.sub(r"(?m)^(ExecStart|ExecReload|ExecStopPost|Restart|Watchdog|Type)\\w*=.*\\n", "", text)
more = "[Service]\\nType=oneshot\\nStandardOutput=truncate:/run/inside\\nExecStart=" + sys.argv[1]
print(text.replace("[Service]", more))
"""
"""Makes of the agent's unit one that runs another command in its sandbox."""


@pytest.fixture(scope="module")
def house(directory: Path) -> Iterator[Checkout]:
    """An installed agent whose PostgreSQL, OpenBao and Tailscale are set up, and none of which is there at boot."""
    openbao.obtain()
    shared = [wheels.directory(), directory, tailscale.built("tailscaled").parent]
    with machines.running(shared=shared) as machine:
        one = Checkout(machine)
        one.made("install")
        shutil.copy(openbao.program(), machine.path("/usr/bin/bao"))
        shutil.copy(tailscale.built("tailscale"), machine.path("/usr/local/bin"))
        machine("homelab-agent", "secrets", "bootstrap", seconds=120)
        put(one, "postgres", password=PASSWORD)
        put(one, "hook", secret="It's a Secret to Everybody")
        machine("pg_createcluster", "15", "house", "--port=5432", "--start", seconds=120)
        role = f"CREATE ROLE homelab LOGIN PASSWORD '{PASSWORD}'"
        for statement in (role, "CREATE DATABASE homelab OWNER homelab"):
            machine(*AS_POSTGRES, "psql", "-qc", statement)
        machine("homelab-agent", "config", "set", "database.url", "postgresql://homelab@127.0.0.1/homelab")
        machine("homelab-agent", "config", "set", "database.password", "openbao:secret/homelab/postgres#password")
        machine("homelab-agent", "config", "set", "database.ship_every", "1.0")
        machine.path(CONFIG).write_text(f"{machine.path(CONFIG).read_text()}\n{SETTINGS}")
        machine("mv", OPENBAO, AWAY)
        machine("mkdir", TAILNET)
        machine.reboot()
        yield one


def put(house: Checkout, name: str, **values: str) -> None:
    """Write a secret into OpenBao, as its operator does."""
    bao = ("env", "HOME=/root", "BAO_ADDR=unix:///run/openbao/openbao.sock", "bao")
    secret_id = "secret_id=@/etc/openbao/operator-secret-id"
    token = house.machine(*bao, "write", "-field=token", "auth/approle/login", "role_id=operator", secret_id)
    words = [f"{key}={value}" for key, value in values.items()]
    house.machine("env", f"BAO_TOKEN={token}", *bao, "kv", "put", f"secret/homelab/{name}", *words)


def findings(house: Checkout) -> dict[str, dict[str, Any]]:
    """Return what the running agent finds, by check."""
    status, body = house.asked("/api/health")
    assert status in {200, 503}
    return {one["check"]: one for one in json.loads(body)["findings"]}


def becomes(house: Checkout, check: str, state: str) -> dict[str, Any]:
    until(lambda: findings(house)[check]["state"] == state, f"{check} is {state}", seconds=60)
    return findings(house)[check]


def in_sandbox(house: Checkout, command: str) -> str:
    """Run a command as the agent's unit would, and return what it printed."""
    machine = house.machine
    machine.install("inside.service", machine("python3", "-I", "-c", SANDBOX, command))
    machine.systemctl("start", "inside.service")
    return machine("cat", "/run/inside")


def rows(house: Checkout) -> int:
    """Return how many instants PostgreSQL knows of."""
    done = house.machine.run(*AS_POSTGRES, "psql", "-Atc", "SELECT count(*) FROM homelab.tick", "homelab")
    return int(done.stdout.strip() or 0)


def test_it_is_ready_without_any_of_them_says_so_and_takes_up_each_without_a_restart(
    house: Checkout, directory: Path
) -> None:
    machine = house.machine
    for unit in ("openbao.service", POSTGRES):
        assert machine.show(unit)["ActiveState"] == "inactive", unit
    began = machine.show(SERVICE)
    assert (began["ActiveState"], began["SubState"], began["NRestarts"]) == ("active", "running", "0")
    missing = {
        "secrets.openbao": "OpenBao at unix:/run/openbao/openbao.sock does not answer",
        "database.connection": "OpenBao at unix:/run/openbao/openbao.sock does not answer",
        "webhook": "OpenBao at unix:/run/openbao/openbao.sock does not answer",
        "gate.funnel": f"No tailscaled listens at {TAILNET}/homelab.sock",
    }
    for check, said in missing.items():
        until(lambda: said in findings(house)[check]["detail"], f"{check} says what is missing", seconds=60)  # noqa: B023
        assert findings(house)[check]["state"] in {"failed", "degraded"}, check
        assert findings(house)[check]["repair"], check

    machine("mv", AWAY, OPENBAO)
    machine.systemctl("start", "openbao.service")
    becomes(house, "secrets.openbao", "ok")
    becomes(house, "webhook", "ok")
    until(lambda: "127.0.0.1" in findings(house)["database.connection"]["detail"], "PostgreSQL is missed", seconds=90)

    machine.systemctl("start", POSTGRES)
    becomes(house, "database.connection", "ok")
    until(lambda: rows(house) > 0, "what was sampled before it came is in PostgreSQL", seconds=60)
    assert findings(house)["gate.funnel"]["state"] in {"failed", "degraded"}

    machine("mount", "--bind", directory, TAILNET)
    with tailnets.running(of=machine.pid, directory=directory) as tailnet:
        house.agent("gate", "operator", "--yes")
        becomes(house, "gate.funnel", "ok")
        until(tailnet.public.reaches, "the internet is let in", seconds=60)
        after = machine.show(SERVICE)
        assert [after[name] for name in ("MainPID", "NRestarts")] == [began[name] for name in ("MainPID", "NRestarts")]


def test_in_its_sandbox_the_same_is_read_of_the_host_as_without_one(house: Checkout) -> None:
    assert {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set(in_sandbox(house, "/bin/cat /proc/self/status").splitlines())
    sample = "homelab-agent metrics sample --json"
    without = json.loads(house.machine(*sample.split()))
    within = json.loads(in_sandbox(house, f"/usr/local/bin/{sample}"))
    assert "sensors" in without["collectors"]
    for name, found in without["collectors"].items():
        assert (name, within["collectors"][name]["status"]) == (name, found["status"])
    for family in ("temperature", "cpu", "memory", "network", "disk"):
        keys = [{one["key"] for one in each["families"].get(family, ())} for each in (without, within)]
        assert keys[0] == keys[1], family


def answers(house: Checkout, address: str) -> str:
    """Ask the agent at an address of its host; return the status of the answer, or why there is none."""
    ask = f"import urllib.request as r; print(r.urlopen('http://{address}:8085/api/health/live', timeout=30).status)"
    done = house.machine.run("python3", "-I", "-c", ask)
    return (done.stdout + done.stderr).strip().rpartition("\n")[2]


def test_an_address_of_the_lan_is_listened_at_over_a_boot_before_the_host_has_it(house: Checkout) -> None:
    machine, add = house.machine, ("ip", "address", "add", f"{LAN}/24", "dev", "lo")
    house.agent("config", "set", "web.listen", f"{LAN}:8085")
    machine(*add)
    house.made("install")
    assert answers(house, LAN) == "200"
    assert "refused" in answers(house, "127.0.0.1")
    machine.reboot()
    assert LAN not in machine("ip", "address")
    assert machine.show("homelab-agent.socket")["ActiveState"] == "active"
    assert machine.show(SERVICE)["SubState"] == "running"
    assert answers(house, LAN) != "200"
    machine(*add)
    assert answers(house, LAN) == "200"
    assert machine.show(SERVICE)["NRestarts"] == "0"
