"""A message in words, who wants it, what waits together, and when it is tried again."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent import config
from homelab_agent.core.health import State
from homelab_agent.notify import message, settings
from homelab_agent.notify.answer import Answer, pause
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.heartbeat import Beat, Call, call
from homelab_agent.notify.message import Writer
from homelab_agent.notify.sender import seconds_after, secret_parts
from homelab_agent.notify.severity import Scale, Severity
from homelab_agent.notify.target import Target
from homelab_agent.notify.thread import StillBusy, Thread

AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
WRITER = Writer("nas", digest=2, zone=ZoneInfo("Europe/Berlin"))
ITEMS = st.builds(
    Item,
    st.sampled_from(Kind),
    st.text(max_size=40),
    st.sampled_from([Severity.WARNING, Severity.FAILED, Severity.CRITICAL]),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.text(),
    st.text(),
    st.booleans(),
)


def item(check: str = "web", kind: Kind = Kind.TROUBLE, bad: Severity = Severity.FAILED, detail: str = "why") -> Item:
    return Item(kind, check, bad, AT, detail, "homelab-agent doctor")


def test_one_thing_is_told_whole_in_the_hosts_time() -> None:
    text = WRITER.write([item()], "https://nas/")
    assert text.title == "nas: web is failed"
    assert text.body.splitlines() == [
        "web is failed", "Host: nas", "Since: 2026-11-29 13:00", "Cause: why", "Repair: homelab-agent doctor", "",
        "https://nas/",
    ]  # fmt: skip


def test_many_things_are_a_digest_the_worst_first_and_what_recovered_last() -> None:
    items = [item("a", Kind.RECOVERED), item("b", bad=Severity.WARNING), item("c", bad=Severity.CRITICAL)]
    text = WRITER.write(items, "")
    assert text.title == "nas: 2 need you, 1 well again"
    assert [line.partition(" since")[0] for line in text.body.splitlines()[:3]] == [
        "c is failed", "b is degraded", "a is well again",
    ]  # fmt: skip
    assert text.severity is Severity.CRITICAL


def test_what_came_and_went_while_it_waited_is_told_once() -> None:
    text = WRITER.write([item("a"), item("a", Kind.RECOVERED), item("b")], "")
    assert text.title == "nas: 1 needs you, 1 well again"


@given(st.lists(ITEMS, min_size=1, max_size=40))
def test_whatever_is_told_fits_and_comes_back_from_disk(items: list[Item]) -> None:
    text = WRITER.write(items, "https://nas/")
    assert len(text.body.encode()) <= message.BODY_BYTES_MAX
    assert text.body.endswith("https://nas/")
    assert message.decode(message.encode(items), AT) == tuple(items)


def test_what_a_later_release_has_written_is_read_as_far_as_it_is_known() -> None:
    known = json.loads(message.encode([item("a"), item("b")]))
    longer = [[*one, "new"] for one in known]
    assert message.decode(json.dumps(longer), AT) == (item("a"), item("b"))
    for odd in ([*known[:1], ["doubt", "b", 2, 1, "", "", False]], [*known[:1], ["trouble"]], [*known[:1], 7]):
        first, second = message.decode(json.dumps(odd), AT)
        assert first == item("a")
        assert (second.kind, second.check, second.since) == (Kind.HAPPENED, "message not read", AT)
    assert [one.check for one in message.decode("{", AT)] == ["message not read"]
    assert [one.check for one in message.decode("[]", AT)] == ["message not read"]


def test_what_is_not_known_any_more_is_not_called_well() -> None:
    text = WRITER.write([item("disks", Kind.LOST, detail="no disk here says how it is")], "")
    assert text.title == "nas: disks is not known any more"
    assert "no disk here says how it is" in text.body


def test_of_what_no_digest_names_only_the_name_is_kept() -> None:
    items = [item(f"probe.{number}", bad=Severity.WARNING) for number in range(1000)] + [item("worst")]
    kept = message.condensed(items)
    assert [one.check for one in kept] == [one.check for one in items]
    assert sum(bool(one.detail) for one in kept) == message.LINES_MAX
    assert kept[-1] == items[-1]
    assert WRITER.write(kept, "") == WRITER.write(items, "")


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_line_of_printable_characters(text: str, most: int) -> None:
    said = message.one_line(text, most)
    assert len(said) <= most
    assert said.isprintable()


def test_a_target_hears_of_what_it_wants_and_never_of_itself() -> None:
    phone = Target("phone", Severity.FAILED, ("backup", "job.*"))
    assert phone.wants(item("backup.place"))
    assert phone.wants(item("job.reading.sync"))
    assert not phone.wants(item("backups"))
    assert not phone.wants(item("backup", bad=Severity.WARNING))
    assert not Target("phone").wants(item("notify.target.phone"))
    assert Target("mail").wants(item("notify.target.phone"))


@pytest.mark.parametrize(
    ("hours", "quiet", "loud"),
    [("22:30-07:00", ["22:30", "23:59", "00:00", "06:59"], ["07:00", "22:29"]), ("12:00-13:00", ["12:30"], ["13:00"])],
)
def test_quiet_hours_may_go_over_midnight(hours: str, quiet: list[str], loud: list[str]) -> None:
    target = Target.of(settings.Target(name="phone", url="file:/x", quiet=hours))
    assert all(target.is_quiet(datetime.combine(AT, time.fromisoformat(at))) for at in quiet)
    assert not any(target.is_quiet(datetime.combine(AT, time.fromisoformat(at))) for at in loud)
    assert not Target("phone").is_quiet(AT)


def test_a_failure_is_critical_and_a_degradation_a_failure_where_the_configuration_says_so() -> None:
    scale = Scale(critical=["task"], serious=["backup", "task.jobs"])
    assert scale.of("task.jobs", State.FAILED) is Severity.CRITICAL
    assert scale.of("tasks", State.FAILED) is Severity.FAILED
    assert scale.of("task.jobs", State.DEGRADED) is Severity.FAILED
    assert scale.of("task.web", State.DEGRADED) is Severity.WARNING
    assert scale.of("backup.home", State.FAILED) is Severity.FAILED
    assert scale.of("backup.home", State.OK) is Severity.NONE
    assert scale.of("task.jobs", State.NOT_AVAILABLE) is Severity.NONE


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True), st.floats(0, 1e9))
def test_the_wait_grows_up_to_a_quarter_of_an_hour_and_heeds_who_asks_for_more(
    failures: int, chance: float, wanted: float
) -> None:
    wait = pause(failures, Answer(ok=False, words="", retry_after=wanted), chance)
    assert 5 <= wait <= 3600
    assert wait >= min(wanted, 3600)
    assert pause(failures, Answer(ok=False, words=""), chance) <= 900


def test_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_after("120", AT) == 120
    assert seconds_after("Sun, 29 Nov 2026 12:01:00 GMT", AT) == 60
    assert seconds_after("Sun, 29 Nov 2026 11:00:00 GMT", AT) == 0
    for odd in ("", "soon", "-5", "Sun, 29 Nov 2026 12:01:00", "9" * 40):
        assert seconds_after(odd, AT) == 0


def test_what_is_secret_in_an_address_is_known() -> None:
    assert secret_parts("ntfy://me:pass%20word@ntfy.example.net/alerts") == ["pass word", "pass%20word"]
    assert secret_parts("tgram://123456789:AAF-token_of_the_bot/12315544/") == [
        "12315544",
        "123456789",
        "AAF-token_of_the_bot",
    ]
    assert secret_parts("json://localhost/hook?token=t0k3n0f0it") == ["t0k3n0f0it"]


def test_a_target_takes_a_reference_and_no_address() -> None:
    with pytest.raises(ValueError, match="reference to a secret"):
        settings.Target(name="phone", url="ntfy://canary@ntfy.sh/alerts")


def test_an_address_that_stands_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[[notify.target]]\nname = "phone"\nurl = "ntfy://canary@ntfy.sh/alerts"\n')
    with pytest.raises(config.ConfigurationFaulty) as refused:
        config.load(tmp_path / "config.toml")
    assert "reference to a secret" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_call_is_as_healthchecks_and_uptime_kuma_document_it() -> None:
    base = "https://hc.example.net/ping/key/nas?create=1"
    assert call("healthchecks", base, Beat.SUCCESS) == Call(base)
    assert call("healthchecks", base, Beat.START, run="r") == Call(
        "https://hc.example.net/ping/key/nas/start?create=1&rid=r"
    )
    said = call("healthchecks", base, Beat.FAIL, text="a" * 20_000 + "end")
    assert said is not None
    assert said.body.endswith("end")
    assert len(said.body) == 10_000
    kuma = "https://kuma/api/push/T?status=up&msg=OK&ping="
    assert call("uptime-kuma", kuma, Beat.START) is None
    assert call("uptime-kuma", kuma, Beat.FAIL, text="no\ngood") == Call(
        "https://kuma/api/push/T?status=down&msg=no+good&ping="
    )


async def test_a_call_that_hangs_keeps_its_thread_and_no_second_is_begun() -> None:
    thread, go_on = Thread("notify-test"), threading.Event()
    with pytest.raises(TimeoutError):
        await thread.run(go_on.wait, within=0.01)
    with pytest.raises(StillBusy):
        await thread.run(int, within=1)
    go_on.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await thread.run(int, "7", within=1) == 7
            except StillBusy:
                await asyncio.sleep(0.001)
            else:
                break
    with pytest.raises(ValueError, match="invalid literal"):
        await thread.run(int, "x", within=timedelta(seconds=5).total_seconds())
