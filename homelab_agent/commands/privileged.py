"""`homelab-agent privileged serve`: the root half, as its unit or the agent starts it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from homelab_agent import capabilities, config, places
from homelab_agent.config import trust
from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.privilege import Verb
from homelab_agent.core.settings import AgentSettings, LogSettings
from homelab_agent.privileged import half


class NoSuchCaller(AgentError):
    """There is no user {name}, for whom the root half should work."""

    repair = "homelab-agent privileged serve --for USER, or make it: systemd-sysusers"
    exit_code = Exit.USAGE


@click.group("privileged")
def commands() -> None:
    """Do for the agent what needs root."""


@commands.command("serve")
@click.option("--for", "name", metavar="USER", help="Who may call, besides root. [default: who it runs as]")
@click.pass_context
def serve(ctx: click.Context, name: str | None) -> None:
    """Serve on the socket that systemd or the agent hands over, until nobody has called for a minute."""
    given: Path | None = ctx.find_root().params["config_path"]
    caller = os.geteuid() if name is None else _number(name)
    verbs = Verbs(given, is_roots=os.geteuid() == 0 and caller != 0)
    log, host = _how_to_log(given)
    opened = journal.open_journal(log, host=host, redactor=Redactor())
    try:
        half.serve(verbs.collect, callers=frozenset({0, caller}))
    finally:
        opened.close()


class Verbs:
    """The verbs of every capability that is on; collected anew when the configuration file has changed.

    So a half that has not come to rest yet knows what was just added, and a faulty file is told to who calls.
    """

    def __init__(self, given: Path | None, *, is_roots: bool) -> None:
        """`given` is what `--config` was; with `is_roots` only a file is taken that nobody but root can change."""
        self._given = given
        self._is_roots = is_roots
        self._collected: Mapping[str, Verb] = {}
        self._of: object = None

    def collect(self) -> Mapping[str, Verb]:
        """Return them by name; blocking. Raises `ConfigurationFaulty`, or `ConfigurationNotRoots`."""
        path = config.find(self._given)
        if path is not None and self._is_roots:
            trust.check(path)
        version = _version(path)
        if version != self._of:
            self._collected = {verb.name: verb for verb in _verbs(self._given, config.load(path).settings)}
            self._of = version
        return self._collected


def _verbs(given: Path | None, settings: config.Settings) -> Iterator[Verb]:
    where = places.whereabouts(given, settings)
    for name, section in settings.enabled():
        if capabilities.has_room(name, "verbs"):
            yield from capabilities.import_room(name, "verbs").build(section, where)


def _version(path: Path | None) -> object:
    """Return what is another thing when the file was changed or replaced."""
    try:
        status = None if path is None else path.stat()
    except OSError:
        status = None
    return (path, status and (status.st_ino, status.st_mtime_ns, status.st_size))


def _how_to_log(given: Path | None) -> tuple[LogSettings, str]:
    """Return what the configuration says of that; a faulty one is told to who calls, so that it can be read."""
    try:
        settings = config.load(given).settings
    except config.ConfigurationFaulty:
        return LogSettings(), places.host(AgentSettings())
    return settings.log, places.host(settings.agent)


def _number(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise NoSuchCaller(name=name) from None
