"""Debian's Chromium, driven by playwright: tabs that watch what their page does wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, async_playwright

from tests.neighbours import neighbour
from tests.neighbours.neighbour import Neighbour


def program() -> Path:
    """Return Chromium; raises `Missing` where it is not installed."""
    return neighbour.program("chromium", "apt install chromium")


NEIGHBOUR = Neighbour(
    "Chromium, playwright",
    "Debian, PyPI",
    version=lambda: f"{neighbour.version_of([program(), '--version'])}, {metadata.version('playwright')}",
)


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Run Chromium, which shows nothing on a screen, until the context ends."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program(), args=["--disable-gpu"])
        try:
            yield browser
        finally:
            await browser.close()


class Tabs:
    """Opens pages, each in a profile of its own, and gathers what they complain about.

    A complaint is an error on the console, one that no script has caught, and a request to another origin than that
    of the page's first.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._complaints: list[str] = []
        self._expected: list[str] = []

    async def open(self, **profile: Any) -> Page:
        """Return an empty page; `profile` is what `Browser.new_context` takes: viewport, color_scheme ..."""
        context = await self._browser.new_context(**profile)
        self._contexts.append(context)
        page = await context.new_page()
        origins: list[str] = []

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                self._complaints.append(f"console: {message.text}")

        def on_error(error: Error) -> None:
            self._complaints.append(f"error: {error}")

        def on_request(request: Request) -> None:
            parts = urlsplit(request.url)
            if parts.scheme in {"http", "https", "ws", "wss"}:
                origins.append(f"{parts.scheme}://{parts.netloc}")
                if origins[-1] != origins[0]:
                    self._complaints.append(f"request to another origin: {request.url}")

        page.on("console", on_console)
        page.on("pageerror", on_error)
        page.on("request", on_request)
        return page

    def expect(self, complaint: str) -> None:
        """Say that complaints which match this regular expression are meant to come."""
        self._expected.append(complaint)

    def complaints(self) -> list[str]:
        """Return all that were not expected."""
        return [each for each in self._complaints if not any(re.search(one, each) for one in self._expected)]

    async def keep(self, directory: Path) -> list[Path]:
        """Keep what each open page shows, as a picture and as HTML; return the files."""
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        kept = []
        pages = [page for context in self._contexts for page in context.pages]
        for number, page in enumerate(pages, 1):
            picture, source = directory / f"page-{number}.png", directory / f"page-{number}.html"
            with suppress(Error):  # it has crashed, or is just being replaced
                await page.screenshot(path=picture, full_page=True)
                await asyncio.to_thread(source.write_text, await page.content())
                kept += [picture, source]
        return kept

    async def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            await context.close()
