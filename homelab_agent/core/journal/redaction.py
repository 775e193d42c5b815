"""What is secret is masked before it reaches any sink: the journal, a file, a terminal."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4
"""Characters; a shorter value would mask half of every log line, and is no secret worth the name."""
SHORTEST_LINE = 8
"""Characters of one line of a many-lined value (a private key) that is masked on its own."""

_LEFT_ALONE_IN_URLS = ("", "/", "!$&'()*+,;=", "!$&'()*+,;=:@/")
"""What quoting functions keep: nothing, a slash, RFC 3986's sub-delimiters, its path characters."""


class Redactor:
    """Knows every resolved secret and masks it wherever it appears, also quoted, escaped or encoded.

    Found: as it is, with its white space joined, URL-quoted, JSON- and Python-escaped, each line of a
    many-lined value, and base64 at any offset, alone or inside a longer text (HTTP's Basic). Not found: a
    secret cut in two, compressed, hashed, or in another encoding such as hexadecimal. A value once added
    stays, for it may still be accepted somewhere after its rotation.
    """

    def __init__(self) -> None:
        self._needles: tuple[str, ...] = ()
        self._adding = threading.Lock()

    def add(self, value: str) -> None:
        """Mask `value` from now on; one shorter than `SHORTEST` characters is not masked."""
        if len(value) >= SHORTEST:
            with self._adding:  # secrets are read in threads
                self._needles = tuple({*self._needles, *_forms(value)})

    def mask(self, text: str) -> str:
        """Return `text` with every known secret replaced by `MASK`; secrets that overlap are one mask."""
        found = [needle for needle in self._needles if needle in text]
        if not found:
            return text
        spans = sorted(span for needle in found for span in _spans(needle, text))
        parts: list[str] = []
        done = 0
        for start, end in spans:
            if start >= done:
                parts += (text[done:start], MASK)
            done = max(done, end)
        return "".join((*parts, text[done:]))


def _spans(needle: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(needle)
    while start >= 0:
        yield start, start + len(needle)
        start = text.find(needle, start + 1)


def _forms(value: str) -> Iterator[str]:
    yield value
    yield from (form for form in _spellings(value) if len(form) >= SHORTEST)
    if "\n" in value:
        yield from (line for line in value.splitlines() if len(line) >= SHORTEST_LINE)


def _spellings(value: str) -> Iterator[str]:
    yield " ".join(value.split())
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    data = value.encode("utf-8", "surrogateescape")
    yield from _quoted(value, data)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _encoded(data, encode(data).decode())
        for before in (1, 2):
            yield _inner(encode(bytes(before) + data).decode(), before, len(data))


def _quoted(value: str, data: bytes) -> Iterator[str]:
    for safe in _LEFT_ALONE_IN_URLS:
        upper = quote(data, safe=safe)
        yield upper
        yield _lower_escapes(upper)
    yield quote_plus(value, errors="surrogateescape")


def _lower_escapes(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return first + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _encoded(data: bytes, whole: str) -> Iterator[str]:
    yield whole
    yield whole.rstrip("=")
    yield _inner(whole, 0, len(data))


def _inner(encoded: str, before: int, length: int) -> str:
    """Return the characters that depend on nothing but the `length` bytes after the first `before`."""
    return encoded[-(-before * 8 // 6) : (before + length) * 8 // 6]
