"""`homelab-agent web` against a running web room, over its unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from homelab_agent.core.client import AgentNotRunning, RemoteProblem
from homelab_agent.core.console import Console
from homelab_agent.web.commands import commands
from tests.website import TAILNET, Site, serving


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


def invoke(directory: Path, *words: str) -> Result:
    console = Console(dict, lambda: directory / "agent.sock", lambda: directory)
    return CliRunner().invoke(commands, words, obj=console)


async def run(site: Site, *words: str) -> Result:
    return await asyncio.to_thread(invoke, site.directory, *words)


async def test_login_prints_links_that_work(site: Site) -> None:
    printed = await run(site, "login")
    first = urlsplit(printed.stdout.splitlines()[0])
    assert first.netloc == f"127.0.0.1:{site.port}"
    assert (await site.ask("GET", f"{first.path}?{first.query}")).status == 200
    assert "once" in printed.stderr
    assert set(json.loads((await run(site, "login", "--json")).stdout)) == {"path", "urls", "expires_at"}


async def test_a_token_is_shown_once_and_can_be_taken_back(site: Site) -> None:
    token = (await run(site, "token", "add", "prometheus")).stdout.strip()
    headers = {**TAILNET, "Authorization": f"Bearer {token}"}
    assert (await site.ask("GET", "/metrics", headers=headers)).status == 200
    listed = (await run(site, "token", "list")).stdout
    assert "prometheus" in listed
    assert token not in listed
    taken = (await run(site, "token", "add", "prometheus")).exception
    assert isinstance(taken, RemoteProblem)
    assert taken.repair == "homelab-agent web token revoke prometheus"
    assert (await run(site, "token", "revoke", "prometheus")).exit_code == 0
    assert (await site.ask("GET", "/metrics", headers=headers)).status == 401


def test_without_an_agent_the_command_says_so(tmp_path: Path) -> None:
    assert isinstance(invoke(tmp_path, "login").exception, AgentNotRunning)
