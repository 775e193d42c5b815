"""A child's wall clock goes where a test sets it, at once and for all its threads; waits and monotonic time do not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.neighbours.faketime import FakeTime

HOUR = 3600
LATE = 60
"""Seconds that a busy machine may be late: far less than any step of these tests."""

CHILD = """
import ctypes, datetime, os, queue, select, sqlite3, subprocess, sys, threading, time
libc = ctypes.CDLL(None)

class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64)]

def soon(clock):
    at = time.clock_gettime_ns(clock) + 200_000_000
    return ctypes.byref(Timespec(at // 10**9, at % 10**9))

def seconds_of(wait):
    began = time.monotonic()
    result = wait()
    return time.monotonic() - began, result

def gettimeofday():
    libc.gettimeofday(ctypes.byref(now := Timespec()), None)
    return now.seconds

def locked():
    libc.pthread_mutex_lock(mutex := ctypes.create_string_buffer(64))
    return mutex

def monotonic():
    kind, condition = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
    libc.pthread_condattr_init(kind)
    libc.pthread_condattr_setclock(kind, time.CLOCK_MONOTONIC)
    libc.pthread_cond_init(condition, kind)
    return condition

for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""

Ask = Callable[[str], Any]


@contextmanager
def python(clock: FakeTime) -> Iterator[Ask]:
    """Run a python whose clock is the test's; give what evaluates an expression there."""
    env = {**os.environ, **clock.env}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:

        def ask(expression: str) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            print(expression, file=process.stdin, flush=True)
            return ast.literal_eval(process.stdout.readline())

        yield ask
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.fixture
def child(faketime: FakeTime) -> Iterator[Ask]:
    with python(faketime) as ask:
        yield ask


def near(expected: float) -> Any:
    return pytest.approx(expected, abs=LATE)


def ahead(ask: Ask, how: str = "time.time()") -> float:
    """Return how many seconds its clock is ahead of this process's."""
    return float(ask(how)) - time.time()


def test_it_is_right_until_it_steps_for_those_that_run_and_those_that_start(faketime: FakeTime, child: Ask) -> None:
    assert ahead(child) == near(0)
    faketime.step(-HOUR)
    assert ahead(child) == near(-HOUR)
    faketime.step(2 * HOUR)
    with python(faketime) as another:
        assert ahead(another) == near(HOUR)
        assert ahead(child) == near(HOUR)
        assert faketime.now().timestamp() - time.time() == near(HOUR)
        faketime.mend()
        assert ahead(another) == near(0)


@pytest.mark.parametrize("at", [datetime(2026, 3, 29, 0, 59, 58, tzinfo=UTC), datetime(1969, 7, 20, tzinfo=UTC)])
def test_it_is_set_to_a_time_and_goes_on_from_there(faketime: FakeTime, child: Ask, at: datetime) -> None:
    faketime.set(at)
    first = child("time.time()")
    assert first == near(at.timestamp())
    assert first >= at.timestamp()
    assert child("time.time()") > first


@pytest.mark.parametrize(
    "how",
    [
        "datetime.datetime.now(datetime.UTC).timestamp()",
        "time.clock_gettime(time.CLOCK_REALTIME)",
        "time.clock_gettime(5)",  # CLOCK_REALTIME_COARSE
        "libc.time(None)",
        "gettimeofday()",
        "sqlite3.connect(':memory:').execute('SELECT unixepoch()').fetchone()[0]",
        "int(subprocess.check_output(['date', '+%s']))",
    ],
)
def test_however_a_program_asks_it_is_told_the_same(faketime: FakeTime, child: Ask, how: str) -> None:
    faketime.step(-24.25 * HOUR)
    assert ahead(child, how) == near(-24.25 * HOUR)


@pytest.mark.parametrize("clock", ["MONOTONIC", "MONOTONIC_RAW", "BOOTTIME"])
def test_a_step_leaves_the_other_clocks_alone(faketime: FakeTime, child: Ask, clock: str) -> None:
    faketime.step(24 * HOUR)
    there = child(f"time.clock_gettime(time.CLOCK_{clock})")
    assert there == near(time.clock_gettime(getattr(time, f"CLOCK_{clock}")))


def test_a_suspend_moves_the_wall_clock_and_the_time_since_boot(faketime: FakeTime, child: Ask) -> None:
    faketime.suspend(HOUR)
    assert ahead(child) == near(HOUR)
    assert child("time.clock_gettime(time.CLOCK_BOOTTIME)") == near(time.clock_gettime(time.CLOCK_BOOTTIME) + HOUR)
    assert child("time.monotonic()") == near(time.monotonic())


@pytest.mark.parametrize("step", [-HOUR, HOUR])
@pytest.mark.parametrize(
    ("wait", "result"),
    [
        ("time.sleep(0.2)", None),
        ("threading.Event().wait(0.2)", False),
        ("select.select([], [], [], 0.2)", ([], [], [])),
        ("libc.clock_nanosleep(0, 1, soon(0), None)", 0),  # until a time of the wall clock
        ("libc.clock_nanosleep(1, 1, soon(1), None)", 0),  # until a monotonic time
        ("libc.sem_timedwait(ctypes.create_string_buffer(64), soon(0))", -1),
        ("libc.pthread_cond_timedwait(ctypes.create_string_buffer(64), locked(), soon(0))", 110),  # ETIMEDOUT
        ("libc.pthread_cond_timedwait(monotonic(), locked(), soon(1))", 110),
        ("libc.pthread_mutex_timedlock(locked(), soon(0))", 110),
    ],
)
def test_a_wait_takes_as_long_as_it_should(faketime: FakeTime, child: Ask, step: int, wait: str, result: Any) -> None:
    faketime.step(step)
    seconds, found = child(f"seconds_of(lambda: {wait})")
    assert 0.19 <= seconds < LATE
    assert found == result


def test_files_keep_the_times_that_the_kernel_gives_them(faketime: FakeTime, child: Ask, tmp_path: Path) -> None:
    faketime.step(24 * HOUR)
    child(f"open({str(tmp_path / 'new')!r}, 'x').close()")
    assert child(f"os.stat({str(tmp_path / 'new')!r}).st_mtime") == near(time.time())


def test_a_program_that_cannot_be_given_the_clock_does_not_start(faketime: FakeTime) -> None:
    env = {**faketime.env, "FAKETIME_FILE": "/nowhere"}
    done = subprocess.run(["date"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "FAKETIME_FILE: " in done.stderr
    assert not done.stdout
