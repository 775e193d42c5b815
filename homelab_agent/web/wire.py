"""JSON in and out: snake_case, times in RFC 3339 and UTC, dataclasses as objects."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any

from homelab_agent.core.http import BadRequest


def dump(data: object) -> bytes:
    """Return `data` as JSON in one line; raises TypeError or ValueError for what JSON cannot say (NaN)."""
    return _ENCODER.encode(data).encode()


def load(body: bytes) -> Any:
    """Return what a body says; raises `BadRequest` for anything but JSON in UTF-8.

    Refuses NaN, and lone surrogates, which no store takes.
    """
    try:
        data = json.loads(body.decode(), parse_constant=_refuse)
        if b"\\u" in body:
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequest(cause=f"the body is not JSON: {str(error)[:200]}") from None
    return data


def _refuse(constant: str) -> None:
    message = f"{constant} is not JSON"
    raise ValueError(message)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return str(value)
        case set() | frozenset():
            return sorted(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        case _:
            message = f"{type(value).__name__} has no JSON form"
            raise TypeError(message)


_ENCODER = json.JSONEncoder(default=_plain, separators=(",", ":"), allow_nan=False)
