"""Apprise loads the plugins that are used, and knows every address all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SAY = """
import json, sys
from apprise.plugins import N_MGR
from homelab_agent.notify import few_plugins
said = few_plugins.speakers()
for schema in sys.argv[1:]:
    few_plugins.load(schema)
known = sorted(N_MGR.schemas())
if not sys.argv[1:]:
    N_MGR.load_modules()
right = {schema: N_MGR[schema].__module__.split(".")[2] for schema in N_MGR.schemas()}
print(json.dumps({"known": known, "said": {one: sorted(found) for one, found in said.items()}, "right": right}))
"""
POPULAR = {"ntfy", "ntfys", "mailto", "mailtos", "tgram", "matrix", "matrixs", "hassio", "hassios", "json", "jsons"}
POPULAR |= {"gotify", "gotifys", "slack", "discord", "pover", "signal", "signals", "xml", "form"}


def asked(*schemas: str) -> dict[str, Any]:
    """Have a process of its own load these schemas; return what it then knows."""
    done = subprocess.run([sys.executable, "-c", SAY, *schemas], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_said_of_a_schema_is_right_and_of_the_popular_ones_all_is_said() -> None:
    found = asked()
    assert len(found["right"]) > 200
    wrong = {one: names for one, names in found["said"].items() if names != [found["right"].get(one)]}
    assert not wrong
    assert set(found["said"]) >= POPULAR


def test_only_what_is_used_is_loaded() -> None:
    assert set(asked("ntfy", "mailtos")["known"]) == {"ntfy", "ntfys", "mailto", "mailtos"}


@pytest.mark.parametrize("schema", ["kodi", "nonsense"])
def test_where_the_text_does_not_say_it_all_are_loaded(schema: str) -> None:
    found = asked("ntfy", schema)
    assert len(found["known"]) > 200
    assert ("kodi" in found["known"]) == ("kodi" in found["right"])
