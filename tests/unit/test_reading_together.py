"""How a run over several sources ended, as a whole."""

from __future__ import annotations

from contextlib import nullcontext

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.jobs import Progress, Run
from homelab_agent.database import pool
from homelab_agent.reading import service
from homelab_agent.reading.advance import Advance
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


def test_sources_at_work_leave_connections_to_others() -> None:
    assert service.AT_ONCE <= pool.SIZE_MAX - 2


def test_the_progress_of_a_run_is_that_of_all_its_sources() -> None:
    told: list[Progress] = []
    run = Run("1", "sync", "command", on_progress=told.append, on_line=print, on_use=lambda _: nullcontext())
    advance = Advance(run, SystemClock())
    advance.tell("atlas", 10, 100)
    advance.tell("pocket", 5, 50)
    advance.tell("atlas", 20, 100)
    assert [(one.done, one.total) for one in told] == [(10, 100), (15, 150), (25, 150)]
    assert told[-1].note.startswith("of atlas, pocket, ")
    advance.tell("feed", 3, None)
    assert (told[-1].done, told[-1].total) == (28, None)
