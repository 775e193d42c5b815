"""`homelab-agent privileged serve`: the root half, as its unit or the agent starts it."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import click

from homelab_agent import capabilities, config, places
from homelab_agent.core import journal, systemd
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.privilege import Verb
from homelab_agent.privileged import server


class NoListener(AgentError):
    """The root half is started by systemd, or by the agent, which give it the socket that it serves."""

    repair = "systemctl start homelab-agent-privileged.socket"
    exit_code = Exit.USAGE


class ConfigurationNotRoots(AgentError):
    """Others than root may change {path}, and so what root does for the agent."""

    repair = "chown root {path}; chmod go-w {path}"
    exit_code = Exit.CONFIGURATION


@click.group("privileged", hidden=True)
def commands() -> None:
    """Do for the agent what needs root."""


@commands.command("serve")
@click.option("--listener", type=int, help="Descriptor of the socket, from the agent.")
@click.option("--lifeline", type=int, help="Descriptor that ends with the agent.")
@click.option("--user", default="homelab-agent", show_default=True, help="Who may call, beside root, under systemd.")
@click.pass_context
def serve(ctx: click.Context, listener: int | None, lifeline: int | None, user: str) -> None:
    """Serve until nobody has called for a minute."""
    loaded = config.load(ctx.find_root().params["config_path"])
    opened = journal.open_journal(loaded.settings.log, host=places.host(loaded.settings.agent), redactor=Redactor())
    try:
        if listener is not None:
            inherited, users = server.adopt(listener), {os.geteuid()}
        else:
            found = list(systemd.inherited_sockets().values())
            if len(found) != 1:
                raise NoListener
            inherited, users = found[0], {0, pwd.getpwnam(user).pw_uid}
            _see_that_it_is_roots(loaded.path)
        half = server.Server(_verbs(loaded.settings), inherited, users=frozenset(users))
        asyncio.run(half.run(lifeline))
    finally:
        opened.close()


def _verbs(settings: config.Settings) -> Iterator[Verb]:
    """Yield the verbs of every capability that is on."""
    for name, section in settings.enabled():
        if capabilities.has_room(name, "verbs"):
            yield from capabilities.import_room(name, "verbs").build(section)


def _see_that_it_is_roots(path: Path | None) -> None:
    """Raise `ConfigurationNotRoots` where somebody else could tell root what to do."""
    for place in (path.resolve(), path.resolve().parent) if path is not None else ():
        status = place.stat()
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise ConfigurationNotRoots(path=place)
