"""What PostgreSQL's own file says of how a server ended is what `pg_controldata` says of it."""

from __future__ import annotations
