"""The status page in a real browser, with the page's own policy in force and states that an agent seldom has."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page, expect

from homelab_agent.core.health import State
from homelab_agent.web.overview import Line, Need, Overview
from homelab_agent.web.page import assets, render
from tests.overviews import DATABASE, NOW, busy, charts, overview, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.neighbours.browser import Tabs


class Server:
    """Serves one overview as the agent does: the page, its files, and a stream of fragments."""

    def __init__(self, shown: Overview) -> None:
        self.shown = shown
        self.posts: list[tuple[str, str]] = []
        self.is_down = False
        self.is_logged_in = True
        self._streams: set[asyncio.Queue[Overview | None]] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([
            web.get("/", self._page),
            web.get("/login", self._confirm),
            web.post("/login", self._login),
            web.get("/events", self._events),
            web.get("/static/{name}", self._asset),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    def show(self, shown: Overview) -> None:
        """Say something new to everyone who listens."""
        self.shown = shown
        for stream in self._streams:
            stream.put_nowait(shown)

    def cut(self) -> None:
        """End every stream."""
        for stream in self._streams:
            stream.put_nowait(None)

    async def _page(self, _: web.Request) -> web.Response:
        if not self.is_logged_in:
            return _html(render.login_page("atlas"), status=401)
        return _html(render.render(self.shown, logout="/logout"))

    async def _confirm(self, request: web.Request) -> web.Response:
        return _html(render.confirm_page("atlas", action="/login", token=request.query["token"]))

    async def _login(self, request: web.Request) -> web.Response:
        token = (await request.post())["token"]
        self.posts.append((request.headers["Origin"], str(token)))
        raise web.HTTPSeeOther("/")

    async def _asset(self, request: web.Request) -> web.Response:
        asset = assets.find(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        headers = asset.headers(request.query.get("v", ""))
        return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.is_down:
            raise web.HTTPServiceUnavailable
        if not self.is_logged_in:
            raise web.HTTPUnauthorized
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream: asyncio.Queue[Overview | None] = asyncio.Queue()
        stream.put_nowait(self.shown)
        self._streams.add(stream)
        try:
            while (shown := await stream.get()) is not None:
                await response.write(f"event: overview\ndata: {json.dumps(render.fragment(shown))}\n\n".encode())
        except ConnectionError:
            pass
        finally:
            self._streams.discard(stream)
        return response


def _html(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, headers={**render.HEADERS, "Content-Type": render.CONTENT_TYPE})


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    await asyncio.to_thread(render.prepare)
    serving = Server(busy())
    await serving.start()
    yield serving
    await serving.stop()


async def live(page: Page, url: str) -> Page:
    """Return the page at `url`, once it hears of changes."""
    await page.goto(url)
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    return page


def crowded() -> Overview:
    long = "the quick brown fox " * 12 + "/srv/" + "x" * 150
    need = Need("backup.set." + "y" * 60, State.FAILED, long, "sudo restic -r /srv/" + "z" * 120, NOW)
    states = list(State) * 3
    return overview(
        host="a-very-long-host-name-that-goes-on-and-on.home.example.internal",
        needs=[need, need],
        capabilities=[Line(f"{'capability' * 2}{n}", state, long) for n, state in enumerate(states)],
        runs=[run("x" * 60, "failed", timedelta(hours=1), took=timedelta(hours=1), detail=long)] * 3,
        charts=charts(),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_is_refused_and_nothing_sticks_out(server: Server, tabs: Tabs, width: int, scheme: str) -> None:
    page = await tabs.open(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for shown in (busy(), overview(charts=charts(0)), overview(charts=charts(3)), crowded()):
        server.show(shown)
        await live(page, server.url)
        hidden = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(hidden) == 0


async def test_the_page_changes_as_the_agent_does(server: Server, page: Page) -> None:
    await live(page, server.url)
    await expect(page).to_have_title("2 need you · atlas")
    copy = page.get_by_role("button", name="Copy the repair of database")
    await copy.focus()
    server.show(overview(needs=[dataclasses.replace(DATABASE, detail="It is still away.")], charts=charts()))
    await expect(page).to_have_title("1 needs you · atlas")
    await expect(page.get_by_text("It is still away.")).to_be_visible()
    await expect(copy).to_be_focused()
    server.show(overview(charts=charts()))
    await expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    icon = page.locator("link[rel=icon]")
    assert str(await icon.get_attribute("href")).startswith("/static/favicon.svg?v=")


async def test_a_lost_connection_is_said_and_mended(server: Server, page: Page) -> None:
    await live(page, server.url)
    server.is_down = True
    server.cut()
    lost = page.get_by_text("No connection to the agent. What you see is from")
    await expect(lost).to_be_visible(timeout=15_000)
    server.is_down = False
    await expect(lost).to_be_hidden(timeout=15_000)
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")


async def test_when_the_log_in_is_over_the_page_says_how_to_renew_it(server: Server, page: Page, tabs: Tabs) -> None:
    tabs.expect("401 .Unauthorized")
    await live(page, server.url)
    server.is_logged_in = False
    server.cut()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible(timeout=15_000)
    await expect(page.get_by_text("homelab-agent web login")).to_be_visible()


async def test_an_agent_of_another_version_brings_its_own_page(server: Server, page: Page) -> None:
    await live(page, server.url)
    await page.evaluate("window.isTheOldPage = true")
    server.show(dataclasses.replace(busy(), version="0.2.0"))
    await expect(page.get_by_role("contentinfo")).to_contain_text("homelab-agent 0.2.0")
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    assert not await page.evaluate("window.isTheOldPage")


async def test_a_page_that_nobody_sees_does_not_listen(server: Server, page: Page) -> None:
    await live(page, server.url)
    turn = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await page.evaluate(turn, True)  # noqa: FBT003 - the argument of the script
    await expect(page.locator("#pulse")).to_have_attribute("data-state", "still")
    server.show(overview())
    await page.evaluate(turn, False)  # noqa: FBT003
    await expect(page.get_by_role("heading", name="All is well")).to_be_visible()


async def test_a_repair_is_copied(server: Server, tabs: Tabs) -> None:
    page = await live(await tabs.open(permissions=["clipboard-read", "clipboard-write"]), server.url)
    await page.get_by_role("button", name="Copy the repair of database").click()
    await expect(page.get_by_role("button", name="Copied the repair of database")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == DATABASE.repair


async def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(server: Server, page: Page) -> None:
    await live(page, server.url)
    reached = []
    for _ in range(4):
        await page.keyboard.press("Tab")
        where = page.locator(":focus")
        reached.append(" ".join(str(await where.text_content()).split()))
        assert await where.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
        assert await where.evaluate("each => each.getBoundingClientRect().top >= 0")
    assert reached == [
        "Skip to the content",
        "Copy the repair of database",
        "Copy the repair of gate.funnel",
        "Log out",
    ]
    await page.goto(server.url)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


async def test_a_screen_reader_finds_its_way(server: Server, page: Page) -> None:
    await live(page, server.url)
    for landmark in ("banner", "main", "contentinfo"):
        await expect(page.get_by_role(landmark)).to_have_count(1)
    headings = await page.get_by_role("heading", level=2).all_text_contents()
    assert headings == ["2 need you", "Capabilities", "The last hour", "Told", "Last runs", "Next"]
    for name in headings:
        await expect(page.get_by_role("region", name=name)).to_have_count(1)
    image = page.get_by_role("img", name="CPU Now 23 %. In the last hour between 3\N{NO-BREAK SPACE}% and")
    await expect(image).to_have_count(1)
    await expect(page.get_by_role("progressbar", name="Progress of backup.nightly")).to_have_count(1)
    await expect(page.locator("[aria-live]")).to_have_count(1)


async def test_without_javascript_everything_is_there_but_what_needs_it(server: Server, tabs: Tabs) -> None:
    page = await tabs.open(java_script_enabled=False)
    await page.goto(server.url)
    await expect(page.get_by_text("sudo systemctl start postgresql")).to_be_visible()
    await expect(page.get_by_role("img", name="CPU")).to_be_visible()
    await expect(page.get_by_role("button", name="Copy")).to_have_count(0)


async def test_a_one_time_link_logs_in_with_our_own_origin(server: Server, page: Page) -> None:
    await page.goto(f"{server.url}/login?token=0n3-t1m3")
    assert server.posts == []
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="2 need you")).to_be_visible()
    assert server.posts == [(server.url, "0n3-t1m3")]
