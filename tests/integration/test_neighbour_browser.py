"""The browser of the tests is Debian's Chromium; what its pages complain about fails a test, and is kept to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.neighbours import browser as neighbour
from tests.neighbours.browser import Tabs

ROOT = Path(__file__).parents[2]
GOOD = "data:text/html,<title>good</title>"
BAD = "data:text/html,<title>bad</title><script>console.error('it hurts')</script>"
TEST = """
async def test_it(page):
    await page.goto("{url}")
    assert await page.title() == "{title}"
"""


async def test_it_is_debians_chromium(browser: Browser) -> None:
    assert neighbour.NEIGHBOUR.version().startswith(browser.version)


async def test_tabs_share_nothing(tabs: Tabs) -> None:
    first, second = await tabs.open(color_scheme="dark"), await tabs.open(color_scheme="light")
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    assert [await page.evaluate(dark) for page in (first, second)] == [True, False]
    assert first.context != second.context


@pytest.mark.parametrize(
    ("url", "title", "outcome"),
    [(GOOD, "good", "1 passed"), (GOOD, "else", "1 failed"), (BAD, "bad", "1 passed, 1 error")],
    ids=["passes", "fails", "complains"],
)
def test_what_a_page_showed_when_its_test_failed_is_kept(tmp_path: Path, url: str, title: str, outcome: str) -> None:
    neighbour.program()
    (tmp_path / "test_it.py").write_text(TEST.format(url=url, title=title))
    (tmp_path / "pytest.toml").write_text('[pytest]\nasyncio_mode = "auto"\n')
    words = ["-p", "no:cacheprovider", "-p", "tests.fixtures.page", "--rootdir", str(tmp_path)]
    argv = [sys.executable, "-m", "pytest", *words, "-c", str(tmp_path / "pytest.toml"), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert outcome in done.stdout, done.stdout
    kept = sorted(file.name for file in tmp_path.glob("test-results/*/*"))
    assert kept == ([] if outcome == "1 passed" else ["page-1.html", "page-1.png"])
    assert ("it hurts" in done.stdout) == (url == BAD)
