"""PostgreSQL: the embedded server, the pool, the schema, and the shipper that drains the spool into it."""

from __future__ import annotations
