"""What GitOps tells PostgreSQL has a column, and every column is told."""

from __future__ import annotations

import re
from pathlib import Path

from homelab_agent.core.clock import EPOCH, SystemClock
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.gitops import inbox as inbox_module
from homelab_agent.gitops.delivery import Delivery, Verdict
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.moves import Moves
from homelab_agent.gitops.selection import Sync
from tests.website import SCHEMAS

SCHEMA = Path(inbox_module.__file__).parent / "schema"


def tables() -> dict[str, tuple[set[str], tuple[str, ...]]]:
    """Return the columns and the key of each table."""
    sql = re.sub(r"--.*", "", (SCHEMA / "0001_gitops.sql").read_text())
    found = {}
    for name, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\);", sql, re.DOTALL):
        lines = [line.strip() for line in body.strip().splitlines() if line.strip()]
        key = re.fullmatch(r"PRIMARY KEY \((.*)\)", lines[-1])
        assert key is not None
        found[name] = ({line.split()[0] for line in lines[:-1]}, tuple(key[1].split(", ")))
    return found


async def test_rows_and_tables_have_the_same_columns_and_keys(tmp_path: Path) -> None:
    clock = SystemClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 20, max_age=60.0)
    inbox = Inbox(state, spool, clock, host="attic", max_bytes=1 << 20)
    moves = Moves(state, spool, clock, host="attic")
    delivery = Delivery(
        "guid-0001", "push", "refs/heads/main", "", {}, b"", b"", "main", frozenset({"homelab"}), "", EPOCH
    )
    await inbox.accept(delivery, Sync("homelab"))
    await inbox.close([(one, Verdict("ok")) for one in await inbox.open_attempts("homelab")])
    move = await moves.begin("homelab", "", "a")
    await moves.begin_action(move, 1, "web")
    await moves.end_action(move, 1, "ok")
    await moves.end(move, "ok")
    batch = await spool.take()
    assert batch is not None
    assert {row.table: (set(row.values), row.key) for row in batch.rows} == tables()
    await spool.close()
    await state.close()
