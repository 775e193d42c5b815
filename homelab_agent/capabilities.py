"""The one list of capabilities, and how a room is imported: lazily, so that what is off is not loaded."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

NAMES = ("metrics", "gitops", "gate", "reading", "backup", "notify")


def import_room(name: str, room: str) -> ModuleType:
    """Import a capability's room, e.g. `import_room("metrics", "service")`."""
    return importlib.import_module(f"homelab_agent.{name}.{room}")


def has_room(name: str, room: str) -> bool:
    """Return whether the capability has that room (a module or a folder)."""
    return importlib.util.find_spec(f"homelab_agent.{name}.{room}") is not None
