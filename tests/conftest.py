"""Fixtures of all tests: the agent as a real process, blockbuster on the loop."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.agent import Agent, running
from tests.neighbours.neighbour import Missing

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")  # a busy host is no fault: timings are for benchmarks

pytest_plugins = [
    "tests.fixtures.alone",
    "tests.fixtures.disk",
    "tests.fixtures.docker",
    "tests.fixtures.faketime",
    "tests.fixtures.git_remote",
    "tests.fixtures.github",
    "tests.fixtures.leftovers",
    "tests.fixtures.loki",
    "tests.fixtures.machine",
    "tests.fixtures.mongodb",
    "tests.fixtures.mount",
    "tests.fixtures.ntfy",
    "tests.fixtures.openbao",
    "tests.fixtures.page",
    "tests.fixtures.postgres",
    "tests.fixtures.soak",
    "tests.fixtures.tailnet",
    "tests.fixtures.wire",
]


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """A call of ours that blocks the event loop fails the test."""
    with blockbuster_ctx("homelab_agent") as guard:
        # MongoDB's driver asks at each connection whether /.dockerenv is there.
        guard.functions["os.stat"].can_block_in("pymongo/pool_options.py", {"get_container_env_info"})
        yield guard


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may pass through, as /var/lib is (pytest's own is closed to them)."""
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def agent(open_directory: Path) -> Iterator[Agent]:
    """An agent of the test's own, not started yet; with an embedded database."""
    with running(open_directory) as child:
        yield child


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A neighbour that cannot be had here is a skip, with its reason; in CI a skip is a failure: mend it there."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, Missing):
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, line or 0, f"Skipped: {call.excinfo.value}")
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
