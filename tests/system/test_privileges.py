"""What is installed is closed to the agent's user as docs/privileges.md says; the journal and the shells know of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from homelab_agent.core.journal import meaning
from tests.installed import CONFIG, ROOT, SERVICE, Checkout
from tests.intruder import ASK, SOCKET, Asked, as_user, call
from tests.neighbours import python3_systemd
from tests.neighbours.machine import Machine

pytestmark = pytest.mark.timeout(400)  # the first one installs, on whatever else this host does

AGENT_SOCKET = "/run/homelab-agent/agent.sock"
CREDENTIALS = "/etc/homelab-agent/credentials"
CLOSED = (
    f"cat {CREDENTIALS}/api-token", f"ls {CREDENTIALS}", "cat /run/credentials/other.service/theirs",
    f"echo >>{CONFIG}", f"mv {CONFIG} /tmp/x", f"mv {CONFIG}.sample {CONFIG}", "touch /opt/homelab-agent/x",
    "echo >>/opt/homelab-agent/current/bin/homelab-agent", "rm /usr/local/bin/homelab-agent",
    "touch /usr/local/lib/systemd/system/homelab-agent.service.d/x.conf", f"rm {SOCKET}", f"mv {AGENT_SOCKET} /tmp/x",
    "ln -s /tmp /run/homelab-agent/x", "mv /var/lib/homelab-agent /var/lib/x", "cat /etc/shadow",
    "systemctl stop homelab-agent-privileged.socket", "systemctl restart homelab-agent.service", "kill -0 1",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _native(checkout: Checkout) -> None:
    """The journal has the events' own fields there."""
    shutil.copy(python3_systemd.package(), checkout.machine.path("/root/python3-systemd.deb"))
    checkout.machine("dpkg", "--install", "/root/python3-systemd.deb")
    checkout.made("install")


def shell(on: Machine, user: str, script: str) -> subprocess.CompletedProcess[str]:
    return on.run(*as_user(user), "sh", "-c", script)


def ask(on: Machine, user: str, asked: Asked) -> list[dict[str, Any]]:
    """Say something to the root half as a user; return what it says."""
    words = on.inside(*as_user(user), "/usr/bin/python3", "-I", "-c", ASK, SOCKET)
    done = subprocess.run(words, input=f"{asked.line}\n", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_shell_as_the_agents_user_changes_nothing_and_reads_no_others_credential(installed: Machine) -> None:
    installed.install(
        "other.service",
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\nLoadCredential=theirs:{CREDENTIALS}/api-token\nExecStart=true\n",
    )
    installed.systemctl("start", "other.service")
    assert installed("ls", "/run/credentials/other.service") == "theirs"
    assert shell(installed, "homelab-agent", "id -Gn").stdout.split() == ["homelab-agent"]
    before = installed("find", "/etc/homelab-agent", "/opt/homelab-agent", "/run/homelab-agent", "-printf", "%p %T@\n")
    for script in CLOSED:
        done = shell(installed, "homelab-agent", script)
        assert done.returncode != 0, f"{script}: {done.stdout}"
        assert "not found" not in done.stderr, f"{script}: {done.stderr}"
    after = installed("find", "/etc/homelab-agent", "/opt/homelab-agent", "/run/homelab-agent", "-printf", "%p %T@\n")
    assert after == before
    assert installed.show(SERVICE)["ActiveState"] == "active"


def test_the_root_half_is_for_the_agents_user_and_for_nothing_but_its_verbs(installed: Machine) -> None:
    installed("useradd", "--create-home", "person")
    installed("usermod", "-aG", "homelab", "person")
    assert ask(installed, "person", call("metrics_disks", {})) == [{"errno": 13}]
    assert ask(installed, "nobody", call("metrics_disks", {})) == [{"errno": 13}]
    for verb in ("shell", "restart_agent\0", "git_sync", ""):
        assert [*ask(installed, "homelab-agent", call(verb, {}))[-1]] == ["refused"]
    assert ask(installed, "homelab-agent", call("metrics_disks", {"disk": "/dev/sda"}))[-1].keys() == {"refused"}
    assert "answer" in ask(installed, "homelab-agent", call("metrics_disks", {}))[-1], "else all would be refused"
    told = installed.journal("HOMELAB_EVENT=privileged.called")
    assert {json.loads(one["MESSAGE"])["outcome"] for one in told} == {"refused", "ok"}


def test_the_agents_socket_is_for_the_group_and_the_page_for_all_to_read(installed: Machine) -> None:
    installed("useradd", "--create-home", "stranger")
    installed("useradd", "--create-home", "--groups=homelab", "member")
    for user, reached in (("stranger", False), ("homelab-agent", False), ("member", True), ("root", True)):
        done = installed.run(*as_user(user), "/usr/local/bin/homelab-agent", "status", "--json")
        assert (done.returncode == 0) is reached, f"{user}: {done.stderr}"


def test_journalctl_explains_what_the_installed_agent_logs(checkout: Checkout, installed: Machine) -> None:
    said = meaning.read(ROOT / "homelab_agent")["agent.ready"]
    shown = installed("journalctl", "-x", "-b", "-u", SERVICE, "HOMELAB_EVENT=agent.ready")
    assert said.subject in shown
    assert all(line in shown for line in said.lines())
    assert said.subject in checkout.agent("logs", "--explain", "--event", "agent.ready")


BASH = """
source /usr/local/share/bash-completion/completions/homelab-agent
COMP_WORDS=(homelab-agent gate cl) COMP_CWORD=2
_homelab_agent_completion homelab-agent
echo "${COMPREPLY[@]}"
"""


def test_the_shells_find_their_completion(checkout: Checkout, installed: Machine) -> None:
    assert installed("bash", "--norc", "-c", BASH) == "close"
    others = {"zsh": "zsh/site-functions/_homelab-agent", "fish": "fish/vendor_completions.d/homelab-agent.fish"}
    for name, file in others.items():
        there = installed.path(f"/usr/local/share/{file}")
        assert there.read_text().strip() == checkout.agent("completion", name)
