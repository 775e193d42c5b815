"""Of Apprise's plugins the ones that are used: by itself it loads all 130 at once, which take 10 MB."""

from __future__ import annotations

import re
import tempfile
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROTOCOLS = re.compile(r"""^    (?:secure_)?protocol\s*=\s*(\([^)]*\)|"[^"]*"|'[^']*')""", re.MULTILINE)
_TEXT = re.compile(r"""["']([^"']+)["']""")
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
    """Have Apprise know this schema; where its plugin is not found by its text, or the disk is full, it loads all.

    Apprise takes for plugins what a directory lists, and imports them by name.
    """
    from apprise.plugins import N_MGR

    manager: Any = N_MGR
    with _loading:
        if manager and schema in manager:
            return
        names = speakers().get(schema)
        if names is None:
            manager.load_modules()
            return
        try:
            with tempfile.TemporaryDirectory(prefix="homelab-agent-") as listing:
                for name in names:
                    (Path(listing) / name).touch()
                manager.load_modules(path=listing, name="apprise.plugins")
        except OSError:  # a full disk has no room for it, and is to be told: Apprise's own directory is there
            manager.load_modules()


def _schemas(place: Path) -> set[str]:
    files = [place] if place.suffix == ".py" else sorted(place.rglob("*.py")) if place.is_dir() else []
    said = (found for file in files for found in _PROTOCOLS.findall(file.read_text("utf-8")))
    return {schema for assigned in said for schema in _TEXT.findall(assigned)}
