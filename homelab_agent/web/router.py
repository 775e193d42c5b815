"""From a method and a path to a route: exact paths before those with placeholders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from homelab_agent.core.http import BadRequest, Route

Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A route and its placeholders' values."""

    route: Route
    match: dict[str, str]


@dataclass(frozen=True, slots=True)
class Missing:
    """No route: `methods` are those that the path takes, none if there is no such path."""

    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Path:
    segments: Segments
    routes: dict[str, Route] = field(default_factory=dict)

    def match(self, asked: Segments) -> dict[str, str] | None:
        """Return the placeholders' values if `asked` is this path."""
        if len(asked) != len(self.segments):
            return None
        match: dict[str, str] = {}
        for wanted, given in zip(self.segments, asked, strict=True):
            if wanted.startswith("{") and given:
                match[wanted[1:-1]] = given
            elif wanted != given:
                return None
        return match


class Router:
    """All routes. HEAD is served by GET's."""

    def __init__(self, routes: Iterable[Route]) -> None:
        paths: dict[Segments, _Path] = {}
        for route in routes:
            segments = tuple(route.path[1:].split("/"))
            path = paths.setdefault(segments, _Path(segments))
            if route.method in path.routes:
                message = f"two routes for {route.method} {route.path}"
                raise ValueError(message)
            path.routes[route.method] = route
        self._exact = {segments: path for segments, path in paths.items() if "{" not in "/".join(segments)}
        self._plain = {"/" + "/".join(segments): path for segments, path in self._exact.items()}
        self._patterns = [path for segments, path in paths.items() if segments not in self._exact]

    def find(self, method: str, raw_path: str) -> Found | Missing:
        """Return the route for a path as sent (percent-encoded); raises `BadRequest` if that is not one.

        A placeholder's value is decoded after the path is split: an encoded slash stays in its segment.
        """
        if (plain := self._plain.get(raw_path)) is not None:  # as nearly every path is sent
            return _choose(plain, method, {})
        asked = tuple(decode(segment) for segment in raw_path[1:].split("/"))
        exact = self._exact.get(asked)
        for path in [exact] if exact is not None else self._patterns:
            match = path.match(asked)
            if match is not None:
                return _choose(path, method, match)
        return Missing()


def decode(text: str) -> str:
    """Return percent-encoded text decoded; raises `BadRequest` for bad UTF-8 and control characters."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest(cause="the path is not UTF-8") from None
    if not text.isascii() or any(ord(sign) < 32 or ord(sign) == 127 for sign in decoded):
        raise BadRequest(cause="the path has a character that it may not have")
    return decoded


def _choose(path: _Path, method: str, match: dict[str, str]) -> Found | Missing:
    route = path.routes.get("GET" if method == "HEAD" else method)
    return Found(route, match) if route is not None else Missing(_methods(path))


def _methods(path: _Path) -> tuple[str, ...]:
    return tuple(sorted({*path.routes, *({"HEAD"} if "GET" in path.routes else ())}))
