"""Of Apprise's plugins the ones that are used: by itself it loads all 130 at once, which take 10 MB."""

from __future__ import annotations

import importlib
import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROTOCOLS = re.compile(r"""^    (?:secure_)?protocol\s*=\s*(\([^)]*\)|"[^"]*"|'[^']*')""", re.MULTILINE)
_TEXT = re.compile(r"""["']([^"']+)["']""")
_NO_PLUGINS = Path(__file__).parent / "schema"
"""A directory of which Apprise takes nothing for a plugin."""
_loading = threading.Lock()


def speakers() -> Mapping[str, set[str]]:
    """Return for each schema (`ntfy`, `mailtos`) the modules in `apprise.plugins` that say that they speak it.

    It is read from their text, for to ask them is to load them; those that do not say it in plain words are missing.
    """
    from apprise import plugins

    [directory] = plugins.__path__
    found = defaultdict[str, set[str]](set)
    for place in Path(directory).iterdir():
        if not place.name.startswith(("_", "base")):
            for schema in _schemas(place):
                found[schema].add(place.stem)
    return found


def load(schema: str) -> None:
    """Have Apprise know this schema; where its plugin is not found by its text, it loads all.

    Nothing is written for it: a full disk is to be told of, too.
    """
    from apprise.plugins import N_MGR

    manager: Any = N_MGR
    with _loading:
        if manager and schema in manager:
            return
        plugin = _speaker(schema)
        if plugin is None:
            manager.unload_modules()
            manager.load_modules()
            return
        manager.load_modules(path=str(_NO_PLUGINS))  # so that it does not load its own when it is asked
        manager.add(plugin)


def _speaker(schema: str) -> Any:
    """Return the plugin that speaks a schema, None where none says so."""
    for name in sorted(speakers().get(schema, ())):
        for found in vars(importlib.import_module(f"apprise.plugins.{name}")).values():
            if hasattr(found, "app_id") and schema in found.schemas(found):
                return found
    return None


def _schemas(place: Path) -> set[str]:
    files = [place] if place.suffix == ".py" else sorted(place.rglob("*.py")) if place.is_dir() else []
    said = (found for file in files for found in _PROTOCOLS.findall(file.read_text("utf-8")))
    return {schema for assigned in said for schema in _TEXT.findall(assigned)}
