"""How often a task that ends is started again, and when it is given up: a decision, without a clock.

The wait before each restart is drawn from zero up to a ceiling that doubles (full jitter), so that what fell
together does not come back together. After 5 stable minutes the ceiling is as at first. The intensity is 5
restarts within 5 minutes: a task that fails at once is given up after 15 s on average, 31 s at most; one that
holds out longer than a minute each time goes on for good.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_CEILING_SECONDS = 1.0
LONGEST_CEILING_SECONDS = 60.0
STABLE_SECONDS = 300.0
INTENSITY = 5
WINDOW_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Tally:
    """A task's past: restarts since it was last stable, and the monotonic times of those in the window."""

    unstable: int = 0
    restarts: tuple[float, ...] = ()


def after_end(tally: Tally, *, ran: float, now: float, chance: float) -> tuple[Tally, float | None]:
    """Return the new tally and the seconds to wait before the restart; None beyond the intensity.

    `ran` is how long the task ran, in seconds; `chance` is drawn from [0, 1).
    """
    recent = tuple(at for at in tally.restarts if now - at < WINDOW_SECONDS)
    if len(recent) >= INTENSITY:
        return tally, None
    unstable = 0 if ran >= STABLE_SECONDS else tally.unstable
    ceiling = min(LONGEST_CEILING_SECONDS, FIRST_CEILING_SECONDS * 2**unstable)
    return Tally(unstable + 1, (*recent, now)), ceiling * chance
