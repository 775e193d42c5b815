"""What the gate tells PostgreSQL has a column, and every column is told."""

from __future__ import annotations

import re
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.gate import ledger as ledger_module
from tests.gate_life import NOBODY, living

SCHEMA = Path(ledger_module.__file__).parent / "schema"


async def test_an_opening_and_its_table_have_the_same_columns_and_key(tmp_path: Path) -> None:
    sql = re.sub(r"--.*", "", (SCHEMA / "0001_gate.sql").read_text())
    [(name, body)] = re.findall(r"CREATE TABLE (\w+) \((.*?)\n\);", sql, re.DOTALL)
    *columns, last = [line.strip() for line in body.strip().splitlines() if line.strip()]
    key = re.fullmatch(r"PRIMARY KEY \((.*)\)", last)
    assert key is not None
    async with living(tmp_path, SystemClock()) as life:
        await life.ledger.begin("ready")
        await life.ledger.end("shut", NOBODY)
        [row] = await life.rows()
    assert row.table == name
    assert list(row.values) == [column.split()[0] for column in columns]
    assert row.key == tuple(key[1].split(", "))
