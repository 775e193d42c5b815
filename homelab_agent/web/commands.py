"""`homelab-agent web`: log in to the page; API tokens."""

from __future__ import annotations

import click

from homelab_agent.core.console import Console, local_time


@click.group("web")
def commands() -> None:
    """Log in to the page; API tokens."""


@commands.command("login")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def login(console: Console, *, as_json: bool) -> None:
    """Print a link that logs one browser in; it works once, for ten minutes."""
    link = console.client().post("/api/login-links")
    if as_json:
        console.json(link)
        return
    for url in link["urls"]:
        click.echo(url)
    click.echo(f"(until {local_time(link['expires_at'])}, once)", err=True)


@commands.group("token")
def token() -> None:
    """Tokens for programs: `Authorization: Bearer TOKEN`."""


@token.command("add")
@click.argument("name")
@click.pass_obj
def add(console: Console, name: str) -> None:
    """Make a token called NAME and print it; it is shown this once."""
    click.echo(console.client().post("/api/tokens", {"name": name})["token"])


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def list_tokens(console: Console, *, as_json: bool) -> None:
    """List the tokens."""
    tokens = console.client().get("/api/tokens")["tokens"]
    if as_json:
        console.json(tokens)
    else:
        console.table(("token", "made"), ((one["name"], local_time(one["created_at"])) for one in tokens))


@token.command("revoke")
@click.argument("name")
@click.pass_obj
def revoke(console: Console, name: str) -> None:
    """Make the token called NAME invalid."""
    console.client().post(f"/api/tokens/{name}/revoke")
    click.echo(f"the token {name} is revoked")
