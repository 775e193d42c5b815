"""The test bed's own parts that need no neighbour: the cache, ports, durations."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fixtures.soak import Soak, seconds
from tests.neighbours import cache
from tests.neighbours.ports import free_port


@pytest.fixture(autouse=True)
def _cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_AGENT_TEST_CACHE", str(tmp_path / "cache"))


def test_what_is_kept_is_made_once_for_each_lock_and_replaces_what_was_made_of_another(tmp_path: Path) -> None:
    lock = tmp_path / "go.sum"
    made: list[Path] = []

    def make(into: Path) -> None:
        made.append(into)
        (into / "program").write_text("x")

    lock.write_text("one")
    first = cache.kept("tool", [lock, "./cmd"], make)
    assert cache.kept("tool", [lock, "./cmd"], make) == first
    assert len(made) == 1
    lock.write_text("two")
    second = cache.kept("tool", [lock, "./cmd"], make)
    assert second != first
    assert not first.exists()
    assert (second / "program").read_text() == "x"


def test_a_build_that_fails_leaves_nothing_and_is_tried_again() -> None:
    def fail(into: Path) -> None:
        (into / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.kept("tool", ["1"], fail)
    assert not cache.place("tool", ["1"]).exists()
    assert not list(cache.directory().glob(".tool-*"))
    assert cache.kept("tool", ["1"], lambda into: (into / "whole").touch()).joinpath("whole").exists()


def test_names_that_begin_alike_do_not_remove_one_another() -> None:
    docker = cache.kept("docker", ["1"], lambda _: None)
    compose = cache.kept("docker-compose", ["1"], lambda _: None)
    cache.kept("docker", ["2"], lambda _: None)
    assert not docker.exists()
    assert compose.exists()


def test_who_comes_at_the_same_time_waits_for_the_one_that_builds() -> None:
    made: list[int] = []
    building = threading.Event()

    def make(_: Path) -> None:
        made.append(1)
        building.set()

    threads = [threading.Thread(target=cache.kept, args=("tool", ["1"], make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert building.is_set()
    assert made == [1]


def test_two_test_runs_are_never_given_the_same_port() -> None:
    script = "from tests.neighbours.ports import free_port; print(*(free_port() for _ in range(50))); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = set(map(int, other.stdout.readline().split()))
        ours = {free_port() for _ in range(200)}
        assert len(theirs) == 50
        assert not theirs & ours
        other.communicate("\n")


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("0.5h", 1800)])
def test_a_duration_is_read(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "30 m", "1d", "-1h", "m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


def test_dice_are_repeatable_and_a_test_without_a_share_does_its_least() -> None:
    assert Soak(0, 7).dice.random() == Soak(0, 7).dice.random()
    assert list(Soak(0, 7).rounds(3)) == [0, 1, 2]
