"""Errors that help the person who meets them: a message, a cause and a repair."""

from __future__ import annotations

import functools
import inspect
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line (the last three are those of BSD's sysexits.h)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 69
    BUSY = 75
    CONFIGURATION = 78


class AgentError(Exception):
    """Something went wrong that the operator can do something about.

    A subclass's docstring is its message: the first paragraph, formatted with the error's own fields, as is
    `repair`, a command or a configuration key. `cause` is what the system or the neighbour said.
    """

    repair: str = ""
    exit_code: Exit = Exit.FAILED

    def __init__(self, *, cause: str | BaseException = "", **fields: object) -> None:
        kind = type(self)
        self.message = _first_paragraph(kind.__doc__ or inspect.getdoc(kind) or kind.__name__).format(**fields)
        self.cause = cause if isinstance(cause, str) else describe(cause)
        self.repair = type(self).repair.format(**fields)
        self.fields = fields
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.cause})" if self.cause else self.message


@functools.cache
def _first_paragraph(doc: str) -> str:
    return inspect.cleandoc(doc).split("\n\n")[0].replace("\n", " ")


class NeighbourUnreachable(AgentError):
    """{neighbour} does not answer."""

    repair = "{repair}"
    exit_code = Exit.UNREACHABLE

    def __init__(self, *, neighbour: str, repair: str, cause: str | BaseException = "") -> None:
        super().__init__(neighbour=neighbour, repair=repair, cause=cause)


def describe(error: BaseException) -> str:
    """Return one line that says what `error` is, for a cause or a log field; never empty."""
    if isinstance(error, AgentError):
        return str(error)
    text = " ".join(str(error).split())
    return text if text and isinstance(error, OSError) else f"{type(error).__name__}: {text}".rstrip(": ")
