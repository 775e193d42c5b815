"""Panels of the shapes that most dashboards need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compose.grafana.build import sql
from compose.grafana.build.panel import Override, Panel, Query, Step

NOT_SAMPLED = "No sample in this range. Does the agent run? homelab-agent status"

BAND = (
    Override(
        "least",
        {
            "custom.lineWidth": 0,
            "custom.fillOpacity": 0,
            "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
        },
    ),
    Override("greatest", {"custom.lineWidth": 0, "custom.fillBelowTo": "least", "custom.fillOpacity": 15}),
)
"""Draws `least` and `greatest` as what the mean was between."""

STACKED: Mapping[str, Any] = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40, "lineWidth": 0}
BARS: Mapping[str, Any] = {"drawStyle": "bars", "fillOpacity": 60, "lineWidth": 0, "spanNulls": False}
POINTS: Mapping[str, Any] = {"drawStyle": "points", "showPoints": "always", "pointSize": 6}


def chart(  # noqa: PLR0913
    title: str,
    description: str,
    family: str,
    measures: Mapping[str, sql.Measure],
    *,
    by: str = "",
    where: str = "",
    key: str = "",
    empty: str = NOT_SAMPLED,
    **more: Any,
) -> Panel:
    """Return a chart of a family's samples."""
    if any(one.alone for one in measures.values()):
        more["overrides"] = (*more.get("overrides", ()), *BAND)
    query = Query(sql.lines(family, measures, by=by, where=where, key=key))
    return Panel(title=title, description=description, empty=empty, queries=[query], **more)


def table(title: str, description: str, query: str, *, empty: str, **more: Any) -> Panel:
    """Return a table."""
    return Panel(
        title=title, description=description, empty=empty, queries=[Query(query, "table")], **{"kind": "table", **more}
    )


def number(title: str, description: str, query: str, *, empty: str, **more: Any) -> Panel:
    """Return one number, with the colour of its threshold."""
    shape = {"kind": "stat", "width": 4, "height": 4, **more}
    return Panel(title=title, description=description, empty=empty, queries=[Query(query, "table")], **shape)


def logs(title: str, description: str, expression: str, *, empty: str, **more: Any) -> Panel:
    """Return lines of logs."""
    shape = {"kind": "logs", "width": 24, "height": 10, **more}
    return Panel(title=title, description=description, empty=empty, queries=[Query(expression, is_logs=True)], **shape)


def column(
    name: str,
    unit: str = "",
    steps: Sequence[Step] = (),
    *,
    width: int | None = None,
    decimals: int | None = None,
    links: Sequence[Mapping[str, str]] = (),
) -> Override:
    """Return how a table shows a column: its unit, and the colour of what is at a threshold."""
    properties: dict[str, Any] = {}
    if unit:
        properties["unit"] = unit
    if steps:
        written = [{"color": one.color, "value": one.value} for one in steps]
        properties["thresholds"] = {"mode": "absolute", "steps": written}
        properties["custom.cellOptions"] = {"type": "color-text"}
    if width is not None:
        properties["custom.width"] = width
    if decimals is not None:
        properties["decimals"] = decimals
    if links:
        properties["links"] = list(links)
    return Override(name, properties)


def words(name: str, colours: Mapping[str, str]) -> Override:
    """Return how a table shows a column of words: each in its colour."""
    options = {word: {"color": colour, "index": index} for index, (word, colour) in enumerate(colours.items())}
    mapping = {"type": "value", "options": options}
    return Override(name, {"mappings": [mapping], "custom.cellOptions": {"type": "color-text"}})


def said(texts: Mapping[str, tuple[str, str]]) -> Sequence[Mapping[str, Any]]:
    """Return mappings from a number to a text and its colour."""
    options = {value: {"text": text, "color": colour} for value, (text, colour) in texts.items()}
    return [{"type": "value", "options": options}]
