"""What the gate tells PostgreSQL has a column, and every column is told."""

from __future__ import annotations

import re
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.spool import Row
from homelab_agent.gate import ledger as ledger_module
from tests.gate_life import NOBODY, living

SCHEMA = Path(ledger_module.__file__).parent / "schema"


def tables() -> dict[str, tuple[list[str], tuple[str, ...]]]:
    """Return the columns and the key of each table."""
    sql = "".join(re.sub(r"--.*", "", file.read_text()) for file in sorted(SCHEMA.glob("0*.sql")))
    found = {}
    for name, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\);", sql, re.DOTALL):
        *columns, last = [line.strip() for line in body.strip().splitlines() if line.strip()]
        key = re.fullmatch(r"PRIMARY KEY \((.*)\)", last)
        assert key is not None
        found[name] = [column.split()[0] for column in columns], tuple(key[1].split(", "))
    return found


async def test_what_is_told_and_its_table_have_the_same_columns_and_key(tmp_path: Path) -> None:
    told: dict[str, Row] = {}
    async with living(tmp_path, SystemClock()) as life:
        await life.ledger.begin("ready")
        await life.ledger.end("shut", NOBODY)
        await life.intent.hold(who="ann", why="an upgrade", until=None)
        for name in tables():
            [told[name]] = await life.rows(name)
    assert {name: (list(row.values), row.key) for name, row in told.items()} == tables()
