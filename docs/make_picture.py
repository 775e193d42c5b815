"""Take the README's picture of a running agent's status page with Debian's Chromium, for `make picture`.

    python -m docs.make_picture [URL [FILE]]

The agent should have run for an hour, so that its charts are full; it is not started here.
"""

# ruff: noqa: INP001 - a script beside the documents, not a package
from __future__ import annotations

import sys
from pathlib import Path

import click
from playwright.sync_api import Error, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WIDTH = 1280
MARGIN = 32
MOST_BYTES = 300 * 1000
WAIT_MS = 30_000


@click.command()
@click.argument("url", default="http://127.0.0.1:8085/")
@click.argument("file", type=click.Path(path_type=Path), default=Path(__file__).with_name("status-page.png"))
def main(url: str, file: Path) -> None:
    """Write FILE: the page at URL, light, 1280 wide, cropped to its content."""
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(color_scheme="light", viewport={"width": WIDTH, "height": 800})
            picture = take(page, url)
            browser.close()
    except Error as error:
        reason = error.message.splitlines()[0]
        sys.exit(f"no picture: {reason}\nIt needs a running agent (`make run`) and `apt-get install chromium`.")
    if len(picture) > MOST_BYTES:
        sys.exit(f"the picture has {len(picture)} bytes, more than {MOST_BYTES}; {file} was left as it is")
    file.write_bytes(picture)
    click.echo(f"{file}: {len(picture)} bytes")


def take(page: Page, url: str) -> bytes:
    """Return the page as PNG, once it is live and has drawn its first values."""
    page.goto(url)
    page.locator('#pulse[data-state="live"]').wait_for(timeout=WAIT_MS)
    page.locator(".chart .series").first.wait_for(state="attached", timeout=WAIT_MS)
    body = page.locator("body").bounding_box()
    if body is None:
        sys.exit(f"there is no page at {url}")
    left = max(body["x"] - MARGIN, 0)
    clip = {
        "x": left,
        "y": 0,
        "width": min(body["width"] + 2 * MARGIN, WIDTH - left),
        "height": body["height"],
    }
    return page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
