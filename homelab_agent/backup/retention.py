"""Which archives of a set at one engine are kept, and why; decisions only.

The newest of each of so many days, ISO weeks, months and years, in local time, as far as there are archives: a day
without one uses up nothing. What cannot be trusted to be an archive keeps no other from being kept in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from statistics import median

from homelab_agent.backup.point import Archive
from homelab_agent.backup.settings import Keep
from homelab_agent.core.errors import AgentError, Exit

LAST = 5
"""The newest is held against the median of so many before it."""


class TooFewLeft(AgentError):
    """{id} is not deleted: of {set_name} at least {least} stay, whoever asks."""

    repair = "homelab-agent backup prune --plan; lower [backup.keep] least, or delete it as root where it lies"
    exit_code = Exit.USAGE


@dataclass(frozen=True, slots=True)
class Kept:
    """What retention looks at of an archive: when it was read, how it came out, how large, and what is known of it."""

    id: str
    at: datetime
    dirty: bool = False
    bytes: int = 0
    files: int = 0
    verified: bool = False
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Why each archive that is kept is kept, and which ones go, oldest first; `held` says why nothing goes."""

    keep: Mapping[str, Sequence[str]]
    delete: Sequence[str] = ()
    held: str = ""
    told: Sequence[str] = field(default_factory=tuple)


def plan(archives: Sequence[Kept], keep: Keep, *, now: datetime, zone: tzinfo, accepted: bool = False) -> Plan:
    """Return what is to be kept and deleted; `accepted` is a person's word that the newest is as it should be.

    `now` and the archives' times are aware.
    """
    ordered = sorted(archives, key=lambda one: (one.at, one.id), reverse=True)
    good = [one for one in ordered if not one.dirty]
    past = [one for one in good if one.at <= now]
    reasons: dict[str, list[str]] = {}

    def give(found: Sequence[Kept], reason: str) -> None:
        for one in found:
            reasons.setdefault(one.id, []).append(reason)

    ahead = [one for one in ordered if one.at > now]
    give(ahead, "from the future")
    give(past[:1], "newest")
    give([one for one in past if one.verified][:1], "newest verified")
    give([one for one in past if one.proven][:1], "newest proven")
    give(past[: keep.least], "least")
    for name, most, period in _periods(keep, zone):
        give(_newest_of_each(past, period)[:most], name)
    told = [f"{one.id} is from the future, {one.at:%Y-%m-%d %H:%M} UTC: is the clock right?" for one in ahead]
    delete = [one.id for one in reversed(ordered) if one.id not in reasons]
    held = "" if accepted else _held(past, keep.far)
    if held and delete:
        give([one for one in ordered if one.id in delete], "held")
        delete = []
    return Plan(reasons, delete, held, told)


def check_left(archives: Sequence[Archive], archive_id: str, least: int) -> None:
    """Raise `TooFewLeft` where fewer copies of a set than `least` would be left that are not dirty.

    The root half asks this of itself, with what lies there and not what the agent has told: `plan` never goes as far,
    but who has taken the agent over would.
    """
    wanted = next((one for one in archives if one.id == archive_id), None)
    if wanted is None or wanted.verdict == "dirty":
        return
    left = [one for one in archives if one.set_name == wanted.set_name and one.verdict != "dirty"]
    if len(left) <= least:
        raise TooFewLeft(id=archive_id, set_name=wanted.set_name, least=least)


def _held(past: Sequence[Kept], far: float) -> str:
    """Return why nothing may be deleted: the newest is not like those before it."""
    if not past:
        return "there is no archive that counts"
    newest, before = past[0], past[1 : 1 + LAST]
    for name, count, those in (
        ("bytes", newest.bytes, [one.bytes for one in before]),
        ("files", newest.files, [one.files for one in before]),
    ):
        usual = median(those) if those else count
        if abs(count - usual) > far * usual:
            return f"the newest has {count} {name}, those before it about {usual:.0f}"
    return ""


def _periods(keep: Keep, zone: tzinfo) -> Sequence[tuple[str, int, Callable[[Kept], object]]]:
    def local(one: Kept) -> datetime:
        return one.at.astimezone(zone)

    return (
        ("daily", keep.daily, lambda one: local(one).date()),
        ("weekly", keep.weekly, lambda one: tuple(local(one).isocalendar())[:2]),
        ("monthly", keep.monthly, lambda one: (local(one).year, local(one).month)),
        ("yearly", keep.yearly, lambda one: local(one).year),
    )


def _newest_of_each(ordered: Sequence[Kept], period: Callable[[Kept], object]) -> list[Kept]:
    """Return the newest of each period, newest first, given the newest first."""
    found: dict[object, Kept] = {}
    for one in ordered:
        found.setdefault(period(one), one)
    return list(found.values())
