"""What the other side answered, and when it is asked again."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_SECONDS = 10.0
_LONGEST_SECONDS = 900.0
_UNCLEAR_SECONDS = (60.0, 300.0, 900.0, 3600.0)
UNCLEAR_MAX = 5
"""A message that a target has perhaps taken so often is not sent again."""

_HEED_SECONDS = 3600.0
"""A side that says when to come again is heeded for up to so long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a message was taken; `words` are the other side's. `retry_after` is in seconds, 0 if it does not say.

    `unclear`: it was asked and said nothing in time, so that it has perhaps taken it.
    """

    ok: bool
    words: str
    retry_after: float = 0.0
    unclear: bool = False


def pause(failures: int, answer: Answer, chance: float) -> float:
    """Return the seconds until the next try after so many failures in a row; `chance` is drawn from [0, 1).

    Between half and all of what doubles each time, but never sooner than the other side wants. Where it has perhaps
    taken it, each try may be one message more: `failures` are such answers then, and the distances are longer.
    """
    ceiling = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(max(failures - 1, 0), 10))
    if answer.unclear:
        ceiling = _UNCLEAR_SECONDS[min(max(failures - 1, 0), len(_UNCLEAR_SECONDS) - 1)]
    return max(ceiling * (0.5 + chance / 2), min(answer.retry_after, _HEED_SECONDS))
