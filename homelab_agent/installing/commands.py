"""`homelab-agent installing`: what the scripts in `deploy/` ask of a release."""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

import click

from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError
from homelab_agent.installing import adopting, fitting, proving
from homelab_agent.web import settings as web_settings

_PATIENCE = 70.0
"""Longer than the agent takes for all its checks."""


@click.group("installing")
def commands() -> None:
    """Do for make install and make upgrade what is more than a few lines of shell."""


@commands.command()
@click.pass_obj
def configuration(console: Console) -> None:
    """Fit a configuration that was a checkout's to the service, and say what it cannot have."""
    path = console.find_configuration()
    fitting.fit(path)
    for note in fitting.notes(path):
        click.echo(f"  note: {note}")


@commands.command()
@click.pass_obj
def listen(console: Console) -> None:
    """Print what homelab-agent.socket needs beside it, for where it is to listen."""
    click.echo(fitting.socket_drop_in(console.section("web").listen), nl=False)


@commands.command()
@click.pass_obj
def records(console: Console) -> None:
    """Print what homelab-agent-resume.service needs beside it, for where the root half notes what it froze."""
    section = console.section("backup")
    click.echo(fitting.resume_drop_in(section.records) if section else "", nl=False)


@commands.command()
@click.pass_obj
def free(console: Console) -> None:
    """Fail where somebody else listens already where the service is to."""
    from homelab_agent.web import sockets

    sockets.check_free(*web_settings.split_address(console.section("web").listen))


@commands.command()
@click.argument("checkout", type=click.Path(path_type=Path))
@click.argument("given", default="")
def adopt(checkout: Path, given: str) -> None:
    """Take over what `make run` has gathered, or say that the service starts fresh."""
    if adopting.is_state(adopting.STATE):
        if adopting.STATE.stat().st_uid == pwd.getpwnam(adopting.USER).pw_uid:
            click.echo(f"It goes on with the data in {adopting.STATE}.")
            return
        adopting.take_over()
        click.echo(f"  took over {adopting.STATE}, which make run has gathered as root")
        return
    if given == "no":
        click.echo("It starts fresh: ADOPT=no.")
        return
    places = [Path(given).absolute()] if given else adopting.candidates(checkout, os.environ.get("SUDO_USER", ""))
    found = next(filter(adopting.is_state, places), None)
    if found is None:
        if given:
            raise adopting.NothingToAdopt(directory=given)
        click.echo("It starts fresh: no data of make run was found (ADOPT=DIRECTORY names another place).")
    elif _wanted(found):
        adopting.copy(found)
        click.echo(f"  copied {found} to {adopting.STATE}; nobody needs it there any more")
    else:
        click.echo("It starts fresh.")


def _wanted(found: Path) -> bool:
    """Ask whoever is there; who is not there has said ADOPT=no, or gets the data."""
    adopting.check_at_rest(found)
    if not sys.stdin.isatty():
        return True
    return click.confirm(
        f"Take over what make run has gathered in {found} ({adopting.size(found) >> 20} MiB)?", default=True
    )


@commands.command()
@click.pass_obj
def standing(console: Console) -> None:
    """Print as JSON how the running agent stands, for `prove`."""
    console.json(proving.look(console.client(patience=_PATIENCE)).findings)


@commands.command()
@click.option("--before", type=click.Path(path_type=Path), required=True, help="What `standing` has printed.")
@click.option("--seconds", type=float, default=90.0, show_default=True)
@click.pass_obj
def prove(console: Console, before: Path, seconds: float) -> None:
    """Wait until the running agent is as well as the one before; exit 1 when it does not come to that."""
    client = console.client(patience=_PATIENCE)
    proving.prove(lambda: proving.look(client), json.loads(before.read_text()), seconds=seconds)


@commands.command()
@click.pass_obj
def greet(console: Console) -> None:
    """Tell the person who has installed it where the page is, and how to log in."""
    from homelab_agent.commands.run import tunnel  # the agent comes along

    host, port = web_settings.split_address(console.section("web").listen)
    click.echo(f"  the page           http://{host}:{port}/\n  from another host  {tunnel(port)}")
    try:
        urls = console.client().post("/api/login-links")["urls"]
        click.echo("".join(f"  log in (once)      {url}\n" for url in urls[:1]), nl=False)
    except AgentError as error:
        click.echo(f"  no log-in link     {error}")
