"""What the tests of the installed service stand on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import WHEELS, Checkout, bare_with_checkout
from tests.neighbours import journal_library, machine, wheels
from tests.neighbours.machine import Machine
from tests.waiting import until

SOURCES = "/srv/sources"
"""Where a machine with a compiler has what systemd's journal library is built from."""


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    """The checkout on a machine on which `make install` has just made it a service; one for all tests of a module."""
    with bare_with_checkout() as one:
        one.said = one.made("install")
        yield one


@pytest.fixture(scope="module")
def sampling(checkout: Checkout) -> None:
    """A sample a second of that agent, in PostgreSQL a second later."""
    for key, value in (("metrics.interval", "1"), ("database.ship_every", "1.0")):
        checkout.agent("config", "set", key, value)
    checkout.made("restart")
    until(lambda: checkout.ticks() > 2, "samples arrive", seconds=60)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory that a machine can share, for all tests of a module."""
    place = Path(tempfile.mkdtemp(prefix="homelab-agent-test-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def installed(checkout: Checkout) -> Machine:
    """That machine."""
    return checkout.machine


@pytest.fixture(scope="module")
def equipped() -> Iterator[Checkout]:
    """The checkout, installed on a machine that has all that this host has: Docker, which is not started yet, git."""
    with machine.running(shared=[wheels.directory(), journal_library.directory()]) as one:
        there = Checkout(one)
        one("cp", "--recursive", journal_library.directory(), SOURCES)
        there.said = there.made("install", PIP_FIND_LINKS=f"{WHEELS} {SOURCES}")
        yield there
