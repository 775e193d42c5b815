"""Openings and holds arrive in PostgreSQL, each once, on every edition."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from tests.clock import MovableClock, until
from tests.gate_life import NOBODY, SOME, living
from tests.neighbours.postgres import Postgres
from tests.shipping import shipping


async def test_openings_arrive(any_postgres: Postgres, tmp_path: Path) -> None:
    clock = SystemClock()
    async with living(tmp_path / "state", clock) as life:
        first = await life.ledger.begin("ready at 3 looks in a row")
        await life.ledger.end("not ready: a\0b", SOME, checks=["state", "web"])
        second = await life.ledger.begin("ready")
        await life.ledger.end("held by ann", NOBODY)
        await life.ledger.begin("it lasts")

        async with shipping(any_postgres.url, tmp_path, life.spool, clock) as database:
            await until(lambda: not life.spool.status().rows_disk, "all rows have arrived")
            rows = await database.fetch("SELECT * FROM gate_exposure ORDER BY opened_at")
            assert [(str(row["id"]), row["opened_at"], row["host"]) for row in rows] == [
                (first.id, first.opened_at, "attic"),
                (second.id, second.opened_at, "attic"),
            ]
            assert (rows[0]["closed_why"], rows[0]["checks"]) == ("not ready: ab", "state, web")
            assert (rows[0]["requests"], rows[0]["sources"], rows[0]["sent_bytes"]) == (12, 3, 4096)
            [known] = [one for one in await life.ledger.newest(9) if one.id == first.id]
            assert (rows[0]["closed_at"], rows[0]["seconds"]) == (known.closed_at, known.seconds)
            assert life.spool.status().rejected == 0


async def test_holds_arrive_with_who_why_and_how_long(any_postgres: Postgres, tmp_path: Path) -> None:
    clock = MovableClock()
    now = clock.read().wall
    async with living(tmp_path / "state", clock) as life:
        await life.intent.hold(who="ann", why="an upgrade", until=now + timedelta(hours=2))
        clock.hang(60)
        await life.intent.hold(who="bob", why="a\0b", until=now + timedelta(hours=1))
        clock.hang(7200)
        await life.intent.hold(who="ann", why="for good", until=None)
        clock.hang(60)
        await life.intent.release(who="bob")
        clock.hang(60)
        await life.intent.hold(who="eve", why="it lasts", until=None)

        async with shipping(any_postgres.url, tmp_path, life.spool, SystemClock()) as database:
            await until(lambda: not life.spool.status().rows_disk, "all rows have arrived")
            rows = await database.fetch("SELECT * FROM gate_hold ORDER BY held_at")
            lasted = [row["ended_at"] and round((row["ended_at"] - row["held_at"]).total_seconds()) for row in rows]
            assert [(row["who"], row["why"]) for row in rows] == [
                ("ann", "an upgrade"),
                ("bob", "ab"),
                ("ann", "for good"),
                ("eve", "it lasts"),
            ]
            assert lasted == [60, 3540, 60, None]
            assert life.spool.status().rejected == 0
