"""An event's text: one line of JSON for machines, one readable line for a person."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from traceback import extract_tb, format_exception
from typing import Any, TypeAlias

from homelab_agent.core.errors import AgentError, describe

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
"""What JSON knows."""

BYTES_MAX = 16 * 1024
"""Of one event as JSON; Docker splits longer lines here, journald (those on stderr) at 48 KiB."""
DEPTH_MAX = 6
ITEMS_MAX = 500
FRAMES_MAX = 6
GROUP_MAX = 5
HEAD = ("level", "component", "event", "host", "time")
"""The fields that every event begins with; short, and never cut."""
_ON_THE_TERMINAL_ELSEWHERE = frozenset({*HEAD, "traceback"})
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What could move a terminal's cursor, break a line or turn the direction of writing."""
_PLAIN_WORD = re.compile(r'[^\s"=\\]+')
_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}


def plain(value: object, mask: Callable[[str], str]) -> Plain:
    """Return `value` as JSON knows it, every text in it masked; never raises.

    Times become RFC 3339 in UTC, exceptions one line, what JSON does not know its `str`.
    """
    try:
        return _plain(value, mask, DEPTH_MAX)
    except Exception as error:  # noqa: BLE001 - a value that cannot say what it is must not cost the event
        return f"<{type(value).__name__} without a text: {type(error).__name__}>"


def timestamp(when: datetime) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fault(error: BaseException, *, whole: bool) -> dict[str, object]:
    """Return the fields that an exception becomes: what, why, where, and what to do; `whole` adds the traceback.

    Of a group its leaves are named. The stack is innermost first: `file:line function`.
    """
    leaves = _leaves(error)
    first = leaves[0]
    fields: dict[str, object] = {"error": first, "error_type": type(first).__name__}
    if len(leaves) > 1:
        fields["errors"] = leaves[:GROUP_MAX]
    if reason := first.__cause__ or (None if first.__suppress_context__ else first.__context__):
        fields["caused_by"] = reason
    if isinstance(first, AgentError) and first.repair:
        fields["repair"] = first.repair
    if frames := extract_tb(first.__traceback__)[-FRAMES_MAX:]:
        fields["stack"] = " < ".join(
            f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)
        )
    if whole:
        fields["traceback"] = "".join(format_exception(error))
    return fields


def as_json(event: Mapping[str, Any]) -> str:
    """Return an event of plain values as one line of JSON, at most `BYTES_MAX` bytes long in UTF-8.

    What is longer is cut, the longest texts and lists first, and marked `"truncated": true`.
    """
    line = _dump(event)
    longest = BYTES_MAX // 4
    while len(line.encode()) > BYTES_MAX:
        few = islice(event.items(), max(longest, len(HEAD)))
        event = {name: value if name in HEAD else _cut(value, longest) for name, value in few}
        line = _dump({**event, "truncated": True})
        longest //= 4
    return line


def as_text(event: Mapping[str, Any], *, colours: bool) -> str:
    """Return an event of plain values for a person: time, level unless info, component, words, values."""
    level, component = str(event["level"]), str(event["component"])
    words = str(event["event"]).removeprefix(f"{component}.").replace("_", " ")
    when = datetime.fromisoformat(event["time"]).astimezone().strftime("%H:%M:%S")
    values = [
        f"{_paint(_word(name), '2', on=colours)}={_value(value)}"
        for name, value in event.items()
        if name not in _ON_THE_TERMINAL_ELSEWHERE and value not in (None, "")
    ]
    head = [
        _paint(when, "2", on=colours),
        *([_paint(level, _COLOURS.get(level, "0"), on=colours)] if level != "info" else []),
        _paint(_word(component), "36", on=colours),
        _escape(words),
    ]
    traceback = str(event.get("traceback", "")).splitlines()
    return "\n    ".join([" ".join([*head, *values]), *map(_escape, traceback)])


def _plain(  # noqa: PLR0911 - one for each kind of value
    value: object, mask: Callable[[str], str], depth: int
) -> Plain:
    match value:
        case None | bool():
            return value
        case int() | float():
            return _number(value, mask)
        case datetime():
            return timestamp(value)
        case bytes() | bytearray():
            return _text(value.decode("utf-8", "backslashreplace"), mask)
        case BaseException():
            return _text(describe(value), mask)
        case Mapping() if depth:
            items = islice(value.items(), ITEMS_MAX)
            return {_text(str(name), mask): _plain(item, mask, depth - 1) for name, item in items}
        case list() | tuple() | AbstractSet() if depth:
            return [_plain(item, mask, depth - 1) for item in islice(value, ITEMS_MAX)]
    return _text(str(value), mask)


def _text(text: str, mask: Callable[[str], str]) -> str:
    masked = mask(text)
    return masked if masked.isascii() else masked.encode("utf-8", "backslashreplace").decode()


def _number(value: float, mask: Callable[[str], str]) -> Plain:
    text = str(value)
    masked = mask(text)
    return value if masked == text and math.isfinite(value) else masked


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _short(filename: str) -> str:
    parts = Path(filename).parts
    for root in ("homelab_agent", "site-packages"):
        if root in parts[:-1]:
            return "/".join(parts[parts.index(root) + (root == "site-packages") :])
    return parts[-1] if parts else filename


def _dump(event: Mapping[str, Any]) -> str:
    line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return line if line.isascii() and "\x7f" not in line else _CONTROLS.sub(_as_json_escape, line)


def _as_json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _cut(value: Plain, longest: int) -> Plain:
    match value:
        case str() if len(value) > longest:
            return value[:longest] + "..."
        case list():
            return [_cut(item, longest) for item in value[: longest // 16]]
        case dict():
            return {name[:longest]: _cut(item, longest) for name, item in islice(value.items(), longest // 16)}
    return value


def _paint(text: str, code: str, *, on: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if on else text


def _escape(text: str) -> str:
    return text if text.isprintable() else _CONTROLS.sub(_as_json_escape, text)


def _word(text: str) -> str:
    return text if _PLAIN_WORD.fullmatch(text) and text.isprintable() else _dump_value(text)


def _value(value: Plain) -> str:
    return _word(value) if isinstance(value, str) else _dump_value(value)


def _dump_value(value: Plain) -> str:
    return _escape(json.dumps(value, ensure_ascii=False))
