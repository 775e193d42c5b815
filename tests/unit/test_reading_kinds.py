"""A source whose library is missing keeps nothing else from running, and says what to install."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import Exit
from homelab_agent.core.http import BadRequest
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.reading import kinds, mongodb, proof, verify
from homelab_agent.reading.order import BeyondIds, Order
from homelab_agent.reading.settings import ReadingSettings, ReadingSource
from homelab_agent.reading.source import NoDriver
from homelab_agent.reading.verify import WindowFaulty

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["mongodb", "feed"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "find_spec", lambda _: None)
    settings = ReadingSource.model_validate({"name": "one", "kind": kind, "url": "https://example.org"})
    source = kinds.make(settings, ReadingSettings(), Secrets(Redactor()), SystemClock())
    with pytest.raises(NoDriver) as caught:
        source.open()
    [wanted] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][kind]
    assert caught.value.repair == f"{sys.executable} -m pip install '{wanted}'"
    assert caught.value.exit_code == Exit.FAILED


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"since": "2026-11-01"},
        {"since": "2026-11-01T12:00:00+02:00", "until": "2026-12-01", "source": "atlas", "dry_run": True},
    ],
)
def test_what_is_asked_for_reaches_the_run_whole(body: dict[str, object]) -> None:
    order = Order.asked(body)
    assert Order.of_options(order.options()) == order
    assert (order.stream == "sync") == ("since" not in body)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"sincce": "2026-11-01"},
        {"since": "soon"},
        {"since": 5},
        {"since": "2026-11-02", "until": "2026-11-01"},
        {"source": 1},
        {"dry_run": "yes"},
    ],
)
def test_what_makes_no_sense_is_refused(body: object) -> None:
    with pytest.raises(BadRequest):
        Order.asked(body)


@pytest.mark.parametrize(
    "body",
    [
        {"since": "1960-01-01"},
        {"since": "1969-12-31T23:59:59"},
        {"until": "2106-02-08"},
        {"since": "1970-01-01T00:00:00+02:00"},
    ],
)
def test_a_window_beyond_what_ids_hold_is_refused_with_a_repair(body: dict[str, str]) -> None:
    with pytest.raises(BeyondIds) as caught:
        Order.asked(body)
    [(key, given)] = body.items()
    assert str(caught.value) == f"No window goes as far as {key} {given}. (the ids of documents hold no other times)"
    assert caught.value.repair == f"name a day from 1970-01-01 to 2106-02-07, or leave {key} out"


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_the_calendar_is_refused(given: str) -> None:
    with pytest.raises(BadRequest):
        Order.asked({"since": given})


def test_the_longest_window_can_be_asked_for_and_proven() -> None:
    order = Order.asked({"since": "1970-01-01", "until": "2106-02-07"})
    assert order.window is not None
    bounds = mongodb._of(order.window)["_id"]
    assert (str(bounds["$gte"]), str(bounds["$lt"])) == ("0" * 24, f"{0xFFFFFFFF // 86400 * 86400:08x}" + "0" * 16)
    last = "f" * 24
    day = proof.day_of(last)
    assert "$lt" not in mongodb._of(proof.window(day, day))["_id"]
    first, end = proof._keys(day, day)
    assert first <= last < end


def test_a_window_is_a_day_several_or_those_without_a_time() -> None:
    assert verify.days_of("2026-11-28") == ["2026-11-28"]
    assert verify.days_of("2026-11-29..2026-12-01") == ["2026-11-29", "2026-11-30", "2026-12-01"]
    assert verify.days_of("other") == ["other"]
    for text in ("", "november", "2026-12-01..2026-11-01", "1969-12-31", "2026-01-01..2106-02-08"):
        with pytest.raises(WindowFaulty):
            verify.days_of(text)
