"""The spool: rows on their way to PostgreSQL, in order, bounded.

`spool` holds `Spool`; a `parcel` is the rows of one put; `shelf` is where parcels lie, in memory and on disk, `table`
its SQL; `bounds` and `thinning` decide what goes when there is too much.
"""

from __future__ import annotations

from homelab_agent.core.spool.parcel import Row, Scalar
from homelab_agent.core.spool.spool import Batch, Spool, SpoolStatus

__all__ = ["Batch", "Row", "Scalar", "Spool", "SpoolStatus"]
