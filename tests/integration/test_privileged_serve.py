"""`homelab-agent privileged serve`: started by systemd and by the agent, with the configuration that may be trusted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homelab_agent import places
from homelab_agent.core.errors import Exit
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbRefused
from tests import user
from tests.neighbours.neighbour import need_root, program
from tests.root_half import ROOT, Unit, ask, asking, connect, hear
from tests.waiting import until

FAULTY = "[log]\nlevel = 'loud'\n"


@pytest.fixture
def configuration(open_directory: Path) -> Path:
    path = open_directory / "config.toml"
    path.write_text("[log]\nformat = 'json'\n")
    return path


def command(configuration: Path, *words: str) -> list[str]:
    """Return the agent's own command line, with that configuration."""
    return [*map(str, places.command(configuration)), *words]


@contextmanager
def serving(configuration: Path, *words: str) -> Iterator[Unit]:
    unit = Unit(configuration.parent, *words, command=command(configuration, "privileged", "serve")).start()
    try:
        yield unit
    finally:
        unit.close()


def answer(path: Path) -> dict[str, object]:
    with connect(path) as connection:
        ask(connection, "no_such_verb")
        return hear(connection)[-1]


def test_systemd_starts_it_with_the_first_call_and_stops_it(configuration: Path) -> None:
    activate = program("systemd-socket-activate", "apt-get install systemd")
    path = configuration.with_name("half.sock")
    words = [str(activate), f"--listen={path}", "--fdname=homelab-agent-privileged.socket"]
    words += command(configuration, "privileged", "serve")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as half:
        until(path.exists, "systemd listens")
        assert answer(path) == {"refused": "there is no verb 'no_such_verb'"}
        half.terminate()
        assert half.wait(20) == 0
        assert half.stderr is not None
        said = half.stderr.read()
    assert '"event":"privileged.called"' in said.replace(" ", "")
    assert '"outcome":"refused"' in said.replace(" ", "")


async def test_the_agent_starts_this_very_program(
    configuration: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    async with asking(open_directory, command=command(configuration)) as half:
        with pytest.raises(VerbRefused, match="no verb 'no_such_verb'"):
            await half.call("no_such_verb", deadline=30)


async def test_why_the_configuration_is_faulty_is_told_as_the_agent_would(
    configuration: Path, open_directory: Path
) -> None:
    await asyncio.to_thread(configuration.write_text, FAULTY)
    async with asking(open_directory, command=command(configuration)) as half:
        with pytest.raises(PrivilegedUnavailable, match=r"config\.toml:2: log\.level"):
            await half.call("no_such_verb", deadline=30)


def test_a_changed_configuration_counts_at_once(configuration: Path) -> None:
    sound = configuration.read_text()
    with serving(configuration) as unit:
        for _ in range(2):
            assert "refused" in answer(unit.path)
            configuration.write_text(FAULTY)
            assert "unavailable" in answer(unit.path)
            configuration.write_text(sound)


def test_root_acts_for_another_on_nothing_that_others_can_change(configuration: Path) -> None:
    need_root("to be asked by another user")
    with serving(configuration, "--for", "nobody") as unit:
        assert answer(unit.path) == {"refused": "there is no verb 'no_such_verb'"}
        os.chown(configuration, user.UID, user.UID)
        assert "does not belong to root" in str(answer(unit.path))
        os.chown(configuration, 0, 0)
        configuration.parent.chmod(0o775)
        assert f"chmod go-w {configuration.parent}" in str(answer(unit.path))
        configuration.parent.chmod(0o755)
        assert answer(unit.path) == {"refused": "there is no verb 'no_such_verb'"}


def test_for_a_user_that_there_is_not_it_does_not_start(configuration: Path) -> None:
    words = command(configuration, "privileged", "serve", "--for", "nobody-at-all")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == Exit.USAGE
    assert "no user nobody-at-all" in done.stderr


def test_a_person_who_starts_it_is_told_who_does(configuration: Path) -> None:
    words = command(configuration, "privileged", "serve")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == Exit.USAGE
    assert "repair: systemctl start homelab-agent-privileged.socket" in done.stderr


def test_it_is_not_among_the_commands_for_people() -> None:
    words = [sys.executable, "-m", "homelab_agent", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    assert "privileged" not in done.stdout


def test_it_loads_neither_web_server_nor_database_nor_what_starts_jobs(configuration: Path) -> None:
    with serving(configuration) as unit:
        assert "refused" in answer(unit.path)
        loaded = Path(f"/proc/{unit.pid}/maps").read_text()
    assert "pydantic_core" in loaded, "what is loaded can be seen"
    for library in ("aiohttp", "asyncpg", "psutil", "zstandard"):
        assert library not in loaded
    code = "import sys, homelab_agent.commands.privileged; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    unwanted = {"aiohttp", "asyncpg", "apscheduler", "jinja2", "prometheus_client", "psutil"}
    assert not unwanted & {*done.stdout.split()}
