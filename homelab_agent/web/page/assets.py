"""The page's files, each under a name that changes with its content, so that a browser may keep it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "/static/"
_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `version` is a digest of its content."""

    name: str
    content_type: str
    body: bytes
    version: str

    @property
    def url(self) -> str:
        """Where the page finds it."""
        return f"{PREFIX}{self.name}?v={self.version}"

    def headers(self, version: str = "") -> dict[str, str]:
        """Return the headers for a request of `version`: keep it if it is this one, else ask again."""
        fixed = version == self.version
        return {
            "Cache-Control": "public, max-age=31536000, immutable" if fixed else "no-cache",
            "ETag": f'"{self.version}"',
            "X-Content-Type-Options": "nosniff",
        }


@cache
def catalogue() -> Mapping[str, Asset]:
    """Return every file by name; reads them the first time (blocking)."""
    return {path.name: _load(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


def find(name: str) -> Asset | None:
    """Return the file called `name`, if the page has one."""
    return catalogue().get(name)


def _load(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(path.name, _TYPES[path.suffix], body, hashlib.sha256(body).hexdigest()[:16])
