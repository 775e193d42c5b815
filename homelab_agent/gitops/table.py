"""The tables of deliveries and attempts in state.db; every function is a State's work, or part of one.

Times are microseconds since 1970.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from homelab_agent.core.clock import MICROSECOND, microseconds, moment
from homelab_agent.core.jobs.run import recordable
from homelab_agent.gitops.delivery import (
    DONE,
    OPEN,
    Attempt,
    AttemptRecord,
    Delivery,
    DeliveryRecord,
    Receipt,
    Verdict,
)

KEPT = timedelta(days=30)
KEPT_ALWAYS = 100
"""So many deliveries are kept at any age: a wrong clock erases little."""

_CLOSED = "FROM gitops_delivery WHERE id NOT IN (SELECT delivery FROM gitops_attempt WHERE verdict = '')"
_TIMES = ("received_at", "opened_at", "closed_at")
_TOLD = (
    "guid", "attempt", "repository", "event", "ref", "key_name", "source", "verdict", "detail", "repair",
    "sha_asked", "sha_reached", "run_id", *_TIMES,
)  # fmt: skip


def told(connection: sqlite3.Connection, guid: str, number: int) -> dict[str, Any]:
    """Return what PostgreSQL is told of an attempt that has ended."""
    query = (
        f"SELECT {', '.join(_TOLD)} FROM (SELECT *, number AS attempt FROM gitops_attempt)"  # noqa: S608 - constants
        " JOIN gitops_delivery ON id = delivery WHERE guid = ? AND attempt = ?"
    )
    found = connection.execute(query, (guid, number)).fetchone()
    return {name: moment(value) if name in _TIMES else value for name, value in zip(_TOLD, found, strict=True)}


def last(connection: sqlite3.Connection, guid: str) -> tuple[bytes, Receipt] | None:
    """Return the digest of a known delivery's body, and its last attempt."""
    found = connection.execute(
        "SELECT digest, repository, number, verdict, detail FROM gitops_attempt JOIN gitops_delivery ON id = delivery"
        " WHERE guid = ? ORDER BY number DESC LIMIT 1",
        (guid,),
    ).fetchone()
    if found is None:
        return None
    digest, repository, number, verdict, detail = found
    return digest, Receipt(guid, repository, number, verdict or OPEN, detail, is_new=False)


def twin(connection: sqlite3.Connection, digest: bytes, repository: str) -> str:
    """Return the GUID under which a body came for a repository and is open, or is done with; "" if there is none."""
    found = connection.execute(
        "SELECT guid, verdict FROM gitops_delivery JOIN gitops_attempt ON id = delivery"
        " WHERE digest = ? AND repository = ?"
        " AND number = (SELECT max(number) FROM gitops_attempt WHERE delivery = id)",
        (digest, repository),
    )
    return next((guid for guid, verdict in found if not verdict or verdict in DONE), "")


def store(connection: sqlite3.Connection, delivery: Delivery, repository: str, size: int) -> None:
    """Write a delivery down, and who has signed it."""
    connection.execute(
        "INSERT INTO gitops_delivery (guid, event, repository, ref, after_sha, key_name, source, received_at, size,"
        " digest, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            delivery.guid,
            delivery.event,
            repository,
            delivery.ref,
            delivery.after,
            delivery.key_name,
            delivery.source,
            microseconds(delivery.received_at),
            size,
            delivery.digest,
            json.dumps(dict(delivery.headers)),
            delivery.body,
        ),
    )
    sign(connection, delivery.guid, delivery.signers)


def sign(connection: sqlite3.Connection, guid: str, signers: Iterable[str]) -> None:
    """Note the repositories with whose secrets a delivery was signed, beside those that are known."""
    connection.executemany(
        "INSERT OR IGNORE INTO gitops_signer (delivery, repository) SELECT id, ? FROM gitops_delivery WHERE guid = ?",
        [(name, guid) for name in signers],
    )


def aim(connection: sqlite3.Connection, guid: str, repository: str) -> None:
    """Say anew which repository a delivery is for."""
    connection.execute("UPDATE gitops_delivery SET repository = ? WHERE guid = ?", (repository, guid))


def begin(connection: sqlite3.Connection, guid: str, number: int, now: int) -> None:
    """Open an attempt."""
    connection.execute(
        "INSERT INTO gitops_attempt (delivery, number, opened_at) SELECT id, ?, ? FROM gitops_delivery WHERE guid = ?",
        (number, now, guid),
    )


