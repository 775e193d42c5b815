"""How the agent before this one ended: what the unit notes of it, and what is told."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import homelab_agent
from homelab_agent.core.clock import boot_id
from homelab_agent.notify import ending, life
from homelab_agent.notify.decision import Item
from homelab_agent.notify.ending import Ended
from homelab_agent.notify.severity import Severity

ROOT = Path(__file__).parents[2]
BEGAN = datetime(2026, 11, 29, 8, 0, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=12)
AT = NOW - timedelta(seconds=10)
WHO = "the one of 2026-11-29 08:00:00 UTC"


@pytest.fixture
def state() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript((Path(homelab_agent.__file__).parent / "notify/schema/state.sql").read_text())
    yield connection
    connection.close()


def ended(result: str, code: str = "killed", status: str = "KILL", *, boot: str = "one", memory: bool = False) -> Ended:
    return Ended(AT, result, code, status, boot, out_of_memory=memory)


def told(state: sqlite3.Connection, note: Ended | None, boot: str = "one") -> Item | None:
    assert life.begin(state, "one", BEGAN, None) is None
    return life.begin(state, boot, NOW, note)


@pytest.mark.parametrize(
    ("note", "how"),
    [
        (ended("watchdog", "dumped", "ABRT"), "was ended by its watchdog: it stood still, or did not do its work"),
        (ended("oom-kill"), "was killed by the kernel for want of memory"),
        (ended("signal", memory=True), "was killed by the kernel for want of memory"),
        (ended("signal"), "was killed (signal KILL)"),
        (ended("signal", status="SEGV", memory=True), "crashed (signal SEGV)"),
        (ended("core-dump", "dumped", "BUS"), "crashed (signal BUS)"),
        (ended("exit-code", "exited", "1"), "ended with exit code 1"),
        (ended("timeout"), "did not start or end in time, and was killed"),
        (ended("resources", "-", "-"), "ended; systemd says: resources"),
    ],
)
def test_how_it_ended_is_told_with_what_shows_why(state: sqlite3.Connection, note: Ended, how: str) -> None:
    item = told(state, note)
    assert item is not None
    assert (item.check, item.severity, item.since) == ("agent restarted", Severity.FAILED, AT)
    assert item.detail == f"{WHO} {how}"
    shown = shlex.split(item.repair)
    assert shown[0] == "journalctl"
    assert "--since=2026-11-29 19:54:50 UTC" in shown
    assert ("--dmesg" in shown) == ("memory" in how)


def test_without_a_note_it_is_told_that_it_did_not_end_by_itself(state: sqlite3.Connection) -> None:
    item = told(state, None)
    assert item is not None
    assert item.detail == f"{WHO} did not end by itself: killed, crashed, or by its watchdog"


def test_a_host_that_went_down_without_a_word_is_told(state: sqlite3.Connection) -> None:
    item = told(state, ended("success", "exited", "0", boot="before that"), boot="two")
    assert item is not None
    assert item.check == "host restarted"
    assert item.detail.startswith("the agent of 2026-11-29 08:00:00 UTC had no orderly end before: a power cut")
    assert item.repair.startswith("journalctl --boot=-1")


def test_an_agent_that_was_killed_at_the_hosts_end_is_told_of_as_that(state: sqlite3.Connection) -> None:
    item = told(state, ended("timeout"), boot="two")
    assert item is not None
    assert item.check == "agent restarted"


def test_who_ended_in_order_is_not_told_of(state: sqlite3.Connection) -> None:
    assert told(state, ended("success", "exited", "0")) is None
    life.end(state, NOW)
    assert life.begin(state, "one", NOW, ended("signal")) is None
    life.end(state, NOW)
    assert life.begin(state, "two", NOW, None) is None


# The note.


def stop_post() -> list[str]:
    """Return the unit's command that notes an end, as systemd would run it."""
    lines = (ROOT / "deploy/systemd/homelab-agent.service").read_text().replace("\\\n", " ").splitlines()
    [line] = [one for one in lines if one.startswith("ExecStopPost=") and "/ended" in one]
    return [word.replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStopPost=-"))]


def noted(directory: Path, **variables: str) -> Ended | None:
    """Return what is read of the note that the unit leaves."""
    subprocess.run(stop_post(), env={"STATE_DIRECTORY": str(directory), **variables}, check=True, timeout=10)
    return ending.read(directory)


def test_what_the_unit_notes_is_read(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    found = noted(tmp_path, SERVICE_RESULT="watchdog", EXIT_CODE="dumped", EXIT_STATUS="ABRT")
    assert found is not None
    assert before < found.at < datetime.now(UTC) + timedelta(seconds=1)
    assert (found.result, found.code, found.status, found.boot) == ("watchdog", "dumped", "ABRT", boot_id())
    assert not found.out_of_memory
    found = noted(tmp_path, SERVICE_RESULT="resources")
    assert found is not None
    assert (found.result, found.code, found.status) == ("resources", "-", "-")


def test_a_note_is_about_one_end(tmp_path: Path) -> None:
    assert ending.read(tmp_path) is None
    ending.begin(tmp_path)
    assert ending.read(tmp_path) is None
    assert noted(tmp_path, SERVICE_RESULT="signal", EXIT_CODE="killed", EXIT_STATUS="KILL") is not None
    ending.begin(tmp_path)
    assert ending.read(tmp_path) is None


@pytest.mark.parametrize(
    ("note", "of_memory"),
    [
        ("3 signal killed KILL boot 3", False),
        ("3 signal killed KILL boot 4", True),
        ("3 signal killed KILL boot 1", True),  # the service's group was made anew since, and counts from nothing
        ("3 signal killed KILL boot 0", False),
        ("- signal killed KILL boot 1", False),
        ("3 signal killed KILL boot -", False),
    ],
)
def test_for_want_of_memory_is_what_the_kernel_killed_since_it_began(
    tmp_path: Path, note: str, *, of_memory: bool
) -> None:
    (tmp_path / "ended").write_text(f"{note}\n")
    found = ending.read(tmp_path)
    assert found is not None
    assert found.out_of_memory is of_memory


@pytest.mark.parametrize("note", ["", "\n", "3 signal", "a b c d e f g", "3 sig;nal x y z 1", "\x00" * 40, "é" * 3000])
def test_what_is_no_note_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / "ended").write_text(note)
    assert ending.read(tmp_path) is None
