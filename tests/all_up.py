"""Every neighbour at once, until somebody presses Ctrl-C: see test_leftovers.py. Not collected with the others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.agent import Agent
from tests.neighbours.docker import Docker
from tests.neighbours.postgres import Postgres
from tests.neighbours.wire import Wire, url_through

OTHERS = (
    "postgres_debian",
    "postgres_timescale",
    "postgres_apache",
    "machine",
    "bare_machine",
    "git_remote",
    "github",
    "loki",
    "mount",
)


async def test_the_browser_is_up(page: Page) -> None:
    await page.goto("about:blank")


def test_all_are_up(
    request: pytest.FixtureRequest, agent: Agent, postgres: Postgres, wire: Wire, docker: Docker
) -> None:
    for fixture in OTHERS:
        request.getfixturevalue(fixture)
    disk = request.getfixturevalue("disk")
    agent.env |= request.getfixturevalue("faketime").env
    docker("run", "-d", "busybox", "sleep", "1000")
    agent.write(database=url_through(wire(postgres.socket), postgres))
    agent.start_with_database()
    disk(megabytes=8)
    disk.ext4(megabytes=16)
    Path(os.environ["HOMELAB_AGENT_TESTS_UP"]).touch()
    time.sleep(600)
