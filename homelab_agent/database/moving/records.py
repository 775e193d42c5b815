"""Tables that are no series: each is compared row by row, by a hash of its content, and made to be as the source's is.

Rows that others have in the target stay. What the move has brought is noted there, so that a row which is deleted in
the source meanwhile goes there too, and no other one.
"""

# ruff: noqa: S608 - names come from the catalogue

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from homelab_agent.database.insert import quoted
from homelab_agent.database.moving import pipe
from homelab_agent.database.moving.side import Side, Table


@dataclass(frozen=True, slots=True)
class Notes:
    """What one host's move has brought: tables of keys in a `schema` of the target's that lasts as long as the move."""

    schema: str

    @classmethod
    def of(cls, host: str) -> Notes:
        """Return those of a host: several may move to one target."""
        return cls(f"homelab_move_{hashlib.sha256(host.encode()).hexdigest()[:12]}")

    async def begin(self, target: Side) -> None:
        """Make where it is noted."""
        await target.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self.schema}")

    async def forget(self, target: Side) -> None:
        """Remove what was noted: the move is over."""
        await target.connection.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    async def mirror(self, source: Side, target: Side, table: Table) -> tuple[int, int]:
        """Have the target hold each row of the source as it is there; return how many there are, and how many were not.

        All of it in one transaction.
        """
        connection, note, same = target.connection, f"{self.schema}.{quoted(table.name)}", _same(table)
        async with connection.transaction():
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {note} AS SELECT {_keys(table)} FROM {table.target} WITH NO DATA"
            )
            await _see(source, target, table)
            await connection.execute(
                f"DELETE FROM {table.target} AS old USING {note} AS note WHERE {same.replace('new.', 'note.')}"
                f" AND NOT EXISTS (SELECT FROM move_seen AS new WHERE {same})"
            )
            held, differing = await _compare(target, table)
            if differing:
                await _copy(source, target, table)
            await connection.execute(
                f"TRUNCATE {note}; INSERT INTO {note} SELECT {_keys(table)} FROM move_seen; DROP TABLE move_seen"
            )
        return held, differing


async def differing(source: Side, target: Side, table: Table) -> tuple[int, int]:
    """Return how many rows the source has, and how many of them the target has not; change nothing."""
    undo = target.connection.transaction()
    await undo.start()
    try:
        await _see(source, target, table)
        return await _compare(target, table)
    finally:
        await undo.rollback()


async def _see(source: Side, target: Side, table: Table) -> None:
    """Bring each row's key and hash to a temporary table."""
    keys = _keys(table)
    await target.connection.execute(
        f"CREATE TEMPORARY TABLE move_seen ON COMMIT DROP AS"
        f" SELECT {keys}, ''::text AS move_hash FROM {table.target} WITH NO DATA"
    )
    query = f"SELECT {keys}, {_hash(table)} FROM {table.target} AS old"
    columns = [*table.key, "move_hash"]
    await pipe.pour(source.connection, query, (), target.connection, "pg_temp.move_seen", columns)
    await target.connection.execute("ANALYZE move_seen")


async def _compare(target: Side, table: Table) -> tuple[int, int]:
    row = await target.connection.fetchrow(
        f"SELECT count(*) AS held, count(*) FILTER (WHERE old.{quoted(table.key[0])} IS NULL"
        f" OR {_hash(table)} <> new.move_hash) AS differing"
        f" FROM move_seen AS new LEFT JOIN {table.target} AS old ON {_same(table)}"
    )
    assert row is not None  # noqa: S101 - it counts, so it has an answer
    return row["held"], row["differing"]


async def _copy(source: Side, target: Side, table: Table) -> None:
    """Bring all rows; one that is there with other content becomes as it is in the source, which goes on living."""
    columns = list(table.columns)
    listed = ", ".join(quoted(each) for each in columns)
    staged = await pipe.stage(target.connection, table.target, columns)
    query = f"SELECT {listed} FROM {table.target}" + (f" ORDER BY {quoted(table.counts)}" if table.counts else "")
    await pipe.pour(source.connection, query, (), target.connection, staged, columns)
    rest = [quoted(each) for each in columns if each not in table.key]
    otherwise = "NOTHING"
    if rest:
        changed = ", ".join(f"{each} = excluded.{each}" for each in rest)
        old, new = (", ".join(f"{side}.{each}" for each in rest) for side in ("old", "excluded"))
        otherwise = f"UPDATE SET {changed} WHERE ROW({old})::text <> ROW({new})::text"
    await target.connection.execute(
        f"INSERT INTO {table.target} AS old ({listed}) SELECT {listed} FROM {staged}"
        f" ON CONFLICT ({_keys(table)}) DO {otherwise}"
    )


def _hash(table: Table) -> str:
    """Return what hashes a row alike on every version and machine."""
    return f"md5(ROW({', '.join(f'old.{quoted(each)}' for each in table.columns)})::text)"


def _keys(table: Table) -> str:
    return ", ".join(quoted(each) for each in table.key)


def _same(table: Table) -> str:
    return " AND ".join(f"old.{quoted(each)} = new.{quoted(each)}" for each in table.key)
