"""What of the checks is told: examples, and whatever they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.core.clock import Instant
from homelab_agent.notify.decision import Case, Decision, Item, Kind, Seen, Timing, decide, merged
from homelab_agent.notify.severity import Severity

AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
TIMING = Timing(grace=120, grace_degraded=900, group=15)
NONE, WARNING, FAILED, CRITICAL = Severity


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def instant(seconds: float, step: float = 0) -> Instant:
    """Return the moment that many seconds on, by a wall clock that was set by `step`."""
    return Instant(after(seconds + step), seconds, seconds)


def seen(
    severity: Severity | None,
    check: str = "web",
    detail: str = "why",
    *,
    since: float = 0,
    known: bool = True,
    about: Sequence[str] = (),
) -> Seen:
    return Seen(check, severity, after(since), detail, "homelab-agent doctor", known, frozenset(about))


class House:
    """Checks that are looked at, and what was told of them."""

    def __init__(self, timing: Timing = TIMING) -> None:
        self.book: Mapping[str, Case] = {}
        self.told: list[tuple[float, Item]] = []
        self.timing = timing
        self.step = 0.0
        """By how much the wall clock was set."""

    def look(self, seconds: float, *picture: Seen, muted: bool = False) -> Decision:
        decision = decide(self.book, picture, instant(seconds, self.step), self.timing, muted=muted)
        self.book = decision.book
        self.told += [(seconds, item) for item in decision.told]
        return decision

    def until(self, begin: int, end: int, *picture: Seen, step: int = 5, muted: bool = False) -> None:
        """Look every few seconds, from `begin` to `end`."""
        for seconds in range(begin, end, step):
            self.look(seconds, *picture, muted=muted)

    def words(self) -> list[tuple[float, Kind, Severity]]:
        return [(at, item.kind, item.severity) for at, item in self.told]


def test_what_stays_failed_for_its_grace_is_told_once_and_its_recovery_once() -> None:
    house = House()
    house.until(0, 1000, seen(FAILED))
    house.until(1000, 3000, seen(NONE))
    assert house.words() == [(135, Kind.TROUBLE, FAILED), (1255, Kind.RECOVERED, FAILED)]
    (_, trouble), (_, recovered) = house.told
    assert (trouble.detail, trouble.repair, trouble.since) == ("why", "homelab-agent doctor", AT)
    assert (recovered.detail, recovered.since) == ("", AT)


def test_what_is_well_again_within_its_grace_is_not_told() -> None:
    house = House()
    house.until(0, 115, seen(FAILED))
    house.until(115, 5000, seen(NONE))
    assert not house.told
    assert not house.book


def test_what_is_degraded_has_more_time_and_what_becomes_worse_is_told_again() -> None:
    house = House()
    house.until(0, 1200, seen(WARNING))
    house.until(1200, 3000, seen(FAILED))
    house.until(3000, 6000, seen(WARNING))
    assert house.words() == [(915, Kind.TROUBLE, WARNING), (1335, Kind.TROUBLE, FAILED)]


def test_what_is_critical_waits_for_no_others() -> None:
    house = House()
    house.until(0, 200, seen(CRITICAL), seen(FAILED, "other"))
    assert house.words() == [(120, Kind.TROUBLE, CRITICAL), (120, Kind.TROUBLE, FAILED)]


def test_what_comes_up_together_is_told_together_however_many() -> None:
    house = House()
    many = [seen(FAILED, f"check.{number}") for number in range(1000)]
    told = [decision.told for at in range(0, 600, 5) if (decision := house.look(at, *many)).told]
    assert [len(items) for items in told] == [1000]


def test_an_announced_outage_is_not_told_and_what_outlasts_it_has_its_grace_then() -> None:
    house = House()
    house.until(0, 3000, seen(None))
    house.until(3000, 3400, seen(FAILED))
    assert house.words() == [(3135, Kind.TROUBLE, FAILED)]


def test_what_was_told_before_a_restart_is_told_neither_twice_nor_recovers_before_it_is_asked() -> None:
    house = House()
    house.until(0, 200, seen(FAILED))
    house.book = {check: Case(case.told, case.tells, case.began) for check, case in house.book.items()}
    house.until(200, 300, seen(None))
    house.until(300, 1000, seen(FAILED))
    assert len(house.told) == 1
    house.until(1000, 2000, seen(NONE))
    assert [item.kind for _, item in house.told] == [Kind.TROUBLE, Kind.RECOVERED]


def test_a_mute_tells_nothing_and_what_still_holds_after_it_is_told_then() -> None:
    house = House()
    house.until(0, 7200, seen(FAILED), seen(FAILED, "gone"), muted=True)
    assert not house.told
    house.until(7200, 7300, seen(FAILED), seen(NONE, "gone"))
    assert [(at, item.check) for at, item in house.told] == [(7200, "web")]


def test_a_flapping_check_is_told_little_and_last_that_it_is_in_trouble() -> None:
    house = House()
    for begin in range(0, 86400, 600):  # five minutes failed, five minutes well
        house.until(begin, begin + 300, seen(FAILED), step=10)
        house.until(begin + 300, begin + 600, seen(NONE), step=10)
    assert [item.kind for _, item in house.told] == [Kind.TROUBLE, Kind.RECOVERED, Kind.TROUBLE]
    assert house.told[-1][1].again


def test_a_check_that_is_gone_is_forgotten() -> None:
    house = House()
    house.until(0, 200, seen(FAILED))
    house.look(200)
    assert not house.book


# What was worse.


@pytest.mark.parametrize("about", [(), ("sda",)])
def test_what_is_bad_again_after_it_was_better_for_long_is_told_and_its_recovery_is_of_the_worst(
    about: Sequence[str],
) -> None:
    house, week = House(), 7 * 86400
    house.until(0, 600, seen(CRITICAL, about=about))
    house.until(600, week, seen(WARNING, about=about), step=30)
    assert house.words() == [(120, Kind.TROUBLE, CRITICAL)], "that it is better is no news"
    house.until(week, week + 3600, seen(CRITICAL, about=about))
    house.until(week + 3600, week + 86400, seen(WARNING, about=about), step=30)
    house.until(week + 86400, week + 90000, seen(NONE))
    told = [(item.kind, item.severity) for _, item in house.told[1:]]
    assert told == [(Kind.TROUBLE, CRITICAL), (Kind.RECOVERED, CRITICAL)]
    assert house.told[1][0] == week + 120
    assert house.told[2][1].since == AT, "it was never well"


def test_what_was_better_for_a_moment_or_never_asked_is_not_told_again() -> None:
    house = House()
    house.until(0, 600, seen(CRITICAL))
    house.until(600, 800, seen(WARNING))
    house.until(800, 90000, seen(CRITICAL), step=30)
    house.until(90000, 90030, seen(WARNING))
    house.until(90030, 99000, seen(None), step=30)
    house.until(99000, 99900, seen(CRITICAL))
    assert len(house.told) == 1


def test_what_is_worse_and_better_all_day_is_told_little() -> None:
    house = House()
    for begin in range(0, 86400, 1200):
        house.until(begin, begin + 600, seen(CRITICAL), step=10)
        house.until(begin + 600, begin + 1200, seen(WARNING), step=10)
    assert len(house.told) == 3


# What a check stands for.


def units(*names: str, severity: Severity = FAILED) -> Seen:
    """Return a check that stands for units, of which these are in trouble."""
    return seen(severity if names else NONE, "units", ", ".join(names), about=names)


def test_a_second_disk_that_fails_while_the_first_does_is_told_after_its_grace() -> None:
    house = House()
    house.until(0, 1000, units("sda"))
    house.until(1000, 1100, units("sda", "sdb"))
    house.until(1100, 2000, units("sda"))
    assert house.words() == [(135, Kind.TROUBLE, FAILED)], "sdb was in trouble for less than its grace"
    house.until(2000, 9000, units("sda", "sdb"))
    assert house.words() == [(135, Kind.TROUBLE, FAILED), (2135, Kind.TROUBLE, FAILED)]
    _, item = house.told[-1]
    assert (item.check, item.detail, item.since, item.again) == ("units", "sda, sdb", after(2000), False)
    house.until(9000, 12000, units())
    assert [item.kind for _, item in house.told[2:]] == [Kind.RECOVERED]


def test_one_that_is_told_with_the_check_is_no_news_later_and_what_goes_is_none() -> None:
    house = House()
    house.until(0, 100, units("sda"))
    house.until(100, 1000, units("sda", "sdb"))
    house.until(1000, 20000, units("sdb"))
    assert house.words() == [(135, Kind.TROUBLE, FAILED)]
    assert house.told[0][1].detail == "sda, sdb"


def test_one_that_comes_back_long_after_it_went_is_told_again() -> None:
    house = House()
    house.until(0, 1000, units("old", "new"))
    house.until(1000, 90000, units("old"), step=30)
    house.until(90000, 91000, units("old", "new"))
    assert [at for at, _ in house.told] == [135, 90135]


def test_one_that_comes_and_goes_beside_another_is_told_less_and_less_and_delays_no_third() -> None:
    house = House()
    house.until(0, 1000, units("old"))
    for begin in range(1000, 86400, 600):  # five minutes failed, five minutes well
        house.until(begin, begin + 300, units("flaky", "old"), step=10)
        house.until(begin + 300, begin + 600, units("old"), step=10)
    assert len(house.told) <= 4
    before = len(house.told)
    assert house.told[-1][1].again
    house.until(86800, 87400, units("old", "third"))
    assert [at for at, _ in house.told[before:]] == [86935]


def test_a_degraded_part_has_more_time_and_is_told_as_the_check_was() -> None:
    house = House()
    house.until(0, 1000, units("sda", severity=WARNING))
    house.until(1000, 1800, units("sda", "sdb", severity=WARNING))
    house.until(1800, 1900, units("sda", "sdb"))
    house.until(1900, 3000, units("sda", "sdb", severity=WARNING))
    assert house.words() == [(915, Kind.TROUBLE, WARNING), (1915, Kind.TROUBLE, WARNING)]


def test_a_check_that_cannot_ask_for_a_while_forgets_none_of_what_was_told() -> None:
    house = House()
    house.until(0, 1000, units("sda"))
    house.until(1000, 20000, seen(FAILED, "units", "nobody can be asked"))
    house.until(20000, 30000, units("sda"))
    house.until(30000, 40000, seen(None, "units"))
    house.until(40000, 50000, units("sda"))
    assert len(house.told) == 1


def test_what_an_earlier_agent_told_of_parts_is_known_to_one_that_began_without_knowing() -> None:
    earlier, house = House(), House()
    earlier.until(0, 1000, units("sda", "sdb"))
    house.until(0, 1000, units("sdb", "sdc"))
    house.book = merged(earlier.book, house.book)
    house.until(1000, 3000, units("sda", "sdb", "sdc"))
    assert len(house.told) == 1, "each was told by one of them"
    house.until(3000, 4000, units("sda", "sdb", "sdc", "sdd"))
    assert len(house.told) == 2


# A clock that is set.


@pytest.mark.parametrize("step", [-3 * 3600, 86400, -4000 * 86400])
def test_a_clock_that_is_set_while_something_fails_or_is_well_tells_neither_sooner_nor_later(step: float) -> None:
    house = House()
    house.until(0, 60, seen(CRITICAL))
    house.step = step
    house.until(60, 300, seen(CRITICAL))
    assert house.words() == [(120, Kind.TROUBLE, CRITICAL)]
    house.until(300, 400, seen(NONE))
    house.step = 0
    house.until(400, 1000, seen(NONE))
    told = [at for at, item in house.told if item.kind is Kind.RECOVERED]
    assert told == [555] if step == -3 * 3600 else told[0] >= 420  # for what was told a day went by, by the clock


def test_what_was_told_under_a_clock_that_was_ahead_counts_for_a_day_and_no_longer() -> None:
    house = House()
    ahead = tuple(after(4000 * 86400 + number) for number in range(8))
    house.book = {"web": Case(told=FAILED, tells=ahead, began=after(4000 * 86400))}
    house.look(0, seen(FAILED))
    assert house.book["web"].tells == (AT,) * 8
    assert house.book["web"].began == AT
    house.look(86401, seen(FAILED))
    assert not house.book["web"].tells


# What nobody knows any more.


def test_what_is_disabled_or_not_available_after_its_trouble_was_told_is_not_well_again() -> None:
    house = House()
    house.until(0, 600, seen(FAILED))
    house.until(600, 2000, seen(NONE, detail="no disk here says how it is", known=False))
    house.until(2000, 4000, seen(NONE))
    house.until(4000, 5000, seen(FAILED))
    assert house.words()[:2] == [(135, Kind.TROUBLE, FAILED), (855, Kind.LOST, FAILED)]
    assert [item.kind for _, item in house.told[2:]] == [Kind.TROUBLE]
    assert house.told[1][1].detail == "no disk here says how it is"


def test_what_was_never_told_is_not_missed() -> None:
    house = House()
    house.until(0, 5000, seen(NONE, known=False))
    assert not house.told


# What comes and goes.


def test_it_comes_and_goes_is_said_of_what_was_in_trouble_and_well_before() -> None:
    house = House()
    house.until(0, 1200, seen(WARNING))
    house.until(1200, 3000, seen(FAILED, since=1200))
    house.until(3000, 6000, seen(NONE, since=3000))
    house.until(6000, 9000, seen(FAILED, since=6000))
    house.until(9000, 20000, seen(NONE, since=9000))
    assert [(item.kind, item.again) for _, item in house.told] == [
        (Kind.TROUBLE, False), (Kind.TROUBLE, False), (Kind.RECOVERED, False), (Kind.TROUBLE, True),
        (Kind.RECOVERED, True),
    ]  # fmt: skip


@pytest.mark.parametrize("grace", [0, 1, 10, 120])
def test_no_grace_is_so_short_that_what_flaps_is_told_all_day(grace: float) -> None:
    house = House(Timing(grace, grace, 15))
    for begin in range(0, 86400, 60):
        house.until(begin, begin + 30, seen(FAILED))
        house.until(begin + 30, begin + 60, seen(NONE))
    assert len(house.told) <= 4


def test_what_is_critical_for_a_moment_each_minute_is_told_and_what_was_once_is_not() -> None:
    house = House()
    house.until(0, 40, seen(CRITICAL))
    house.until(40, 4000, seen(NONE))
    assert not house.told
    assert not house.book
    for begin in range(4000, 6000, 60):
        house.until(begin, begin + 20, seen(CRITICAL))
        house.until(begin + 20, begin + 60, seen(NONE))
    assert house.words() == [(4120, Kind.TROUBLE, CRITICAL)]
    house.until(6000, 6300, seen(NONE))
    assert [item.kind for _, item in house.told] == [Kind.TROUBLE, Kind.RECOVERED]
    house.until(6300, 6340, seen(CRITICAL))
    house.until(6340, 6340 + 125, seen(NONE))
    house.until(6465, 6540, seen(CRITICAL))
    assert len(house.told) == 2


LIVES = st.lists(
    st.tuples(st.sampled_from([None, *Severity]), st.floats(1, 4000)),
    min_size=1,
    max_size=60,
)


def lived(life: Sequence[tuple[Severity | None, float]], house: House) -> float:
    """Have a check live so, looked at whenever it changes and whenever the decision asks for it."""
    now = 0.0
    for severity, lasts in life:
        end = now + lasts
        while now < end:
            decision = house.look(now, seen(severity))
            again = end if decision.again is None else decision.again
            now = min(end, max(again, now + 0.001))
    return now


@settings(deadline=None)
@given(LIVES)
def test_whatever_a_check_does_troubles_and_recoveries_alternate(life: list[tuple[Severity | None, float]]) -> None:
    house = House()
    lived(life, house)
    worst = NONE
    for _, item in house.told:
        if item.kind is Kind.RECOVERED:
            assert worst is item.severity
            assert worst is not NONE
            worst = NONE
        else:
            assert item.severity is not NONE
            worst = max(worst, item.severity)


@settings(deadline=None)
@given(LIVES, st.sampled_from([WARNING, FAILED, CRITICAL]), st.sampled_from([WARNING, FAILED, CRITICAL]))
def test_whatever_it_did_before_what_becomes_worse_after_days_is_told(
    life: list[tuple[Severity | None, float]], better: Severity, worse: Severity
) -> None:
    house = House()
    now = lived(life, house)
    for severity in (better, worse):
        end = now + 3 * 86400
        before = len(house.told)
        while now < end:
            house.look(now, seen(severity))
            now += 300
    told = [item.severity for _, item in house.told[before:]]
    assert told == ([worse] if worse > better else [])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(Severity), st.floats(1, 1200)), min_size=50, max_size=300))
def test_no_check_is_told_of_all_day_whatever_it_does(life: list[tuple[Severity, float]]) -> None:
    house = House()
    lived(life, house)
    times = [at for at, _ in house.told]
    for begin in times:
        assert sum(begin <= at < begin + 86400 for at in times) <= 20


@settings(deadline=None)
@given(LIVES)
def test_whatever_it_did_before_what_then_stays_failed_is_told_in_the_end(
    life: list[tuple[Severity | None, float]],
) -> None:
    house = House()
    now = lived(life, house)
    while now < 3 * 86400:
        house.look(now, seen(FAILED))
        now += 600
    assert house.book["web"].told >= FAILED
    while now < 6 * 86400:
        house.look(now, seen(NONE))
        now += 600
    assert "web" not in house.book or house.book["web"].told is NONE
    assert house.told[-1][1].kind is Kind.RECOVERED


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([NONE, FAILED]), st.floats(1, 1200)), min_size=50, max_size=300))
def test_no_check_is_told_of_more_than_ten_times_a_day(life: list[tuple[Severity, float]]) -> None:
    house = House()
    lived(life, house)
    times = [at for at, _ in house.told]
    for begin in times:
        assert sum(begin <= at < begin + 86400 for at in times) <= 10


@given(LIVES)
def test_what_is_told_was_so_for_its_grace(life: list[tuple[Severity | None, float]]) -> None:
    house = House(Timing(grace=120, grace_degraded=120, group=0))
    lived(life, house)
    edges, now = [], 0.0
    for severity, lasts in life:
        edges.append((now, now + lasts, severity))
        now += lasts
    for at, item in house.told:
        during = [one for begin, end, one in edges if begin < at and end > at - 120 + 0.01]
        if item.kind is not Kind.TROUBLE:
            assert set(during) == {NONE}
        elif item.severity is CRITICAL:
            during = [one for begin, end, one in edges if begin <= at and end > at - 120 + 0.01]
            assert during[-1] is CRITICAL
            assert CRITICAL in during[:-1] or len(during) == 1
            assert None not in during
        else:
            assert all(one is not None and one >= item.severity for one in during)


@given(LIVES, st.lists(st.floats(-1e7, 1e7), min_size=60, max_size=60))
def test_a_clock_that_is_set_is_no_reason_to_tell(
    life: list[tuple[Severity | None, float]], steps: list[float]
) -> None:
    steady, unsteady = House(Timing(120, 120, 15)), House(Timing(120, 120, 15))
    now = 0.0
    for (severity, lasts), step in zip(life, steps, strict=False):
        unsteady.step = step
        end = now + lasts
        while now < end and not steady.told:
            decisions = [house.look(now, seen(severity)) for house in (steady, unsteady)]
            assert decisions[0].again == decisions[1].again
            assert steady.words() == unsteady.words()
            again = end if decisions[0].again is None else decisions[0].again
            now = min(end, max(again, now + 0.001))
        now = end


PARTS = st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.floats(1, 1200)), min_size=1, max_size=120)


@settings(deadline=None, max_examples=60)
@given(PARTS)
def test_whatever_parts_do_each_that_then_stays_is_told_and_none_more_than_ten_times_a_day(
    life: list[tuple[set[str], float]],
) -> None:
    house = House()
    house.until(0, 500, units("old"))
    now = 500.0
    for names, lasts in life:
        now += lasts
        house.look(now, units("old", *sorted(names)))
    assert len(house.told) <= 1 + 3 * 10 * (1 + now / 86400)
    house.look(now, units("old"))
    begin = now
    while now < begin + 2 * 86400:
        now += 600
        house.look(now, units("old", "a"))
    assert house.book["units"].parts["a"].is_told
