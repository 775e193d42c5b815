"""What a target is told next, in quiet hours and others, and what is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.notify.batch import LAST_WORDS_MAX, last_words, next_batch, overdue
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.message import merged
from homelab_agent.notify.promise import LAST_WORDS, Portion, Promise
from homelab_agent.notify.severity import Severity

AT = datetime(2026, 11, 29, 23, 0, tzinfo=UTC)
WARNING, FAILED, CRITICAL = Severity.WARNING, Severity.FAILED, Severity.CRITICAL


def trouble(check: str = "web", bad: Severity = FAILED) -> Item:
    return Item(Kind.TROUBLE, check, bad, AT, "why")


def recovered(check: str = "web", bad: Severity = FAILED) -> Item:
    return Item(Kind.RECOVERED, check, bad, AT)


def promise(*items: Item, since: float | None = None) -> Promise:
    return Promise("phone", items, AT, since=since)


def tell(waiting: list[Promise], *, quiet: bool) -> list[Item]:
    """Send what is next, and return it."""
    batch = next_batch(waiting, quiet=quiet)
    for portion in batch:
        portion.promise.items = portion.rest
    waiting[:] = [one for one in waiting if one.items]
    return [item for portion in batch for item in portion.items]


def test_three_that_wait_are_sent_one_by_one_and_more_are_one() -> None:
    waiting = [promise(trouble(f"check.{number}")) for number in range(4)]
    assert next_batch(waiting[:3], quiet=False) == [Portion(waiting[0], waiting[0].items)]
    assert [one.promise for one in next_batch(waiting, quiet=False)] == waiting
    assert not next_batch(waiting, quiet=True)


def test_what_came_and_went_while_it_waited_is_one_message() -> None:
    waiting = [promise(trouble()), promise(trouble("database")), promise(recovered())]
    assert len(next_batch(waiting, quiet=False)) == 3


def test_at_night_what_is_critical_is_told_and_not_what_came_with_it() -> None:
    waiting = [promise(trouble()), promise(trouble("state", CRITICAL), recovered())]
    assert tell(waiting, quiet=True) == [trouble("state", CRITICAL)]
    assert not next_batch(waiting, quiet=True)
    assert merged(tell(waiting, quiet=False)) == [recovered()]
    assert not waiting


def test_no_earlier_word_on_what_was_critical_at_night_is_told_in_the_morning() -> None:
    waiting = [promise(trouble("state", WARNING), trouble())]
    assert not next_batch(waiting, quiet=True)
    waiting.append(promise(trouble("state", CRITICAL)))
    assert merged(tell(waiting, quiet=True)) == [trouble("state", CRITICAL)]
    waiting.append(promise(recovered("state", CRITICAL)))
    waiting.append(promise(trouble("state", WARNING)))
    assert tell(waiting, quiet=True) == [recovered("state", CRITICAL)]
    assert tell(waiting, quiet=False) == [trouble()]
    assert tell(waiting, quiet=False) == [trouble("state", WARNING)]
    assert not waiting


CHECKS = st.sampled_from(["web", "state", "disks", "database"])
WORDS = st.builds(
    Item, st.sampled_from([Kind.TROUBLE, Kind.RECOVERED, Kind.LOST]), CHECKS, st.sampled_from([*Severity][1:]),
    st.just(AT),
)  # fmt: skip
NIGHTS = st.lists(st.one_of(st.lists(WORDS, min_size=1, max_size=4, unique_by=lambda item: item.check), st.booleans()))


@given(NIGHTS)
def test_whenever_it_is_quiet_the_last_word_on_each_thing_is_told_last(night: list[list[Item] | bool]) -> None:
    waiting: list[Promise] = []
    made: dict[str, list[datetime]] = {}
    told: dict[str, list[datetime]] = {}
    for number, event in enumerate([*night, *[False] * 50]):
        if isinstance(event, bool):
            said = merged(tell(waiting, quiet=event))
            assert not event or all(item.severity is CRITICAL for item in said)
            for item in said:
                told.setdefault(item.check, []).append(item.since)
            if event:
                assert not [item for one in waiting for item in one.items if item.severity is CRITICAL] or said
        else:
            now = AT + timedelta(seconds=number)
            items = tuple(Item(one.kind, one.check, one.severity, now) for one in event)
            waiting.append(Promise("phone", items, now))
            for item in items:
                made.setdefault(item.check, []).append(now)
    assert not waiting
    assert {check: times[-1] for check, times in told.items()} == {check: times[-1] for check, times in made.items()}
    assert all(times == sorted(set(times)) for times in told.values())


def test_what_has_waited_too_long_is_given_up_after_three_tries_and_its_last_words_are_not() -> None:
    old, new, never = promise(trouble(), since=100), promise(trouble(), since=900), promise(trouble())
    waiting = [old, new, never]
    assert list(overdue(waiting, 1101, give_up=1000, failures=3)) == [old]
    assert not overdue(waiting, 1101, give_up=1000, failures=2)
    left = promise(*last_words(waiting, [old], 1), since=100)
    assert not overdue([left], 1e9, give_up=1000, failures=3)


def test_the_last_words_are_of_each_thing_the_last_and_say_how_many_were_given_up() -> None:
    first = promise(trouble("web"), trouble("database"))
    items = last_words([first], [first, promise(recovered("web"), trouble("disks", CRITICAL))], 2)
    note, *rest = items
    assert (note.check, note.severity, note.since) == (LAST_WORDS, CRITICAL, AT)
    assert "2" in note.detail
    assert rest == [recovered("web"), trouble("database"), trouble("disks", CRITICAL)]
    before = promise(*items)
    later = Promise("phone", (trouble("web"),), AT + timedelta(days=1))
    again = last_words([before, later], [later], 3)
    assert [item.check for item in again] == [LAST_WORDS, "web", "database", "disks"]
    assert again[0].since == AT
    assert again[1] == trouble("web")


def test_of_last_words_there_is_a_bound() -> None:
    many = [promise(*(Item(Kind.HAPPENED, "agent restarted", FAILED, AT + timedelta(n)) for n in range(500)))]
    assert len(last_words(many, many, 1)) == LAST_WORDS_MAX + 1
