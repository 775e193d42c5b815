"""What of the checks is told: a decision, without a clock.

A check that stands worse than was told, and stays so for its grace, is told; so is its recovery, once it has been well
for as long. What was told within the last day makes the next wait longer, a recovery twice as fast as a trouble: so a
flapping check is told of two or three times, and the last word on it is that it is in trouble. What comes due together
is told together.

A check may stand for many things, a disk each, say: what gets into trouble beside what was told is told, too, after
its grace; what goes is no news as long as the check stays in trouble.

A check that has stood better than was told for as long as a recovery takes is not well, and that is no news; but it
counts as told of where it stands, so that it is told when it is as bad again.

What is critical and was well for less than its grace was not well: an agent that is held up, or a task that ends, for a
moment each minute stays so for no two.

How long something stands is monotonic time, which nobody sets; a time of the wall clock that is kept, and is ahead of
it, was of a clock that was.

The picture that it is given is always the whole one, so what was missed between two looks is made up for by the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from homelab_agent.core.clock import Instant
from homelab_agent.notify.severity import Severity

REMEMBERED = timedelta(days=1)
"""So long what was told of a check makes it slower to be told again."""

_DAMPED_SECONDS = 10.0
"""What was told twice within that time has no shorter grace: a grace of nothing would never grow."""

_LEVELS = (Severity.CRITICAL, Severity.FAILED, Severity.WARNING)


class Kind(StrEnum):
    """What a message says of something."""

    TROUBLE = "trouble"
    RECOVERED = "recovered"
    LOST = "lost"
    """Nobody knows any more how it stands: it is disabled, or what was asked is not there."""
    HAPPENED = "happened"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is told; `severity` of a recovery is how bad it was. `since` is when the trouble began."""

    kind: Kind
    check: str
    severity: Severity
    since: datetime
    detail: str = ""
    repair: str = ""
    again: bool = False
    """Whether an earlier trouble, and its end, were told within the last day: it flaps."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a check stands now; `severity` is None where it was not asked yet, or its outage was announced.

    `known` is False where it is no trouble because it is disabled or not available. `about` are the keys of what is in
    trouble where the check stands for many; none where it does not say.
    """

    check: str
    severity: Severity | None
    since: datetime
    detail: str = ""
    repair: str = ""
    known: bool = True
    about: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """One of those that a check stands for: whether it was told of, when, and since when (monotonic) that is not so."""

    is_told: bool = False
    tells: tuple[datetime, ...] = ()
    otherwise: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What is remembered of a check: what was `told` of it and when, and since when it stands otherwise.

    `above` has for each severity that is worse than was told since when it stands at least as bad; `eased` since when
    it is not critical, if it was until less than its grace ago; `under` for each trouble that is better than was told
    since when it stands no worse; `calm` since when it is well, while trouble is what was told: in seconds of monotonic
    time. `began` is when the trouble that was told began, `worst` how bad it was if it counts as told of less by now.
    `parts` has, while trouble is what was told, what the check stands for.
    """

    told: Severity = Severity.NONE
    tells: tuple[datetime, ...] = ()
    began: datetime | None = None
    worst: Severity = Severity.NONE
    above: Mapping[Severity, float] = field(default_factory=dict)
    eased: float | None = None
    under: Mapping[Severity, float] = field(default_factory=dict)
    calm: float | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)

    @property
    def reached(self) -> Mapping[Severity, float]:
        """What of `above` it stands at now."""
        return {level: at for level, at in self.above.items() if level < Severity.CRITICAL or self.eased is None}

    @property
    def flaps(self) -> bool:
        """Whether it was told of before the trouble that was told last, or is about to be."""
        return any(self.began is None or at < self.began for at in self.tells)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds: how long it must stay failed or degraded, and what comes within `group` is told together."""

    grace: float
    grace_degraded: float
    group: float

    def patience(self, case: Case, severity: Severity, now: datetime) -> float:
        """Return for how many seconds a check must stand at a severity before it is told; NONE is its recovery."""
        count = min(sum(now - at < REMEMBERED for at in case.tells), 20)
        grace = self.grace_degraded if severity is Severity.WARNING else self.grace
        if severity > case.worst and case.told is not Severity.NONE:
            return grace  # it is worse than ever: that cannot flap more than twice
        if count > 1:
            grace = max(grace, _DAMPED_SECONDS)
        doublings: int = count if severity is Severity.NONE else count // 2
        return grace * 2.0**doublings


