"""Who fails at work is begun again, and says how it goes then."""

from __future__ import annotations

import asyncio

from homelab_agent.core.health import Finding
from homelab_agent.notify.staff import AGAIN_SECONDS, Staff
from tests.clock import MovableClock, until


class Once:
    """Fails once, then works and reports nothing of itself."""

    check = "notify.heartbeat.jobs"

    def __init__(self) -> None:
        self.begun = 0

    async def run(self) -> None:
        """Work."""
        self.begun += 1
        if self.begun == 1:
            raise RuntimeError("a fault")
        await asyncio.Event().wait()

    def finding(self) -> Finding:
        """Say how it goes."""
        return Finding.ok("runs are told of")


async def test_who_is_begun_again_is_well_again() -> None:
    clock, worker = MovableClock(), Once()
    found: list[tuple[str, Finding]] = []
    staff = Staff(clock, lambda check, finding: found.append((check, finding)))
    staff.employ([worker])
    task = asyncio.ensure_future(staff.run())
    try:
        await until(lambda: clock.sleepers, "it has failed")
        assert [one.state for _, one in found] == ["failed"]
        await clock.advance(AGAIN_SECONDS)
        await until(lambda: worker.begun == 2, "it is begun again")
        assert found[1:] == [(worker.check, worker.finding())]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
