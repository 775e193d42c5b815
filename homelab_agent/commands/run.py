"""`homelab-agent run`: the agent in the foreground, as the service runs it."""

from __future__ import annotations

import getpass
import os
import socket

import click

from homelab_agent import agent, config, places, reloading
from homelab_agent.core import journal, systemd
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.web import settings as web_settings


@click.command("run")
@click.pass_obj
@click.pass_context
def commands(ctx: click.Context, console: Console) -> None:
    """Run the agent in the foreground until Ctrl-C or SIGTERM."""
    loaded = config.load(ctx.find_root().params["config_path"])
    settings = loaded.settings
    redactor = Redactor()
    opened = journal.open_journal(settings.log, host=places.host(settings.agent), redactor=redactor)
    reloading.warn(loaded)
    try:
        ctx.exit(agent.run(loaded, opened, redactor, lambda: _greet(console, settings.web.listen)))
    finally:
        opened.close()


def _greet(console: Console, listen: str) -> None:
    """Tell the person at the terminal where the page is and how to log in; a service has nobody to tell."""
    if systemd.under_systemd():
        return
    host, port = web_settings.split_address(listen)
    lines = [f"The page:           http://{host}:{port}/", f"From another host:  {tunnel(port)}"]
    try:
        urls = console.client().post("/api/login-links")["urls"]  # none any more where it is being stopped already
        lines += [f"Log in (once):      {url}" for url in urls[:1]]
    except AgentError as error:
        lines.append(f"No log-in link:     {error}")
    click.echo("\n".join(["", *lines, "", "Ctrl-C stops it.", ""]))


def tunnel(port: int) -> str:
    """Return the command that makes a headless host's page appear on the desk: `ssh -L`."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    address = connection[2] if len(connection) == 4 else socket.gethostname()
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"ssh -L {port}:127.0.0.1:{port} {user}@{address}"