@dataclass(frozen=True, slots=True)
class Decision:
    """What is remembered from now on, what is told now, and when (monotonic) to look again though nothing changes."""

    book: Mapping[str, Case]
    told: tuple[Item, ...] = ()
    again: float | None = None


@dataclass(frozen=True, slots=True)
class _Due:
    at: float
    severity: Severity
    part: str = ""


def decide(
    book: Mapping[str, Case], picture: Sequence[Seen], now: Instant, timing: Timing, *, muted: bool = False
) -> Decision:
    """Return what is to be told of the whole `picture`; while `muted` nothing is, and what then still holds is later.

    A check that the picture does not have any more is forgotten.
    """
    cases = {seen.check: _watched(book.get(seen.check, Case()), seen, now, timing) for seen in picture}
    dues = {seen.check: _due(cases[seen.check], seen, now, timing) for seen in picture}
    coming = [due for due in dues.values() if due is not None]
    if muted or not coming:
        return Decision(_kept(cases))
    first = min(due.at for due in coming)
    urgent = any(due.at <= now.monotonic and due.severity is Severity.CRITICAL for due in coming)
    if not urgent and first + timing.group > now.monotonic:
        later = [due.at for due in coming if due.severity is Severity.CRITICAL]
        return Decision(_kept(cases), again=min([first + timing.group, *later]))
    items = []
    for seen in picture:
        due = dues[seen.check]
        if due is not None and due.at <= now.monotonic:
            item = _item(cases[seen.check], seen, due, now)
            items.append(item)
            cases[seen.check] = _told(cases[seen.check], seen, due, item, now)
    left = [due.at for due in coming if due.at > now.monotonic]
    return Decision(_kept(cases), tuple(items), min(left, default=None))


def merged(before: Mapping[str, Case], now: Mapping[str, Case]) -> Mapping[str, Case]:
    """Return what is remembered, of an earlier agent and of one that began without knowing: the worse counts as told.

    So no recovery is forgotten, and what both have told is not told a third time.
    """
    return {check: _merged(before.get(check, Case()), now.get(check, Case())) for check in {**before, **now}}


def _merged(before: Case, now: Case) -> Case:
    worse = before if before.told > now.told else now
    tells = tuple(sorted({*before.tells, *now.tells}))
    names = {**before.parts, **now.parts}
    parts = {name: _merged_part(before.parts.get(name, Part()), now.parts.get(name, Part())) for name in names}
    worst = max(before.worst, now.worst)
    return replace(now, told=worse.told, worst=worst, began=worse.began, tells=tells, parts=parts)


def _merged_part(before: Part, now: Part) -> Part:
    return Part(before.is_told or now.is_told, tuple(sorted({*before.tells, *now.tells})))


def _kept(cases: Mapping[str, Case]) -> Mapping[str, Case]:
    return {check: case for check, case in cases.items() if case != Case()}


def _watched(case: Case, seen: Seen, now: Instant, timing: Timing) -> Case:
    """Return the case with the time noted since when the check stands as it does."""
    tells = tuple(min(at, now.wall) for at in case.tells if now.wall - at < REMEMBERED)
    began = None if case.began is None else min(case.began, now.wall)
    case = replace(case, tells=tells, began=began, parts=_parts(case, seen, now, timing))
    case = _lowered(case, seen, now, timing)
    if seen.severity is None:
        return replace(case, above={}, eased=None, calm=None)
    before, eased = dict(case.above), case.eased
    if eased is not None and now.monotonic - eased >= timing.grace:
        del before[Severity.CRITICAL]
        eased = None
    above = {level: before.get(level, now.monotonic) for level in _LEVELS if case.told < level <= seen.severity}
    if Severity.CRITICAL in above:
        eased = None
    elif Severity.CRITICAL in before and timing.grace:
        above[Severity.CRITICAL] = before[Severity.CRITICAL]
        eased = now.monotonic if eased is None else eased
    is_calm = seen.severity is Severity.NONE and case.told is not Severity.NONE
    calm = (now.monotonic if case.calm is None else case.calm) if is_calm else None
    return replace(case, above=above, eased=eased, calm=calm)


