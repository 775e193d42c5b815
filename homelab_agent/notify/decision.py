"""What of the checks is told: a decision, without a clock.

A check that stands worse than was told, and stays so for its grace, is told; so is its recovery, once it has been well
for as long. What was told within the last day makes the next wait longer, a recovery twice as fast as a trouble: so a
flapping check is told of two or three times, and the last word on it is that it is in trouble. What comes due together
is told together.

A check may stand for many things, a disk each, say: what gets into trouble beside what was told is told, too, after
its grace; what goes is no news as long as the check stays in trouble.

The picture that it is given is always the whole one, so what was missed between two looks is made up for by the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from homelab_agent.notify.severity import Severity

REMEMBERED = timedelta(days=1)
"""So long what was told of a check makes it slower to be told again."""

_LEVELS = (Severity.CRITICAL, Severity.FAILED, Severity.WARNING)


class Kind(StrEnum):
    """What a message says of something."""

    TROUBLE = "trouble"
    RECOVERED = "recovered"
    HAPPENED = "happened"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is told; `severity` of a recovery is how bad it was. `since` is when it began to be so."""

    kind: Kind
    check: str
    severity: Severity
    since: datetime
    detail: str = ""
    repair: str = ""
    again: bool = False
    """Whether it was told within the last day already: it flaps."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a check stands now; `severity` is None where nobody knows, or its outage was announced.

    `about` are the keys of what is in trouble where the check stands for many; none where it does not say.
    """

    check: str
    severity: Severity | None
    since: datetime
    detail: str = ""
    repair: str = ""
    about: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """One of those that a check stands for: whether it was told of, when, and since when it stands otherwise."""

    is_told: bool = False
    tells: tuple[datetime, ...] = ()
    otherwise: datetime | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What is remembered of a check: what was `told` of it and when, and since when it stands otherwise.

    `above` has for each severity that is worse than was told since when it stands at least as bad; `calm` since when
    it is well, while trouble is what was told. `began` is when the trouble that was told began. `parts` has, while
    trouble is what was told, what the check stands for.
    """

    told: Severity = Severity.NONE
    tells: tuple[datetime, ...] = ()
    began: datetime | None = None
    above: Mapping[Severity, datetime] = field(default_factory=dict)
    calm: datetime | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds: how long it must stay failed or degraded, and what comes within `group` is told together."""

    grace: float
    grace_degraded: float
    group: float

    def patience(self, case: Case, severity: Severity, now: datetime) -> timedelta:
        """Return how long a check must stand at a severity before that is told; NONE is its recovery."""
        count = sum(now - at < REMEMBERED for at in case.tells)
        if severity is Severity.NONE:
            return timedelta(seconds=self.grace * 2 ** min(count, 10))
        grace = self.grace_degraded if severity is Severity.WARNING else self.grace
        if case.told is not Severity.NONE:  # it has become worse: that cannot flap more than twice
            return timedelta(seconds=grace)
        return timedelta(seconds=grace * 2 ** min(count // 2, 10))


@dataclass(frozen=True, slots=True)
class Decision:
    """What is remembered from now on, what is told now, and when to look again though nothing changes."""

    book: Mapping[str, Case]
    told: tuple[Item, ...] = ()
    again: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Due:
    at: datetime
    severity: Severity
    part: str = ""


def decide(
    book: Mapping[str, Case], picture: Sequence[Seen], now: datetime, timing: Timing, *, muted: bool = False
) -> Decision:
    """Return what is to be told of the whole `picture`; while `muted` nothing is, and what then still holds is later.

    A check that the picture does not have any more is forgotten.
    """
    cases = {seen.check: _watched(book.get(seen.check, Case()), seen, now, timing) for seen in picture}
    dues = {seen.check: _due(cases[seen.check], seen, now, timing) for seen in picture}
    coming = [due for due in dues.values() if due is not None]
    if muted or not coming:
        return Decision(_kept(cases))
    group = timedelta(seconds=timing.group)
    first = min(due.at for due in coming)
    urgent = any(due.at <= now and due.severity is Severity.CRITICAL for due in coming)
    if not urgent and first + group > now:
        later = [due.at for due in coming if due.severity is Severity.CRITICAL]
        return Decision(_kept(cases), again=min([first + group, *later]))
    items = []
    for seen in picture:
        due = dues[seen.check]
        if due is not None and due.at <= now:
            items.append(_item(cases[seen.check], seen, due, now))
            cases[seen.check] = _told(cases[seen.check], seen, due, now)
    left = [due.at for check, due in dues.items() if due is not None and due.at > now]
    return Decision(_kept(cases), tuple(items), min(left, default=None))


def _kept(cases: Mapping[str, Case]) -> Mapping[str, Case]:
    return {check: case for check, case in cases.items() if case != Case()}


def _watched(case: Case, seen: Seen, now: datetime, timing: Timing) -> Case:
    """Return the case with the time noted since when the check stands as it does."""
    case = replace(case, parts=_parts(case, seen, now, timing))
    tells = tuple(at for at in case.tells if now - at < REMEMBERED)
    if seen.severity is None:
        return replace(case, above={}, calm=None, tells=tells)
    above = {level: case.above.get(level, now) for level in _LEVELS if case.told < level <= seen.severity}
    is_calm = seen.severity is Severity.NONE and case.told is not Severity.NONE
    return replace(case, above=above, calm=(case.calm or now) if is_calm else None, tells=tells)


def _parts(case: Case, seen: Seen, now: datetime, timing: Timing) -> Mapping[str, Part]:
    """Return what the check stands for; one that has been gone for as long as a recovery takes is told of anew.

    Which are in trouble is known only while the check says so.
    """
    if case.told is Severity.NONE:
        return {}
    is_known = bool(seen.severity and seen.about)
    found: dict[str, Part] = {}
    for name in sorted({*case.parts, *seen.about}):
        part = case.parts.get(name, Part())
        tells = tuple(at for at in part.tells if now - at < REMEMBERED)
        otherwise = (part.otherwise or now) if is_known and (name in seen.about) is not part.is_told else None
        part = Part(part.is_told, tells, otherwise)
        if part.is_told and otherwise and otherwise + timing.patience(Case(tells=tells), Severity.NONE, now) <= now:
            part = Part(tells=tells)
        if part != Part():
            found[name] = part
    return found


def _due(case: Case, seen: Seen, now: datetime, timing: Timing) -> _Due | None:
    """Return what is to be told next of a case if it stays as it is: what is due, the worst first, else the soonest."""
    if case.calm is not None:
        return _Due(case.calm + timing.patience(case, Severity.NONE, now), Severity.NONE)
    dues = [
        _Due(case.above[level] + timing.patience(case, level, now), level) for level in _LEVELS if level in case.above
    ]
    if seen.severity:
        level = min(seen.severity, case.told)
        dues += [
            _Due(part.otherwise + timing.patience(Case(tells=part.tells), level, now), level, name)
            for name, part in case.parts.items()
            if part.otherwise and not part.is_told
        ]
    ripe = [due for due in dues if due.at <= now]
    return ripe[0] if ripe else min(dues, key=lambda due: due.at, default=None)


def _item(case: Case, seen: Seen, due: _Due, now: datetime) -> Item:
    again = any(now - at < REMEMBERED for at in case.tells)
    if due.severity is Severity.NONE:
        # What a check says when it is well is nobody's business: it may hold what strangers sent.
        return Item(Kind.RECOVERED, seen.check, case.told, case.began or seen.since, again=again)
    if due.part:
        part = case.parts[due.part]
        since, again = part.otherwise or now, bool(part.tells)
        return Item(Kind.TROUBLE, seen.check, due.severity, since, seen.detail, seen.repair, again)
    since = case.above.get(Severity.WARNING, seen.since)
    return Item(Kind.TROUBLE, seen.check, due.severity, min(since, seen.since), seen.detail, seen.repair, again)


def _told(case: Case, seen: Seen, due: _Due, now: datetime) -> Case:
    tells = (*case.tells, now)
    if due.severity is Severity.NONE:
        return Case(tells=tells)
    parts = {**case.parts, **{name: _told_part(case.parts.get(name, Part()), now) for name in seen.about}}
    if due.part:
        return replace(case, parts=parts)
    began = case.began or min(case.above[due.severity], seen.since)
    above = {level: at for level, at in case.above.items() if level > due.severity}
    return Case(told=due.severity, tells=tells, began=began, above=above, parts=parts)


def _told_part(part: Part, now: datetime) -> Part:
    return part if part.is_told else Part(is_told=True, tells=(*part.tells, now))
