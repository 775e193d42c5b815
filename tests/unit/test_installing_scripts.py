"""What the scripts of `make install` do one by one, below a directory of their own: the scripts' own functions."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCED = f"""
python={shlex.quote(sys.executable)}
. {shlex.quote(str(ROOT))}/deploy/host.sh
root={shlex.quote(str(ROOT))} && . {shlex.quote(str(ROOT))}/deploy/release.sh
prefix=$PWD/opt before=$PWD/opt/before command=$PWD/bin/homelab-agent
"""
STRANGE = "it's my lab & home|\\new"


def shell(directory: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run shell in a directory, with the functions of `release.sh`, whose places are below that."""
    (directory / "opt/releases").mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        ["/bin/sh", "-eu", "-c", SOURCED + script],
        cwd=directory,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def done(directory: Path, script: str, **environment: str) -> str:
    """Run shell that succeeds; return what it printed."""
    ended = shell(directory, script, **environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_release_says_where_its_checkout_is_whatever_that_is_called(tmp_path: Path) -> None:
    checkout = tmp_path / STRANGE
    (checkout / "deploy").mkdir(parents=True)
    (checkout / "deploy/launcher.sh").write_text((ROOT / "deploy/launcher.sh").read_text())
    script = f"root={shlex.quote(str(checkout))} release=$PWD/release; mkdir -p release/bin; write_launcher"
    done(tmp_path, script)
    ended = subprocess.run([tmp_path / "release/bin/homelab-agent"], capture_output=True, text=True, check=False)
    assert ended.returncode == 78, "its Python is not there"
    advice = ended.stderr.partition("Run: ")[2].partition(" && sudo make install")[0]
    there = subprocess.run(["/bin/sh", "-c", f"{advice} && pwd"], capture_output=True, text=True, check=True).stdout
    assert there == f"{checkout}\n"


def test_what_a_killed_run_had_put_is_known_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "unit").write_text("new\n")
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/placed").write_text("/before\n")
    done(tmp_path, "place unit $PWD/etc/first; place unit $PWD/etc/second; touch $PWD/etc/third.new")
    assert (tmp_path / "etc/second").read_text() == "new\n"
    done(tmp_path, "remember; remember")
    placed = (tmp_path / "opt/placed").read_text().splitlines()
    assert placed == sorted(["/before", f"{tmp_path}/etc/first", f"{tmp_path}/etc/second"])
    done(tmp_path, "displace $PWD/etc/third")
    assert {file.name for file in (tmp_path / "etc").iterdir()} == {"first", "second"}


def test_a_file_is_noted_before_it_is_put(tmp_path: Path) -> None:
    (tmp_path / "unit").write_text("new\n")
    (tmp_path / "etc").touch()
    assert shell(tmp_path, "place unit $PWD/etc/first").returncode != 0
    done(tmp_path, "remember")
    assert (tmp_path / "opt/placed").read_text() == f"{tmp_path}/etc/first\n"


def test_only_directories_that_were_made_are_taken_away_and_only_when_they_are_empty(tmp_path: Path) -> None:
    (tmp_path / "unit").write_text("new\n")
    (tmp_path / "theirs").mkdir()
    done(tmp_path, "for each in theirs ours/ours ours/shared; do place unit $PWD/$each/file; done")
    (tmp_path / "ours/shared/another").touch()
    done(tmp_path, "rm theirs/file ours/ours/file ours/shared/file; leave_directories")
    assert (tmp_path / "theirs").exists()
    assert not (tmp_path / "ours/ours").exists()
    assert (tmp_path / "ours/shared/another").exists()
    (tmp_path / "ours/shared/another").unlink()
    done(tmp_path, "leave_directories")
    assert not (tmp_path / "ours").exists()


def test_of_the_releases_the_one_in_use_and_the_one_before_it_stay(tmp_path: Path) -> None:
    for name in ("1-oldest", "2-cut-short", "3-before", "4-used"):
        (tmp_path / "opt/releases" / name).mkdir(parents=True)
    (tmp_path / "opt/current").symlink_to("releases/4-used")
    (tmp_path / "opt/before").write_text("3-before\n")
    done(tmp_path, "tidy")
    assert {each.name for each in (tmp_path / "opt/releases").iterdir()} == {"3-before", "4-used"}
    (tmp_path / "opt/before").unlink()
    done(tmp_path, "tidy; tidy")
    assert {each.name for each in (tmp_path / "opt/releases").iterdir()} == {"4-used"}


@pytest.mark.parametrize("target", [None, "../opt/venv/bin/homelab-agent", "/nowhere"])
def test_a_command_of_that_name_that_is_another_programs_is_not_written_over(
    tmp_path: Path, target: str | None
) -> None:
    command = tmp_path / "bin/homelab-agent"
    command.parent.mkdir()
    if target is None:
        command.write_text("#!/usr/bin/python3\n")
    else:
        command.symlink_to(target)
    ended = shell(tmp_path, "check_command")
    assert ended.returncode == 1
    assert f"{command} is there already" in ended.stderr
    command.unlink()
    command.symlink_to("../../../opt/homelab-agent/current/bin/homelab-agent")
    done(tmp_path, "check_command")
    command.unlink()
    done(tmp_path, "check_command")


def test_what_pip_is_told_goes_to_the_builder_as_one_line_that_the_shell_reads(tmp_path: Path) -> None:
    given = {"https_proxy": "http://me:it's&$(touch x)`\"\\@proxy:3128", "PIP_FIND_LINKS": "/a b", "OTHER": "no"}
    line = done(tmp_path, "builder_settings", NO_PROXY="a\nb", **given)
    assert line.count("\n") == 1
    script = f'{line}\nprintf "%s\\n" "$https_proxy" "$PIP_FIND_LINKS" "${{OTHER:-}}" "${{NO_PROXY:-}}"'
    read = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert read.splitlines() == [given["https_proxy"], given["PIP_FIND_LINKS"], "", ""]