def _lowered(case: Case, seen: Seen, now: Instant, timing: Timing) -> Case:
    """Return the case with what counts as told lowered to where it has stood for as long as a recovery takes."""
    told, worst = case.told, case.worst
    lasting = timing.patience(case, Severity.NONE, now.wall)
    lower = [level for level, at in case.under.items() if now.monotonic - at >= lasting]
    if seen.severity and lower:
        told, worst = min(lower), max(told, worst)
    under = {}
    if seen.severity is not None:
        under = {level: case.under.get(level, now.monotonic) for level in _LEVELS if seen.severity <= level < told}
    return replace(case, told=told, worst=worst, under=under)


def _parts(case: Case, seen: Seen, now: Instant, timing: Timing) -> Mapping[str, Part]:
    """Return what the check stands for; one that has been gone for as long as a recovery takes is told of anew.

    Which are in trouble is known only while the check says so.
    """
    if case.told is Severity.NONE:
        return {}
    is_known = bool(seen.severity and seen.about)
    found: dict[str, Part] = {}
    for name in sorted({*case.parts, *seen.about}):
        part = case.parts.get(name, Part())
        tells = tuple(min(at, now.wall) for at in part.tells if now.wall - at < REMEMBERED)
        otherwise = None
        if is_known and (name in seen.about) is not part.is_told:
            otherwise = now.monotonic if part.otherwise is None else part.otherwise
        part = Part(part.is_told, tells, otherwise)
        if part.is_told and _due_of(part, Severity.NONE, now, timing) <= now.monotonic:
            part = Part(tells=tells)
        if part != Part():
            found[name] = part
    return found


def _due_of(part: Part, severity: Severity, now: Instant, timing: Timing) -> float:
    """Return when it has stood otherwise than was told for long enough; it has its own times, and delays no other."""
    if part.otherwise is None:
        return math.inf
    return part.otherwise + timing.patience(Case(tells=part.tells), severity, now.wall)


def _due(case: Case, seen: Seen, now: Instant, timing: Timing) -> _Due | None:
    """Return what is to be told next of a case if it stays as it is: what is due, the worst first, else the soonest."""
    if case.calm is not None:
        return _Due(case.calm + timing.patience(case, Severity.NONE, now.wall), Severity.NONE)
    reached = case.reached
    dues = [
        _Due(reached[level] + timing.patience(case, level, now.wall), level) for level in _LEVELS if level in reached
    ]
    if seen.severity:
        level = min(seen.severity, case.told)
        new = {name: part for name, part in case.parts.items() if not part.is_told and part.otherwise is not None}
        dues += [_Due(_due_of(part, level, now, timing), level, name) for name, part in new.items()]
    ripe = [due for due in dues if due.at <= now.monotonic]
    return ripe[0] if ripe else min(dues, key=lambda due: due.at, default=None)


def _item(case: Case, seen: Seen, due: _Due, now: Instant) -> Item:
    if due.severity is Severity.NONE:
        since, bad = case.began or seen.since, max(case.told, case.worst)
        if not seen.known:
            return Item(Kind.LOST, seen.check, bad, since, seen.detail, seen.repair, case.flaps)
        # What a check says when it is well is nobody's business: it may hold what strangers sent.
        return Item(Kind.RECOVERED, seen.check, bad, since, again=case.flaps)
    if due.part:
        part = case.parts[due.part]
        since = now.wall - timedelta(seconds=now.monotonic - (part.otherwise or now.monotonic))
        return Item(Kind.TROUBLE, seen.check, due.severity, since, seen.detail, seen.repair, bool(part.tells))
    stood = now.monotonic - min(case.reached.values())
    since = min(now.wall - timedelta(seconds=stood), seen.since)
    return Item(Kind.TROUBLE, seen.check, due.severity, since, seen.detail, seen.repair, case.flaps)


def _told(case: Case, seen: Seen, due: _Due, item: Item, now: Instant) -> Case:
    tells = (*case.tells, now.wall)
    if item.kind is not Kind.TROUBLE:
        return Case(tells=tells)
    parts = {**case.parts, **{name: _told_part(case.parts.get(name, Part()), now) for name in seen.about}}
    if due.part:
        return replace(case, parts=parts)
    above = {level: at for level, at in case.above.items() if level > item.severity}
    eased = case.eased if Severity.CRITICAL in above else None
    began = case.began or item.since
    return Case(item.severity, tells, began, case.worst, above=above, eased=eased, parts=parts)


def _told_part(part: Part, now: Instant) -> Part:
    return part if part.is_told else Part(is_told=True, tells=(*part.tells, now.wall))
