"""What a command is given: the settings, the running agent, and the one way to print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import click

from homelab_agent.core.client import ANSWER_SECONDS, Client, RemoteProblem
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.whereabouts import Whereabouts

_NOT_FOUND = 404


class AddEntry(Protocol):
    """Adds an entry to an array of tables of the configuration (`config.writer.add_entry`)."""

    def __call__(self, path: Path, name: str, entry: Mapping[str, Any], *, again: Sequence[str]) -> None:
        """Write it, or raise; `again` is the command, without the program's name, that root would run for it."""


class SetValues(Protocol):
    """Sets keys of the configuration (`config.writer.set_values`)."""

    def __call__(self, path: Path, values: Mapping[str, Any], *, again: Sequence[str]) -> None:
        """Write them, named with dots, or raise; `again` as for `AddEntry`."""


def _no_configuration(*_: object, **__: object) -> Any:
    raise NotImplementedError


@dataclass(slots=True)
class Console:
    """Handed to every command as click's `obj` (`@click.pass_obj`).

    `load` reads and validates the configuration (raises `ConfigurationFaulty`, exit 78); `find_socket` answers where
    the agent listens; `find_state` where its state directory is; `secrets` makes what reads the configuration's secrets
    as the agent does; `whereabouts` says what the agent lives from; `find_configuration` which file is to be changed,
    by `add_entry` and `set_values`.
    """

    load: Callable[[], Any]
    find_socket: Callable[[], Path]
    find_state: Callable[[], Path]
    secrets: Callable[[], Secrets] = lambda: Secrets(Redactor())
    whereabouts: Callable[[], Whereabouts] = _no_configuration
    find_configuration: Callable[[], Path] = _no_configuration
    add_entry: AddEntry = _no_configuration
    set_values: SetValues = _no_configuration
    debug: bool = False

    def section(self, name: str) -> Any:
        """Return one validated section of the configuration."""
        return getattr(self.load(), name)

    def client(self, *, patience: float = ANSWER_SECONDS) -> Client:
        """Return a client of the running agent; its calls raise `AgentNotRunning` (exit 69) when there is none.

        It waits `patience` seconds for an answer.
        """
        return Client(self.find_socket(), patience=patience)

    def json(self, data: object) -> None:
        """Print `data` as JSON, for a program."""
        click.echo(json.dumps(data, indent=2, default=str))

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows in aligned columns; numbers to the right."""
        lines = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
        widths = [max(len(line[column]) for line in [list(head), *lines]) for column in range(len(head))]
        numeric = [bool(lines) and all(_is_number(line[column]) for line in lines) for column in range(len(head))]
        for number, line in enumerate([list(head), *lines]):
            cells = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            )
            click.secho("  ".join(cells).rstrip(), bold=number == 0 and sys.stdout.isatty())

    @staticmethod
    def problem(title: str, cause: str = "", repair: str = "") -> None:
        """Print one problem on stderr: what, why, and what to do."""
        click.echo(f"{title}" + (f"\n  cause:  {cause}" if cause else ""), err=True)
        if repair:
            click.echo(f"  repair: {repair}", err=True)


class CapabilityGroup(click.Group):
    """Commands that ask for what only an agent has where a capability is on; `off` is raised where it is not."""

    def __init__(self, *args: Any, off: type[AgentError], **kwargs: Any) -> None:
        """Take `off` beside what `click.Group` takes."""
        super().__init__(*args, **kwargs)
        self._off = off

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raises `off` where the agent knows none of these paths."""
        try:
            return super().invoke(ctx)
        except RemoteProblem as error:
            if error.status == _NOT_FOUND and not error.repair:  # what is missing of ours has one
                raise self._off from error
            raise


def local_time(text: str | None) -> str:
    """Return an RFC 3339 time as a person reads it here; "" for none."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _is_number(text: str) -> bool:
    return text in {"", "-"} or text.replace(".", "", 1).replace(",", "").lstrip("-").isdigit()