def end(connection: sqlite3.Connection, guid: str, number: int, verdict: Verdict, now: int) -> bool:
    """Give an attempt its verdict; return False, and change nothing, if it has one or is not there."""
    done = connection.execute(
        "UPDATE gitops_attempt SET verdict = ?, detail = ?, repair = ?, sha_asked = ?, sha_reached = ?, run_id = ?,"
        " closed_at = ? WHERE verdict = '' AND number = ?"
        " AND delivery = (SELECT id FROM gitops_delivery WHERE guid = ?)",
        (
            verdict.word,
            recordable(verdict.detail),
            recordable(verdict.repair),
            verdict.sha_asked,
            verdict.sha_reached,
            verdict.run_id,
            now,
            number,
            guid,
        ),
    )
    return done.rowcount == 1


def waiting(connection: sqlite3.Connection) -> list[str]:
    """Return the repositories that have open attempts."""
    found = connection.execute(
        "SELECT DISTINCT repository FROM gitops_attempt JOIN gitops_delivery ON id = delivery WHERE verdict = ''"
    )
    return sorted(name for (name,) in found)


def open_attempts(connection: sqlite3.Connection, repository: str) -> list[Attempt]:
    """Return a repository's open attempts, in the order in which their deliveries first came."""
    found = connection.execute(
        "SELECT guid, number, repository, event, ref, after_sha, received_at, opened_at, number > 1 OR EXISTS ("
        "  SELECT 1 FROM gitops_delivery AS former"
        "  WHERE former.digest = present.digest AND former.repository = present.repository AND former.id < present.id)"
        " FROM gitops_attempt JOIN gitops_delivery AS present ON present.id = delivery"
        " WHERE verdict = '' AND repository = ? ORDER BY present.id",
        (repository,),
    )
    return [
        Attempt(*(*words, moment(received_at), moment(opened_at), bool(again)))
        for *words, received_at, opened_at, again in found
    ]


def newest(connection: sqlite3.Connection, limit: int, repository: str) -> list[DeliveryRecord]:
    """Return the newest deliveries, of one repository or of all (""), the newest first."""
    return _records(connection, "? IN ('', repository) ORDER BY id DESC LIMIT ?", (repository, limit))


def record(connection: sqlite3.Connection, guid: str) -> DeliveryRecord | None:
    """Return one delivery; None where there is none."""
    found = _records(connection, "guid = ?", (guid,))
    return found[0] if found else None


def content(connection: sqlite3.Connection, guid: str) -> tuple[Mapping[str, str], bytes] | None:
    """Return what was kept of a delivery's headers, and its body as it came; None where there is none."""
    found = connection.execute("SELECT headers, body FROM gitops_delivery WHERE guid = ?", (guid,)).fetchone()
    return found and (json.loads(found[0]), zlib.decompress(found[1]))


def make_room(connection: sqlite3.Connection, bytes_over: int) -> int:
    """Drop the oldest deliveries that are not open until so many bytes are free; return how many are."""
    freed = 0
    leaving = []
    for number, size in connection.execute(f"SELECT id, size {_CLOSED} ORDER BY id"):
        if freed >= bytes_over:
            break
        leaving.append((number,))
        freed += size
    connection.executemany("DELETE FROM gitops_delivery WHERE id = ?", leaving)
    return freed


def forget(connection: sqlite3.Connection, now: int) -> None:
    """Drop the deliveries that are not open and past keeping."""
    connection.execute(
        f"DELETE {_CLOSED} AND received_at < ? AND id <= (SELECT max(id) FROM gitops_delivery) - ?",  # noqa: S608
        (now - KEPT // MICROSECOND, KEPT_ALWAYS),
    )


def held(connection: sqlite3.Connection) -> int:
    """Return how many bytes of disk the deliveries take up."""
    found = connection.execute("SELECT bytes FROM gitops_inbox").fetchone()
    return int(found[0]) if found else 0


def _records(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[DeliveryRecord]:
    """Return deliveries with their attempts; `where` is written in this module."""
    found = connection.execute(
        "SELECT id, guid, event, repository, ref, after_sha, key_name, source, size, received_at"  # noqa: S608
        f" FROM gitops_delivery WHERE {where}",
        values,
    ).fetchall()
    return [
        DeliveryRecord(*(*words, moment(received_at), _signers(connection, number), _attempts(connection, number)))
        for number, *words, received_at in found
    ]


def _signers(connection: sqlite3.Connection, delivery: int) -> tuple[str, ...]:
    query = "SELECT repository FROM gitops_signer WHERE delivery = ? ORDER BY repository"
    return tuple(name for (name,) in connection.execute(query, (delivery,)))


def _attempts(connection: sqlite3.Connection, delivery: int) -> tuple[AttemptRecord, ...]:
    found = connection.execute(
        "SELECT number, verdict, detail, repair, sha_asked, sha_reached, run_id, opened_at, closed_at"
        " FROM gitops_attempt WHERE delivery = ? ORDER BY number",
        (delivery,),
    )
    return tuple(
        AttemptRecord(*(*words, moment(opened_at), None if closed_at is None else moment(closed_at)))
        for *words, opened_at, closed_at in found
    )
