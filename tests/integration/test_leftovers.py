"""After the tests nothing of theirs is left on this host: what is left fails the run, and Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until

pytestmark = pytest.mark.alone
ROOT = Path(__file__).parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header"]

PROCESS = """
import subprocess
def test_that_leaves_a_daemon():
    subprocess.run(["setsid", "--fork", "sleep", "600"], check=True)
"""
FILE = """
import tempfile
def test_that_leaves_a_directory():
    tempfile.mkdtemp(prefix="homelab-agent-forgotten-")
"""
NOTHING = """
import subprocess, tempfile
def test_that_tidies_up():
    with tempfile.TemporaryDirectory(prefix="homelab-agent-tidied-"):
        subprocess.run(["setsid", "--fork", "true"], check=True)
"""


def run(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a test file as the whole suite is run, with a temporary directory of its own."""
    (directory / "test_it.py").write_text(text)
    argv = [*PYTEST, "-c", str(directory / "none.toml"), "-p", "tests.fixtures.leftovers", str(directory)]
    (directory / "none.toml").write_text("[tool.pytest.ini_options]\n")
    env = {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("text", "said"), [(PROCESS, "sleep 600"), (FILE, "homelab-agent-forgotten-")])
def test_what_a_test_leaves_behind_fails_the_run_and_is_named(tmp_path: Path, text: str, said: str) -> None:
    done = run(tmp_path, text)
    for pid in [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("process ")]:
        os.kill(int(pid), signal.SIGKILL)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 passed" in done.stdout
    assert "left behind by the tests" in done.stdout
    assert said in done.stdout


def test_a_run_that_leaves_nothing_passes(tmp_path: Path) -> None:
    done = run(tmp_path, NOTHING)
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(240)
def test_ctrl_c_while_every_neighbour_runs_leaves_nothing(tmp_path: Path) -> None:
    up = tmp_path / "up"
    listens = ["env", "--default-signal=INT"]  # a shell's background jobs are born deaf to Ctrl-C
    argv = [*listens, *PYTEST, "--timeout=0", "-s", str(ROOT / "tests/all_up.py")]
    log = tmp_path / "log"
    env = {**os.environ, "HOMELAB_AGENT_TESTS_UP": str(up), "CI": "false"}
    with log.open("wb") as out, subprocess.Popen(argv, cwd=ROOT, env=env, stdout=out, stderr=out) as child:
        try:
            until(lambda: up.exists() or child.poll() is not None, "every neighbour runs", seconds=150)
            assert child.poll() is None, log.read_text()[-5000:]
            child.send_signal(signal.SIGINT)
            assert child.wait(60) == pytest.ExitCode.INTERRUPTED, log.read_text()[-5000:]
        finally:
            child.kill()
    assert "left behind" not in log.read_text(), log.read_text()[-5000:]
