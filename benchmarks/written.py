"""What is written to the disk in a day at rest, without a profile and with each: all of it, below the file system.

Agents with an embedded PostgreSQL run side by side, each on an ext4 of its own, whose device counts. A day is put
together of what was counted: what goes on all the time, in the second half of the window; what a checkpoint adds (its
own writes, and the full pages that the log of changes has after it), as often as there is one; a roll-up each hour, the
first after a checkpoint and others; and what the tables grow, which the checkpoints write that were not in the window.
Not in it is what the log has of an hour's minutes, as a roll-up is measured that makes those of half the window.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import process
from homelab_agent import config
from homelab_agent.config.profile import PROFILES
from tests import agent as agents
from tests.neighbours import disk
from tests.waiting import until

WARM_UP_SECONDS = 60.0
DAY_SECONDS = 86400.0
_SIZE = "SELECT pg_database_size(current_database()) AS answer"


@dataclass(slots=True)
class Measured:
    """One agent, and what was counted of its disk: in bytes."""

    name: str
    ours: agents.Agent
    point: Path
    checkpoint_every: float
    marks: list[int]
    sizes: list[int]

    def mark(self) -> None:
        """Note what was written until now."""
        os.sync()
        device = self.point.stat().st_dev
        sectors = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[6]
        self.marks.append(int(sectors) * 512)

    def ask(self, query: str) -> str:
        """Ask its PostgreSQL."""
        done = self.ours.run("db", "psql", "-qAtX", "-c", query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def roll(self) -> None:
        """Have it do what it does each hour."""
        assert self.ours.run("jobs", "run", "database.rollups").returncode == 0

    def size(self) -> None:
        """Note how large the database is."""
        self.sizes.append(int(self.ask(_SIZE)))


def run(*, minutes: float) -> None:
    """Let all of them be at rest for `minutes`, then print what a day of each comes to."""
    with ExitStack() as stack:
        found = [_started(stack, name) for name in ("none", *PROFILES)]
        time.sleep(WARM_UP_SECONDS)
        for one in found:
            # A day old: its files of the log of changes were used before.
            for _ in range(4):
                one.ask("SELECT pg_switch_wal(); CREATE TEMPORARY TABLE x (); CHECKPOINT")
            one.roll()
            one.ask("CHECKPOINT")
            one.size()
        _mark(found)
        for _ in range(2):
            time.sleep(minutes * 30)
            _mark(found)
            for one in found:
                one.roll()
            _mark(found)
        for one in found:
            one.ask("CHECKPOINT")
            one.size()
        _mark(found)
        for one in found:
            _print(one, minutes * 60)


def _started(stack: ExitStack, name: str) -> Measured:
    point = stack.enter_context(disk.ext4(megabytes=1024)).point
    ours = stack.enter_context(agents.running(point / "agent"))
    ours.config.write_text(
        f'[agent]\nstate = "{ours.state}"\nprofile = "{name}"\n[web]\nlisten = "127.0.0.1:{ours.port}"\n'
    )
    every = config.load(ours.config, {}).settings.database.checkpoint_every
    ours.start()
    until(ours.connected, "PostgreSQL runs", seconds=60)
    return Measured(f"profile {name}", ours, point, every, [], [])


def _mark(found: Sequence[Measured]) -> None:
    for one in found:
        one.mark()


def _print(one: Measured, seconds: float) -> None:
    counted = [after - before for before, after in zip(one.marks, one.marks[1:], strict=False)]
    first, rollup_after, second, rollup, checkpoint = counted
    often = DAY_SECONDS / one.checkpoint_every
    parts = {
        "at all times": second / (seconds / 2) * DAY_SECONDS,
        "checkpoints": (max(first - second, 0) + checkpoint) * often,
        "rolling up": rollup_after * often + rollup * (24 - often),
        "tables": max(one.sizes[-1] - one.sizes[0], 0) / seconds * max(DAY_SECONDS - often * seconds, 0),
    }
    note = ", ".join(f"{what} {size / 2**20:.0f}" for what, size in parts.items())
    process.figure(f"{one.name}: written a day", sum(parts.values()) / 2**20, "MB", note=f"{note}; counted {counted}")
