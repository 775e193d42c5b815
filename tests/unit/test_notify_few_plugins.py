"""Apprise loads the plugins that are used, and knows every address all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.neighbours.ntfy import Ntfy
from tests.notified import secret

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
SEND = """
import asyncio, sys, tempfile
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.notify.message import Text
from homelab_agent.notify.sender import Sender
from homelab_agent.notify.severity import Severity
tempfile.tempdir = "/proc/no-room"
masks = Redactor()
phone = Sender("phone", Secrets(masks, SystemClock()).find("file:" + sys.argv[1]), masks)
print(asyncio.run(phone.send(Text("nas: state is failed", "the disk is full", Severity.CRITICAL))))
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


def test_what_is_loaded_is_what_apprise_has_for_it() -> None:
    all_of_it, some = asked()["right"], asked(*sorted(POPULAR))["right"]
    assert {one: some.get(one) for one in POPULAR} == {one: all_of_it[one] for one in POPULAR}


@pytest.mark.parametrize("schema", ["kodi", "nonsense"])
def test_where_the_text_does_not_say_it_all_are_loaded(schema: str) -> None:
    found = asked("ntfy", schema)
    assert len(found["known"]) > 200
    assert ("kodi" in found["known"]) == ("kodi" in found["right"])


def test_where_no_directory_can_be_made_a_message_is_sent_all_the_same(tmp_path: Path) -> None:
    phone = Ntfy()
    with phone.lasting():
        reference = secret(tmp_path, "phone", phone.url())
        child = [sys.executable, "-c", SEND, reference.removeprefix("file:")]
        said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    assert "it answers 200 OK" in said
    assert [message.message for message in phone.messages] == ["the disk is full"]
