"""Who may publish beside root: shown, asked about, and changed at the real tailscaled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homelab_agent.core.errors import Exit
from tests.agent import Agent
from tests.gate_home import Home
from tests.neighbours.tailnet import Tailnet
from tests.user import UID, ordinary

ON_A_TERMINAL = """
import os, pty, sys
said, *argv = sys.argv[1:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(argv[0], argv)
seen = b""
while b"[y/N]" not in seen:
    seen += os.read(terminal, 1024)
os.write(terminal, said.encode() + b"\\n")
try:
    while more := os.read(terminal, 1024):
        seen += more
except OSError:  # its other end is closed
    pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def home(tailnet: Tailnet, agent: Agent, open_directory: Path) -> Home:
    made = Home(tailnet, agent, open_directory)
    made.configure()
    return made


def operator(home: Home) -> str:
    """Return who is the operator, as the daemon says."""
    return str(home.tailnet.homelab.ask("GET", "prefs").get("OperatorUser", ""))


def answering(home: Home, said: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a terminal and answer what it asks."""
    argv = [sys.executable, "-c", ON_A_TERMINAL, said, *home.agent.command(*words)]
    return subprocess.run(argv, env=home.agent.env, capture_output=True, text=True, timeout=60, check=False)


def test_nobody_is_replaced_unasked(home: Home) -> None:
    home.tailnet.homelab.operate("daemon")
    refused = home.agent.run("gate", "operator", "nobody")
    assert refused.returncode == Exit.USAGE
    assert "daemon is it now" in refused.stderr
    assert operator(home) == "daemon"
    assert answering(home, "n", "gate", "operator", "nobody").returncode == Exit.FAILED
    assert operator(home) == "daemon"


def test_who_is_asked_and_agrees_has_it_changed(home: Home) -> None:
    home.tailnet.homelab.operate("daemon")
    done = answering(home, "y", "gate", "operator", "nobody")
    assert done.returncode == 0, done.stdout
    assert "Make nobody Tailscale's operator on this host? daemon is it now, and would publish nothing" in done.stdout
    assert operator(home) == "nobody"


def test_a_script_says_yes_for_whom_the_agent_runs_as(home: Home) -> None:
    home.agent.state.mkdir(exist_ok=True)
    os.chown(home.agent.state, UID, UID)
    done = home.agent.run("gate", "operator", "--yes")
    assert (done.returncode, done.stdout) == (0, "nobody is Tailscale's operator on this host\n"), done.stderr
    assert operator(home) == "nobody"
    assert home.agent.run("gate", "operator").stdout == "nobody is Tailscale's operator on this host already\n"


def test_root_needs_no_place_and_takes_nobodys(home: Home) -> None:
    home.tailnet.homelab.operate("daemon")
    done = home.agent.run("gate", "operator", "root", "--yes")
    assert (done.returncode, done.stdout) == (0, "root may publish without being the operator\n")
    assert operator(home) == "daemon"


def test_who_may_not_change_it_is_told_how_and_a_user_that_is_none_is_refused(home: Home, open_directory: Path) -> None:
    program, reachable = str(home.tailnet.homelab.program), open_directory / "tailscale"
    reachable.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    reachable.chmod(0o755)
    home.agent.config.write_text(home.agent.config.read_text().replace(program, str(reachable)))
    words = home.agent.command("gate", "operator", "nobody", "--yes")
    done = subprocess.run(ordinary(words), env=home.agent.env, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.FAILED
    assert "sudo homelab-agent gate operator nobody" in done.stderr
    assert home.agent.run("gate", "operator", "no-such-user", "--yes").returncode == Exit.FAILED
    assert operator(home) == ""


def test_the_doctor_says_whose_place_it_would_take_and_what_asks(home: Home) -> None:
    home.agent.state.mkdir(exist_ok=True)
    os.chown(home.agent.state, UID, UID)
    home.tailnet.homelab.operate("daemon")
    told = home.agent.run("doctor", "gate").stdout
    assert "that is daemon, whose place it would take" in told
    assert "sudo homelab-agent gate operator nobody" in told
