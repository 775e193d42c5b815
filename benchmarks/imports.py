"""A table of the time before is imported: rows a second, and what the command holds in memory; 100,000 rows.

The peer, on the same server: PostgreSQL's own `INSERT ... SELECT` of the same payloads into one of our tables, without
counters' rates, other times for rows of one second, joining, counting, or a mark to go on from.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.agent import Agent
from tests.before import KINDS, connected, seed, target
from tests.neighbours import postgres, postgres_kinds
from tests.neighbours.postgres import Postgres

POINTS = 25_000
DAYS = {"samples that are kept": 20, "samples that only hours and days are kept of": 400}
COPIED = """
CREATE TABLE public.peer (LIKE homelab.filesystem_sample INCLUDING ALL);
INSERT INTO public.peer (entity_id, time, size_bytes, used_bytes, available_bytes, used_pct)
    SELECT hashtext(host || mount), time, (one ->> 'total')::numeric, (one ->> 'used')::numeric,
           (one ->> 'free')::numeric, (one ->> 'used_percent')::real
      FROM public.system_metrics, jsonb_each(payload) AS said (mount, one) WHERE metric_type = 'disk'
"""


def run(*, minutes: float) -> None:
    """Import the same rows at two ages, each into an empty database."""
    del minutes
    for what, days in DAYS.items():
        with (
            postgres.running(postgres_kinds.WHEEL) as server,
            tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name,
        ):
            Path(name).chmod(0o755)
            agent = target(Path(name) / "agent", server)
            peer = asyncio.run(_fill(server, days))
            report, used = _import(agent)
            rows = POINTS * KINDS
            assert report["imported"] == rows, report
            print(
                f"{rows} rows, {what}: {rows / report['seconds']:,.0f} rows/s,"
                f" {used.ru_utime + used.ru_stime:.1f} s CPU of ours, {used.ru_maxrss / 1024:.0f} MiB at most;"
                f" PostgreSQL's own INSERT of the disks' quarter: {POINTS / peer:,.0f} rows/s"
            )


async def _fill(server: Postgres, days: int) -> float:
    """Make the table; return how many seconds the peer took."""
    connection = await connected(server)
    try:
        await seed(connection, datetime.now(UTC) - timedelta(days=days), timedelta(minutes=1), POINTS)
        began = time.monotonic()
        await connection.execute(COPIED)
        return time.monotonic() - began
    finally:
        await connection.close()


def _import(agent: Agent) -> tuple[dict[str, Any], resource.struct_rusage]:
    """Run the command; return what it says, and what it took."""
    with subprocess.Popen(
        agent.command("db", "import-reference", "--json"), env=agent.env, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return json.loads(said), used
