"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homelab_agent.reading import statements, store
from homelab_agent.reading.document import Batch, Document, Rejected
from homelab_agent.reading.tally import Tally


async def foresee(connection: Any, origin: str, batch: Batch, *, is_backfill: bool) -> tuple[Tally, Sequence[Rejected]]:
    """Return what a run would count, nothing as marked, and what it would reject.

    What only PostgreSQL refuses it does not know.
    """
    keys = [one.key for one in batch.arrived]
    known = {row["key"]: row["state"] for row in await connection.fetch(statements.KNOWN, origin, keys)}
    fresh = store.to_take(batch.arrived, known)
    good = [one for one in fresh if isinstance(one, Document)]
    ids, hashes = [one.key for one in good], [one.content_hash for one in good]
    met = await connection.fetch(statements.MET, ids, hashes, None)
    unfit = store.conflicts(good, store.differences(met, origin), origin)
    unfit += [one for one in fresh if isinstance(one, Rejected)]
    ours = await connection.fetch(statements.THERE, [one.key for one in unfit], origin) if is_backfill else []
    changed = {row["mongo_id"] for row in ours}
    refused = [one for one in unfit if one.key not in changed]
    inserted = len({*ids} - {row["mongo_id"] for row in met})
    tally = Tally(
        inserted=inserted,
        duplicate=len(fresh) - len(unfit) - inserted,
        changed=len(changed),
        rejected=len(refused),
        skipped=len(batch.arrived) - len(fresh),
    )
    return tally, refused
