"""The check "database.shipping": how long rows wait, whatever is done to the clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Finding, State
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.spool import Row
from homelab_agent.database import service
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.reconfiguring import Configuration
from tests.clock import MovableClock
from tests.unit.test_metrics_service import base as without_database

__all__ = ["without_database"]


@pytest.fixture
def base(without_database: Foundation, tmp_path: Path) -> Foundation:
    """Give a foundation whose PostgreSQL is not reached."""
    clock = without_database.clock
    database = Database(DatabaseSettings(), Secrets(Redactor()), directory=tmp_path, clock=clock)
    return replace(without_database, database=database)


async def found(base: Foundation) -> Finding:
    capability = service.build(DatabaseSettings(), base, Configuration(None))
    [check] = [one for one in capability.checks if one.name == "database.shipping"]
    assert check.probe is not None
    return await check.probe()


async def test_a_clock_that_was_set_makes_no_row_late_and_hides_none(base: Foundation) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    assert (await found(base)).detail == "rows shipped: 0, none wait"
    await base.spool.put([Row("cpu_sample", ("id",), {"id": 1}, clock.read().wall)])
    clock.step(86400)
    assert await found(base) == Finding.ok("1 rows wait, the oldest for 0 s")
    clock.step(-2 * 86400)
    await clock.advance(200)
    late = await found(base)
    assert late.state is State.DEGRADED
    assert late.detail.startswith("1 rows wait, the oldest for 200 s: ")
