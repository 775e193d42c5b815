"""homelab-agent: one process that does the host-side work of a home server."""

from __future__ import annotations

__version__ = "0.1.0"
