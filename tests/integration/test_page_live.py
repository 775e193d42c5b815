"""The status page of a real agent in a real browser: what happens to the agent is seen without a reload."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.agent import Agent
from tests.neighbours.browser import Tabs


@pytest.fixture
def running(agent: Agent) -> Agent:
    """An agent that answers and has its database."""
    return agent.start_with_database()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_shows_this_host_and_what_runs_meanwhile(running: Agent, tabs: Tabs, scheme: str) -> None:
    page = await tabs.open(color_scheme=scheme, viewport={"width": 360, "height": 800})
    await page.goto(f"http://127.0.0.1:{running.port}/")
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    await expect(page.get_by_role("img", name="CPU")).to_be_visible()
    await page.evaluate("window.isTheSamePage = true")
    assert running.run("jobs", "run", "database.partitions").returncode == 0
    await expect(page.locator(".runs").get_by_text("database.partitions")).to_be_visible()
    assert await page.evaluate("window.isTheSamePage")
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_when_the_agent_dies_the_page_says_so_and_lives_again_with_it(
    running: Agent, page: Page, tabs: Tabs
) -> None:
    tabs.expect("Failed to load resource")
    await page.goto(f"http://127.0.0.1:{running.port}/")
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    running.kill()
    await expect(page.get_by_text("No connection to the agent.")).to_be_visible()
    running.start()
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live", timeout=30_000)
