"""How long a token lives, and what is done about it when: decided here, done by `login`.

Times are seconds of the boot clock: a token gets older also while the host is suspended.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_AT = 2 / 3
"""Part of its life after which a token is renewed, at the latest."""
_SPREAD = 0.1
"""Part of its life by which that is earlier, at most: agents that were started together do not ask together."""
_SHRUNK = 0.95
"""A renewal that gives less than this part of the first lease has met the token's maximum age."""

HOLDS = (30.0, 60.0, 16 * 60.0)
"""How long nothing is tried after one refusal, two, and three or more, of the same secret id.

OpenBao lets nobody of a role in for 15 minutes after five refusals, and forgets these after 15 minutes without one
(https://openbao.org/docs/concepts/user-lockout/): one process never comes to five. Each counts its own alone, so five
starts with a wrong secret id, of `doctor` say, within 15 minutes lock the role out where the server does that.
"""


class Step(StrEnum):
    """What is to be done about a token."""

    NOTHING = "nothing"
    RENEW = "renew"
    LOG_IN = "log in"


@dataclass(frozen=True, slots=True)
class Lease:
    """What the server granted last: `seconds` from `since` on, None where the token never expires.

    `first` is what it granted at the log-in; `early`, from 0 to 1, was drawn for this lease.
    """

    since: float
    seconds: float | None
    first: float | None
    renewable: bool
    early: float

    @property
    def due(self) -> float | None:
        """Return when the next step is to be taken, None for never."""
        return None if self.seconds is None else self.since + self.seconds * (_AT - _SPREAD * self.early)

    @property
    def step(self) -> Step:
        """Return what is to be done when it is due.

        The server grants less and less when the token nears its maximum age, without a word: what it returned is
        all there is to go by.
        """
        if self.seconds is None or self.first is None:
            return Step.NOTHING
        return Step.RENEW if self.renewable and self.seconds >= self.first * _SHRUNK else Step.LOG_IN

    def is_over(self, now: float) -> bool:
        """Return whether the token has expired, as far as can be told without asking."""
        return self.seconds is not None and now >= self.since + self.seconds

    def renewed(self, now: float, seconds: float, *, renewable: bool, early: float) -> Lease:
        """Return the lease after a renewal that granted `seconds`."""
        return Lease(now, seconds, self.first, renewable, early)


def granted(now: float, seconds: float, *, renewable: bool, early: float) -> Lease:
    """Return the lease of a token that was just made, or is met for the first time; 0 s stands for no end."""
    life = seconds or None
    return Lease(now, life, life, renewable, early)


def hold(refusals: int) -> float:
    """Return how many seconds nothing is tried after so many refusals in a row."""
    return HOLDS[min(refusals, len(HOLDS)) - 1] if refusals else 0.0
