"""What events mean, in words for a person: `events.toml` beside the code that logs them, and systemd's catalogue of it.

Who adds an event adds its words to the file in the same folder; a test holds the two against each other.
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core.journal.sink import IDENTIFIER, message_id

FILE = "events.toml"
"""A table for each event: `subject`, `text`, `run` (commands), and `also`, events that share all of it."""

_RUN_ID = "@HOMELAB_RUN_ID@"
"""Stands for the event's run, as a field of the journal's does in its catalogue."""
_ANY_RUN = "RUN"
_WIDTH = 76


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an event means: `subject` says what happened, `text` why it usually does, `run` is what to run."""

    subject: str
    text: str
    run: tuple[str, ...]

    def lines(self, run_id: str = "") -> Iterator[str]:
        """Yield the words below the subject, wrapped; `run_id` is the event's run, if it is of one."""
        yield from textwrap.wrap(self.text, _WIDTH)
        if self.run:
            yield ""
        for command in self.run:
            yield f"    {command.replace(_RUN_ID, run_id or _ANY_RUN)}"


def read(package: Path) -> Mapping[str, Meaning]:
    """Return what each event means that is logged in a package, by the event's name; blocking."""
    return {name: meaning for file in files(package) for name, meaning in of_file(file).items()}


def files(package: Path) -> list[Path]:
    """Return the files in which events are explained; blocking."""
    return sorted(package.rglob(FILE))


def of_file(file: Path) -> Mapping[str, Meaning]:
    """Return what one file says; blocking."""
    found: dict[str, Meaning] = {}
    for name, told in tomllib.loads(file.read_text("utf-8")).items():
        meaning = Meaning(told["subject"], " ".join(told["text"].split()), tuple(told.get("run", ())))
        found |= dict.fromkeys((name, *told.get("also", ())), meaning)
    return found


def catalogue(meanings: Mapping[str, Meaning]) -> str:
    """Return what `journalctl --update-catalog` takes in, for `journalctl -x` (the format: systemd's CATALOG.md)."""
    return "\n".join(_entry(name, meanings[name]) for name in sorted(meanings))


def _entry(name: str, meaning: Meaning) -> str:
    head = f"# {name}\n-- {message_id(name)}\nSubject: {meaning.subject}\nDefined-By: {IDENTIFIER}\n"
    return "\n".join([head, *meaning.lines(_RUN_ID), ""])
