from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import tty
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal import line as journal_line
from homelab_agent.core.journal import sink as journal_sink
from homelab_agent.core.journal.redaction import MASK, Redactor
from homelab_agent.core.journal.suppression import BURST
from homelab_agent.core.settings import Level, LogSettings

HEAD = {
    "level": "info",
    "component": "spool",
    "event": "spool.thinned",
    "host": "nas",
    "time": "2026-11-24T12:00:00Z",
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.sets(st.integers()),
    max_leaves=20,
)


class Pipe:
    """Where a test's journal writes, and what came out."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def text(self) -> str:
        """Return all that was written until now."""
        os.set_blocking(self.reading, False)
        parts = []
        try:
            while part := os.read(self.reading, 1 << 20):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode()

    def events(self) -> list[dict[str, Any]]:
        """Return the events, of JSON lines."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reading)
    os.close(made.writing)


@contextmanager
def opened(descriptor: int, *secrets: str, form: str = "json", level: Level = Level.INFO) -> Iterator[journal.Journal]:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    settings = LogSettings(format=form, level=level)
    opening = journal.open_journal(settings, host="nas", redactor=redactor, descriptor=descriptor)
    try:
        yield opening
    finally:
        opening.close(0.5)


def fail(depth: int = 3) -> None:
    if depth:
        fail(depth - 1)
    raise DiskGone(disk="sdb", cause=OSError(5, "Input/output error"))


class DiskGone(AgentError):
    """The disk {disk} does not answer."""

    repair = "smartctl -a /dev/{disk}"


log = journal.logger("spool")


def test_an_event_says_what_where_and_when(pipe: Pipe) -> None:
    with opened(pipe.writing) as opening:
        log.info("spool.thinned", rows=3, table="cpu_sample")
        assert opening.flush()
        event = pipe.events()[0]
    assert datetime.fromisoformat(event.pop("time")).tzinfo is not None
    assert list(event.items()) == [
        ("level", "info"),
        ("component", "spool"),
        ("event", "spool.thinned"),
        ("host", "nas"),
        ("rows", 3),
        ("table", "cpu_sample"),
    ]


def test_everything_in_a_run_carries_its_id_also_in_tasks_started_there(pipe: Pipe) -> None:
    async def run() -> None:
        with journal.bound(run_id="r1", request_id="q1"):
            await asyncio.create_task(deeper())
        log.info("spool.idle")

    async def deeper() -> None:
        log.info("spool.drained")

    with opened(pipe.writing):
        asyncio.run(run())
    inside, outside = pipe.events()
    assert (inside["run_id"], inside["request_id"]) == ("r1", "q1")
    assert "run_id" not in outside


def test_a_field_named_like_one_of_the_head_does_not_replace_it(pipe: Pipe) -> None:
    with opened(pipe.writing):
        log.info("spool.moved", host="other", level=7)
    event = pipe.events()[0]
    assert (event["host"], event["host_"], event["level"], event["level_"]) == ("nas", "other", "info", 7)


def test_the_level_can_be_changed_while_loggers_exist(pipe: Pipe) -> None:
    with opened(pipe.writing, level=Level.WARNING) as opening:
        bound = log.bind(table="cpu_sample")
        bound.info("spool.first")
        opening.level = Level.DEBUG
        bound.debug("spool.second")
        opening.level = Level.ERROR
        bound.warning("spool.third")
    assert [event["event"] for event in pipe.events()] == ["spool.second"]


def test_who_would_tell_much_may_ask_first_whether_it_is_written(pipe: Pipe) -> None:
    assert not journal.writes("critical"), "no journal is open"
    with opened(pipe.writing, level=Level.INFO) as opening:
        assert journal.writes("info")
        assert not journal.writes("debug")
        opening.level = Level.DEBUG
        assert journal.writes("debug")
    assert not journal.writes("critical")


