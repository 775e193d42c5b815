"""What a drill has shown, in words; and what the two halves tell each other of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

State: TypeAlias = Literal["good", "bad", "open"]
"""good: it was shown to be well. bad: it was shown not to be. open: a drill without a network cannot tell."""

_FINDINGS_MAX = 200
_SAID_MAX = 600


@dataclass(frozen=True, slots=True)
class Shown:
    """What was seen of one thing: the copy as a whole, its SQLite files, a container; `repair` mends what is bad."""

    what: str
    state: State
    said: str
    repair: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.said}"


@dataclass(frozen=True, slots=True)
class Drilled:
    """A drill of one copy, and how many seconds it took from the first byte to the last look."""

    archive: str
    shown: Sequence[Shown]
    seconds: float

    @property
    def proven(self) -> bool:
        """Whether the copy can be called restorable: nothing of it is bad, and what could be started came to life.

        Of a copy whose containers all stayed open nothing was shown but that its bytes are right.
        """
        states = {one.state for one in self.shown}
        containers = {one.state for one in self.shown if one.what != COPY}
        return "bad" not in states and (not containers or "good" in containers)

    @property
    def detail(self) -> str:
        """What was seen, in one line; what is bad comes first."""
        first: Sequence[State] = ("bad", "open", "good")
        return "; ".join(str(one) for one in sorted(self.shown, key=lambda one: first.index(one.state)))

    @property
    def repair(self) -> str:
        """What mends the first thing that is bad; "" where nothing is known to."""
        return next((one.repair for one in self.shown if one.state == "bad" and one.repair), "")


def count(number: int, what: str) -> str:
    """Return how many there are, in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


COPY = "copy"
"""What is seen of the files as a whole."""


def of_drilled(drilled: Drilled) -> dict[str, Any]:
    """Return what is told of a drill."""
    shown = [
        {"what": one.what, "state": one.state, "said": one.said[:_SAID_MAX], "repair": one.repair}
        for one in drilled.shown[:_FINDINGS_MAX]
    ]
    return {"archive": drilled.archive, "seconds": drilled.seconds, "shown": shown}


def drilled(fields: Mapping[str, Any]) -> Drilled:
    """Return the drill that is told of; a state that is none of ours is bad."""
    shown = [
        Shown(str(one["what"]), _state(str(one["state"])), str(one["said"]), str(one.get("repair", "")))
        for one in fields["shown"]
    ]
    return Drilled(str(fields["archive"]), shown, float(fields["seconds"]))


def _state(text: str) -> State:
    return cast("State", text if text in get_args(State) else "bad")
