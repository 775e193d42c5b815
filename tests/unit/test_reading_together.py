"""How a run over several sources ended, as a whole."""

from __future__ import annotations

from homelab_agent.reading.sync import Ended, together
from homelab_agent.reading.tally import Tally

OK, FAILED = Ended("one", "ok", Tally(inserted=1), ""), Ended("two", "failed", Tally(), "it is away")


def test_it_is_ok_when_every_source_was() -> None:
    assert together([OK, OK])[0] == "ok"
    assert together([OK, FAILED])[0] == "partial"
    assert together([FAILED])[0] == "failed"


def test_it_is_not_ok_when_it_did_not_come_to_a_source() -> None:
    status, said, _ = together([OK], left_out=["three"])
    assert status == "partial"
    assert "three: not begun" in said
    assert together([], left_out=["three"])[0] == "partial"


def test_what_is_there_already_is_no_progress() -> None:
    assert Tally(duplicate=1000, skipped=10).progress == 0
    assert Tally(inserted=1, rejected=1, marked=1).progress == 3
