"""Disks' own health, from the root half to the real agent's metrics; smartctl is a stand-in: no disk here has any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent import Agent
from tests.disks import ASLEEP, ata, attribute, nvme, stand_in
from tests.waiting import until


def disks() -> list[str]:
    """Return this host's disks with a device behind them."""
    names = sorted(path.name for path in Path("/sys/block").iterdir() if (path / "device").exists())
    return [name for name in names if not name.startswith(("loop", "ram", "zram", "fd", "sr", "nbd"))]


@pytest.mark.timeout(120)
def test_a_disk_that_cannot_read_sectors_is_a_need_and_a_metric(agent: Agent, tmp_path: Path) -> None:
    first, *others = disks()
    answers = {first: (0, ata(attribute(197, "Current_Pending_Sector", 7))), **dict.fromkeys(others, (ASLEEP, nvme()))}
    stand_in(tmp_path / "bin", answers)
    agent.env["PATH"] = f"{tmp_path / 'bin'}:{agent.env['PATH']}"
    agent.write("slow_interval = 1\n")
    agent.start()
    finding = agent.until("metrics.disks", "degraded")
    assert finding["detail"] == f"{first} (A Disk 14TB): 7 sectors cannot be read"
    assert f"smartctl -x /dev/{first}" in finding["repair"]
    until(
        lambda: f'homelab_agent_disk_pending_sectors{{device="{first}"}} 7' in agent.get("/metrics")[1].decode(),
        "the metric",
    )
