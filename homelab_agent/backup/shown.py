"""How far a restore is, on a terminal in place, elsewhere a line for each tenth of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from homelab_agent.backup.point import Said, nobody

_STEPS = 1000
_LINES = 10
_UNSURE_SECONDS = 1.0
"""A rate means nothing before."""


@contextmanager
def shown(*, silent: bool = False) -> Iterator[Said]:
    """Give what is to be told how far one is, and shows it until the context ends; nothing where it is `silent`."""
    if silent:
        yield nobody
    elif sys.stdout.isatty():
        with click.progressbar(length=_STEPS, show_eta=False, show_percent=False) as bar:

            def draw(part: float, said: str) -> None:
                bar.label, bar.pos = said, int(_STEPS * part)
                bar.render_progress()

            yield _Telling(draw)
    else:
        yield _Telling(_by_lines())


class _Telling:
    """Is told how far one is, and has it drawn in words; what is another work has a time of its own."""

    def __init__(self, draw: Callable[[float, str], None]) -> None:
        self._draw = draw
        self._what = ""
        self._began = 0.0

    def __call__(self, done: int, total: int | None, what: str) -> None:
        if what != self._what:
            self._what, self._began = what, time.monotonic()
        part = min(1.0, done / total) if total else 0.0
        self._draw(part, words(done, total, what, time.monotonic() - self._began))


def _by_lines() -> Callable[[float, str], None]:
    """Return what prints a line for each part that is another than the one before."""
    last = _LINES + 1

    def draw(part: float, said: str) -> None:
        nonlocal last
        if (line := int(part * _LINES)) != last:
            click.echo(said)
            last = line

    return draw


def words(done: int, total: int | None, what: str, seconds: float) -> str:
    """Return how far one is after so many seconds: bytes, of how many, the rate, what is left of the time."""
    said = f"{what} {size(done)}" + (f" of {size(total)}" if total else "")
    if seconds < _UNSURE_SECONDS or not done:
        return said
    rate = done / seconds
    said += f", {size(int(rate))}/s"
    if not total:
        return said
    left = round(max(0, total - done) / rate)
    return f"{said}, {left // 60}:{left % 60:02} left"


def size(count: int | None) -> str:
    """Return a number of bytes as a person reads it; "-" where it is not known."""
    if count is None:
        return "-"
    number, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"
