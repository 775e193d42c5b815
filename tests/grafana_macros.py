"""What Grafana makes of a query before PostgreSQL sees it: variables in the browser, macros in its server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_VARIABLE = re.compile(r"\$\{(\w+):(\w+)\}")
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_LEFT = re.compile(r"\$(\w|\{)")
_WIDTHS = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
DATA_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Range:
    """What is asked: until when, and how far back."""

    to: datetime
    length: timedelta

    @property
    def begin(self) -> datetime:
        return self.to - self.length

    def interval(self, least: str) -> int:
        """Return how many milliseconds a point stands for on a wide screen; `least` is the panel's own ("1m")."""
        wanted = max(self.length.total_seconds() / DATA_POINTS, seconds(least or "10s"))
        return 1000 * next(width for width in _WIDTHS if width >= wanted)


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def expanded(query: str, asked: Range, variables: Mapping[str, Sequence[str]], *, least: str = "") -> str:
    """Return the SQL that PostgreSQL is asked (macros.go and sql_engine.go of Grafana's data source)."""
    query = _VARIABLE.sub(lambda found: _formatted(variables[found[1]], found[2]), query)
    query = query.replace("$__interval_ms", str(asked.interval(least)))
    query = query.replace("$__unixEpochFrom()", str(int(asked.begin.timestamp())))
    query = query.replace("$__unixEpochTo()", str(int(asked.to.timestamp())))
    query = _MACRO.sub(lambda found: _macro(found[1], found[2].strip(), asked), query)
    assert not _LEFT.search(query), f"not known to Grafana: {query}"
    return query


def asked_of_loki(query: str, asked: Range, variables: Mapping[str, Sequence[str]], *, least: str = "5m") -> str:
    """Return the LogQL that Loki is asked; a pattern of Grafana's own (allValue, a text) is put in as it is."""

    def value(found: re.Match[str]) -> str:
        chosen = variables[found[1]]
        return chosen if isinstance(chosen, str) else _formatted(chosen, found[2])

    query = _VARIABLE.sub(value, query).replace("$__interval", f"{asked.interval(least) // 1000}s")
    assert not _LEFT.search(query), f"not known to Grafana: {query}"
    return query


def _formatted(values: Sequence[str], how: str) -> str:
    match how:
        case "sqlstring":
            return ",".join("'" + value.replace("'", "''") + "'" for value in values)
        case "regex":
            escaped = [re.sub(r"([\\^$*+?.()|[\]{}/])", r"\\\1", value) for value in values]
            return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    raise ValueError(how)


def _macro(name: str, argument: str, asked: Range) -> str:
    begin, to = (f"'{at.astimezone(UTC).isoformat().replace('+00:00', 'Z')}'" for at in (asked.begin, asked.to))
    match name:
        case "__timeFilter":
            return f"{argument} BETWEEN {begin} AND {to}"
        case "__timeFrom":
            return begin
        case "__timeTo":
            return to
    message = f"no macro is called {name}"
    raise ValueError(message)
