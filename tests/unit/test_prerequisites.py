"""What `make run` says when something is missing: one line, with the command that mends it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/venv.sh"
TOOLS = ("sh", "sed", "tr", "id", "cat", "sha256sum", "cut", "dirname", "uname", "grep", "rm", "head")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A PATH with the everyday tools and no Python."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (directory / tool).symlink_to(found)
    return directory


def python(host: Path, *, version: str = "3.11.2", bits: int = 64, venv: bool = True) -> None:
    """Put a Python on the host: this one, with another version, other bits or a module less."""
    major, minor, micro = version.split(".")
    lies = f"""
import sys, platform
sys.version_info = ({major}, {minor}, {micro}, "final", 0)
sys.maxsize = 2 ** {bits - 1} - 1
platform.python_version = lambda: "{version}"
if not {venv}:
    sys.modules["ensurepip"] = None
exec(sys.argv[1])
"""
    program = host / "python3"
    program.write_text(f"#!{shutil.which('sh')}\nshift\nexec {sys.executable} - \"$@\" <<'EOF'\n{lies}\nEOF\n")
    program.chmod(0o755)


def said(host: Path, tmp_path: Path) -> str:
    """Return what the script says; it must fail, in one line."""
    done = subprocess.run(
        ["/bin/sh", SCRIPT, tmp_path / "venv", "run"],
        env={"PATH": str(host)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert not (tmp_path / "venv").exists()
    return line


def test_no_python(host: Path, tmp_path: Path) -> None:
    line = said(host, tmp_path)
    assert "Python is missing" in line
    assert "install" in line


@pytest.mark.parametrize("version", ["3.10.13", "3.15.0", "2.7.18"])
def test_a_python_too_old_or_too_new(host: Path, tmp_path: Path, version: str) -> None:
    python(host, version=version)
    line = said(host, tmp_path)
    assert version in line
    assert "3.11 to 3.14" in line


def test_thirty_two_bits(host: Path, tmp_path: Path) -> None:
    python(host, bits=32)
    assert "64-bit" in said(host, tmp_path)


def test_python_without_venv(host: Path, tmp_path: Path) -> None:
    python(host, venv=False)
    line = said(host, tmp_path)
    assert "venv" in line
    assert "install" in line
