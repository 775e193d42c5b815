"""The agent's own commands; a room's are in its `commands.py`."""

from __future__ import annotations