def test_under_systemd_without_the_library_lines_carry_their_priority(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(pipe.writing)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with opened(pipe.writing, form="auto"):
        log.error("spool.full")
        log.info("spool.thinned")
    first, second = pipe.text().splitlines()
    assert first.startswith('<3>{"level":"error"')
    assert second.startswith('<6>{"level":"info"')
    assert "time" not in json.loads(first[3:])


def test_lines_that_do_not_go_to_the_journal_have_no_prefix(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    with opened(pipe.writing, form="auto"):
        log.info("spool.thinned")
    assert pipe.text().startswith('{"level":')


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_shows_readable_lines(
    *, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with opened(theirs, form="auto"):
        log.warning("spool.thinned_again", rows=3, reason="disk full", table="", path="/a=b")
    line = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert ("\x1b[" in line) is coloured
    if not coloured:
        assert line[8:] == ' warning spool thinned again rows=3 reason="disk full" path="/a=b"\n'


def test_a_reader_that_does_not_read_delays_nobody_and_the_loss_is_counted(pipe: Pipe) -> None:
    async def flood() -> None:
        for number in range(5000):
            log.info("spool.thinned", table=f"table {number}", text="x" * 1000)

    with opened(pipe.writing) as opening:
        asyncio.run(asyncio.wait_for(flood(), 10))  # on the loop, under blockbuster; else it would be for ever
        assert opening.dropped > 1000
        events = everything(opening, pipe)
    report = next(event for event in events if event["event"] == "journal.dropped")
    assert report["events"] == opening.dropped
    assert sum(event["event"] == "spool.thinned" for event in events) == 5000 - opening.dropped


def everything(opening: journal.Journal, pipe: Pipe) -> list[dict[str, Any]]:
    text = pipe.text()
    while not opening.flush(0.02):
        text += pipe.text()
    assert opening.flush()
    return [json.loads(line) for line in (text + pipe.text()).splitlines()]


def test_a_reader_that_went_away_costs_events_not_the_process() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with opened(writing) as opening:
        log.info("spool.thinned")
        assert opening.flush()
        assert opening.dropped == 1
    os.close(writing)


def test_a_flood_of_one_event_ends_in_a_line_that_counts_it(pipe: Pipe) -> None:
    with opened(pipe.writing):
        for number in range(BURST + 412):
            log.warning("spool.thinned", rows=number)
    events = pipe.events()
    assert len(events) == BURST + 1
    assert events[-1]["suppressed"] == 412


@pytest.mark.parametrize("form", ["json", "terminal", "journal"])
def test_no_sink_shows_a_secret(form: str, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with opened(pipe.writing, "hunter22", "4711471", form=form, level=Level.DEBUG):
        log.info("spool.login", url="http://u:hunter22@h", deep={"hunter22": [b"hunter22", 4711471]})
        logging.getLogger("aiohttp.server").warning("bad header %s", "hunter22")
        logging.getLogger("asyncio").error("broken %d format", "hunter22")
        try:
            raise ValueError("hunter22 is wrong")
        except ValueError:
            log.exception("spool.refused")
    text = pipe.text()
    assert len(text.splitlines()) >= 4
    assert text.count(MASK) >= 7
    assert "hunter22" not in text
    assert "4711471" not in text


def test_what_libraries_say_takes_the_same_way(pipe: Pipe) -> None:
    with opened(pipe.writing):
        logging.getLogger("aiohttp.server").error("lost\n%s", "peer", exc_info=OSError(32, "Broken pipe"))
        logging.getLogger("apscheduler.scheduler").info("Added job")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old way", DeprecationWarning, stacklevel=1)
    first, second = pipe.events()
    assert (first["component"], first["event"], first["logger"]) == (
        "aiohttp",
        "aiohttp.logged",
        "aiohttp.server",
    )
    assert (first["message"], first["error"]) == ("lost peer", "[Errno 32] Broken pipe")
    assert "old way" in second["message"]


def test_an_exception_is_one_line_that_names_cause_place_and_repair(pipe: Pipe) -> None:
    with opened(pipe.writing):
        try:
            fail()
        except DiskGone:
            log.exception("metrics.failed")
    (event,) = pipe.events()
    assert event["error"] == "The disk sdb does not answer. ([Errno 5] Input/output error)"
    assert event["error_type"] == "DiskGone"
    assert event["repair"] == "smartctl -a /dev/sdb"
    assert event["stack"].startswith("test_journal.py:")
    assert event["stack"].count(" fail") == 4
    assert "traceback" not in event


def test_of_a_group_the_leaves_are_told(pipe: Pipe) -> None:
    group = ExceptionGroup("in a task group", [ExceptionGroup("", [OSError(5, "a")]), ValueError("b")])
    with opened(pipe.writing):
        log.error("agent.failed", exc_info=group)
    (event,) = pipe.events()
    assert event["errors"] == ["[Errno 5] a", "ValueError: b"]


@pytest.mark.parametrize("form", ["json", "terminal"])
def test_only_debug_shows_a_traceback(form: str, pipe: Pipe) -> None:
    with opened(pipe.writing, form=form, level=Level.DEBUG):
        try:
            fail()
        except DiskGone:
            log.exception("metrics.failed")
    text = pipe.text()
    assert "Traceback (most recent call last)" in text
    assert (len(text.splitlines()) > 1) is (form == "terminal")


def test_a_value_without_a_text_does_not_cost_the_event(pipe: Pipe) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with opened(pipe.writing):
        log.error("spool.odd", value=Mute(), exc_info=Mute(), huge=10**5000)
    (event,) = pipe.events()
    assert event["value"] == "<Mute without a text: RuntimeError>"
    assert event["error_type"] == "Mute"


def test_a_thread_that_fails_is_an_event_and_prints_nothing(pipe: Pipe, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(pipe.writing):
        thread = threading.Thread(target=fail, name="prober")
        thread.start()
        thread.join()
    (event,) = pipe.events()
    assert (event["event"], event["thread"], event["error_type"]) == (
        "agent.thread_failed",
        "prober",
        "DiskGone",
    )
    assert capfd.readouterr().err == ""


def test_closed_it_leaves_logging_as_it_was(pipe: Pipe) -> None:
    before = (
        logging.getLogger().handlers[:],
        logging.getLogger().level,
        threading.excepthook,
        sys.excepthook,
    )
    with opened(pipe.writing):
        assert logging.getLogger().handlers != before[0]
    assert (
        logging.getLogger().handlers,
        logging.getLogger().level,
        threading.excepthook,
        sys.excepthook,
    ) == before
    log.error("spool.nobody_listens")
    assert pipe.text() == ""


AT_THE_END = """
from homelab_agent.core import journal
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.settings import LogSettings
journal.open_journal(LogSettings(), host="nas", redactor=Redactor())
for number in range(300):
    journal.logger("spool").info("spool.thinned", table=f"{number}")
raise SystemExit(3) if %s else ValueError("the end")
"""


@pytest.mark.parametrize("orderly", [True, False])
def test_what_happened_before_the_end_is_written(*, orderly: bool) -> None:
    child = subprocess.run(
        [sys.executable, "-c", AT_THE_END % orderly], capture_output=True, text=True, timeout=30, check=False
    )
    events = [json.loads(line) for line in child.stderr.splitlines()]
    assert [event["table"] for event in events[:300]] == [str(number) for number in range(300)]
    assert [event["event"] for event in events[300:]] == ([] if orderly else ["agent.crashed"])
    assert child.returncode == (3 if orderly else 1)


def test_an_interpreter_that_ends_does_not_wait_for_a_reader_that_does_not_read() -> None:
    script = AT_THE_END.replace('f"{number}"', 'f"{number}" * 1000') % True
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as child:
        assert child.wait(timeout=20) == 3


@given(st.dictionaries(st.text(), VALUES))
def test_any_value_becomes_one_line_of_valid_json_within_the_bound(fields: dict[str, Any]) -> None:
    event = {**HEAD, **{f"x{key}": journal_line.plain(value, str) for key, value in fields.items()}}
    line = journal_line.as_json(event)
    assert len(line.encode()) <= journal_line.BYTES_MAX
    assert json.loads(line).items() >= HEAD.items()
    for text in (line, journal_line.as_text(event, colours=False)):
        assert all(unicodedata.category(character) != "Cc" for character in text)


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "x" * 100_000},
        {"text": "\x1b" * 50_000},
        {"list": ["x" * 1000] * 400},
        {f"field{number}": "x" * 100 for number in range(400)},
        {
            "deep": {
                f"a{number}": {f"b{number}": ["\N{SNOWMAN}" * 3000] * 9 for number in range(9)} for number in range(9)
            }
        },
    ],
    ids=["long", "escapes", "list", "many", "deep"],
)
def test_an_event_that_is_too_long_is_cut_and_says_so(fields: dict[str, Any]) -> None:
    line = journal_line.as_json({**HEAD, **fields})
    event = json.loads(line)
    assert len(line.encode()) <= journal_line.BYTES_MAX
    assert event["truncated"] is True
    assert event.items() >= HEAD.items()
    assert set(event) & set(fields)


def test_what_could_play_tricks_on_a_terminal_is_shown_as_its_number() -> None:
    nasty = "\x1b[2J\r\n\x9b31m\u202egnp.exe\x7f"
    for line in (
        journal_line.as_text({**HEAD, "name": nasty, nasty: 1}, colours=False),
        journal_line.as_json({**HEAD, "name": nasty}),
    ):
        assert line.isprintable()


def test_the_message_id_of_an_event_never_changes() -> None:
    assert journal_sink.message_id("spool.thinned") == journal_sink.message_id("spool.thinned")
    assert len(journal_sink.message_id("spool.thinned")) == 32
    assert journal_sink.message_id("spool.thinned") == "7974039bc3ea5ac0b00d1ece9f00b2c9"


# The native path. The library knows one address only, so these run in a mount namespace of their own.

NATIVE = Path(__file__).with_name("native_journal.py")


@pytest.fixture
def in_a_namespace() -> Callable[[str], str]:
    if os.geteuid() != 0:
        pytest.skip("a mount namespace of one's own needs root")
    if subprocess.run([sys.executable, "-c", "import systemd.journal"], capture_output=True, check=False).returncode:
        pytest.skip("systemd-python is not installed: pip install 'homelab-agent[systemd]'")

    def run(what: str) -> str:
        command = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && exec "$0" "$1" "$2"'
        child = subprocess.run(
            ["unshare", "--mount", "sh", "-c", command, sys.executable, str(NATIVE), what],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return child.stdout

    return run


def test_under_systemd_the_journal_gets_fields(in_a_namespace: Callable[[str], str]) -> None:
    entry = json.loads(in_a_namespace("fields"))
    message = json.loads(entry.pop("MESSAGE"))
    assert entry == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "homelab-agent",
        "MESSAGE_ID": journal_sink.message_id("spool.thinned"),
        "HOMELAB_COMPONENT": "spool",
        "HOMELAB_EVENT": "spool.thinned",
        "HOMELAB_RUN_ID": "r1",
    }
    assert message["rows"] == 3
    assert message["text"] == "a\nb"
    assert "time" not in message


def test_a_journald_that_hangs_does_not_stop_the_process(in_a_namespace: Callable[[str], str]) -> None:
    said = json.loads(in_a_namespace("hanging"))
    assert said["ticks"] >= 20
    assert said["dropped"] > 0
    assert said["received"] + said["dropped"] == said["sent"]


def test_without_journald_events_go_to_stderr(in_a_namespace: Callable[[str], str]) -> None:
    said = json.loads(in_a_namespace("absent"))
    assert said["line"].startswith('<6>{"level":"info"')


@pytest.mark.skipif(not Path("/lib/systemd/systemd-journald").exists(), reason="no systemd-journald on this host")
def test_a_real_journald_shows_the_event(in_a_namespace: Callable[[str], str]) -> None:
    (entry,) = json.loads(in_a_namespace("journald"))
    assert entry["HOMELAB_EVENT"] == "spool.thinned"
    assert entry["PRIORITY"] == "4"
    assert json.loads(entry["MESSAGE"])["rows"] == 3
