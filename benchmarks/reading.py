"""A sync of 20,000 documents, beside reading, inserting and marking them alone with the same libraries and servers.

Beside it the reference's method: one INSERT and one update for each document. At FerretDB each mark looks through all
of the collection, which MongoDB does not; so all is measured at the stand-in, too, which finds documents by their ids.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from pymongo import AsyncMongoClient

from benchmarks import process
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.reading import kinds
from homelab_agent.reading.settings import ReadingSettings, ReadingSource
from tests.neighbours import mongodb, op_msg, postgres, postgres_kinds
from tests.neighbours.ports import free_port, listens
from tests.neighbours.server import Server
from tests.reading import articles, reached

DOCUMENTS = 20_000
ONE_BY_ONE = 1000
BATCH = 500
FEW, MANY = 1000, 200_000
INSERT = """
INSERT INTO public.peer
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[])
    ON CONFLICT DO NOTHING
"""
MADE = """
DROP TABLE IF EXISTS public.peer;
CREATE TABLE public.peer (mongo_id text PRIMARY KEY, event_timestamp timestamptz, source text, event_type text,
                          payload text, meta text)
"""


def run(*, minutes: float) -> None:
    """Measure at the stand-in and at FerretDB, then how much memory grows."""
    del minutes
    with (
        postgres.running(postgres_kinds.WHEEL) as server,
        tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name,
    ):
        with _stand_in(Path(name), DOCUMENTS) as url:
            _compare("stand-in", url, "reading", server, Path(name))
        with _ferretdb() as (url, database):
            _compare("FerretDB", url, database, server, Path(name))
        grown = []
        for count in (FEW, MANY):
            server.psql("TRUNCATE homelab.reading_analytics, homelab.reading_rejected")
            with _stand_in(Path(name), count) as url:
                argv = [sys.executable, "-m", "benchmarks.reading", "sync", url, server.url]
                grown.append(json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout))
        process.figure(f"{MANY} documents", MANY / grown[1]["seconds"], "documents/s")
        process.figure(f"memory grown from {FEW} to {MANY} documents", grown[1]["mb"] - grown[0]["mb"], "MB", bound=20)


def _compare(what: str, url: str, database: str, server: postgres.Postgres, directory: Path) -> None:
    alone = asyncio.run(_alone(url, database, server.url))
    for part, seconds in alone.items():
        process.figure(f"{what}, peer: {part}", seconds, "s")
    ours = asyncio.run(_sync(url, database, server.url, directory))
    reading = alone["read alone"] + alone["insert alone, by unnest"]
    process.figure(f"{what}: {DOCUMENTS} documents synced and proven", ours, "s")
    process.figure(f"{what}: beside reading and inserting alone", ours / reading, "x", bound=1.5)
    process.figure(f"{what}: beside reading, inserting and marking alone", ours / (reading + alone["mark alone"]), "x")


async def _alone(url: str, database: str, postgres_url: str) -> dict[str, float]:
    """Return how long each step takes with nothing but the libraries; all documents are as before afterwards."""
    found = {}
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(MADE)
    async with AsyncMongoClient[dict[str, Any]](url, retryWrites=False, tz_aware=True) as client:
        collection = client[database].articles
        began = time.monotonic()
        read = [one async for one in collection.find({"status": "ingested"}, batch_size=BATCH).sort("_id", 1)]
        found["read alone"] = time.monotonic() - began
        rows = [_row(one) for one in read]
        began = time.monotonic()
        for batch in _cut(rows):
            await connection.execute(INSERT, *map(list, zip(*batch, strict=True)))
        found["insert alone, by unnest"] = time.monotonic() - began
        ids = [one["_id"] for one in read]
        began = time.monotonic()
        for batch in _cut(ids):
            wanted = {"_id": {"$in": batch}, "status": "ingested"}
            await collection.update_many(wanted, {"$set": {"status": "processed", "processed_at": datetime.now(UTC)}})
        found["mark alone"] = time.monotonic() - began
        await collection.update_many({"status": "processed"}, {"$set": {"status": "ingested"}})
        await connection.execute("TRUNCATE public.peer")
        began = time.monotonic()
        for one, row in zip(read[:ONE_BY_ONE], rows, strict=False):
            await connection.execute("INSERT INTO public.peer VALUES ($1, $2, $3, $4, $5, $6)", *row)
            await collection.update_one({"_id": one["_id"]}, {"$set": {"status": "processed"}})
        each = (time.monotonic() - began) / ONE_BY_ONE
        found[f"one by one, {1 / each:.0f} documents/s: {DOCUMENTS} would take"] = each * DOCUMENTS
        await collection.update_many({"status": "processed"}, {"$set": {"status": "ingested"}})
    await connection.close()
    return found


async def _sync(url: str, database: str, postgres_url: str, directory: Path) -> float:
    settings = ReadingSource(name="bench", url=url, database=database)
    source = kinds.make(settings, ReadingSettings(batch=BATCH), Secrets(Redactor()), SystemClock())
    async with reached(postgres_url, directory, source, settings) as home:
        began = time.monotonic()
        ended = await home.sync()
        took = time.monotonic() - began
        assert ended.status == "ok", ended
        await home.rows("TRUNCATE reading_analytics")
        return took


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    return (
        str(one["_id"]),
        one["event_timestamp"],
        one["source"],
        one["event_type"],
        json.dumps(one["payload"]),
        json.dumps(one["meta"]),
    )


def _cut(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(found), BATCH):
        yield found[first : first + BATCH]


@contextmanager
def _ferretdb() -> Iterator[tuple[str, str]]:
    with mongodb.started() as server, server.emptied():
        server.insert([*articles(DOCUMENTS)])
        user, _, rest = server.url.removeprefix("mongodb://").partition("@")
        yield f"mongodb://{user}:{mongodb.quoted(server.password)}@{rest}", server.database


@contextmanager
def _stand_in(directory: Path, count: int) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.reading", "serve", str(port), str(count)]
    server = Server("the stand-in", argv, ready=lambda: listens(port), log=directory / "stand-in.log")
    try:
        server.start(seconds=60)
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true"
    finally:
        server.close()


async def _serve(port: int, count: int) -> None:
    server = op_msg.StandIn()
    server.port = port
    server.insert([*articles(count)])
    await server.start()
    await asyncio.Event().wait()


def main(words: Sequence[str]) -> None:
    """Be the stand-in, or sync from it and print how long that took and how much memory."""
    match words:
        case ["serve", port, count]:
            asyncio.run(_serve(int(port), int(count)))
        case ["sync", url, postgres_url]:
            with tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name:
                seconds = asyncio.run(_sync(url, "reading", postgres_url, Path(name)))
            print(json.dumps({"seconds": seconds, "mb": _most_megabytes()}))
        case _:
            raise SystemExit(2)


def _most_megabytes() -> float:
    """Return the most that was resident; getrusage counts what the parent had before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(line)


if __name__ == "__main__":
    main(sys.argv[1:])
