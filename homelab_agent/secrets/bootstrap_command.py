"""`homelab-agent secrets bootstrap`: does the steps of `bootstrap.py`, says so, and what is left for a person."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from homelab_agent.core import privilege
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.secrets import bao
from homelab_agent.secrets.bootstrap import House, house, reload, steps
from homelab_agent.secrets.installation import CONFIGURATION, OPERATOR_SECRET_ID
from homelab_agent.secrets.settings import SecretsSettings


class AnotherServer(AgentError):
    """The configuration names another OpenBao, {url}."""

    repair = "homelab-agent doctor secrets; to begin anew here, remove url from [secrets]"
    exit_code = Exit.CONFIGURATION


def bootstrap(console: Console, program: Path | None, directory: Path | None, port: int, *, plan: bool) -> None:
    """Do what is not done yet, or with `plan` say it."""
    settings: SecretsSettings = console.section("secrets")
    state, configuration = console.find_state(), console.find_configuration()
    found = asyncio.run(bao.find(program))
    click.echo(f"OpenBao {found.version}, {found.path}")
    at = house(found, directory, port, default=state.parent / "openbao", reader=privilege.owner(state))
    _see_settings(settings, at)
    asyncio.run(_walk(at, plan=plan))
    missing = _missing(settings, at, state)
    if missing and not plan:
        again = ["secrets", "bootstrap", f"--bao={found.path}", *([f"--directory={directory}"] if directory else [])]
        console.set_values(configuration, missing, again=[*again, f"--port={port}"])
    _say(plan, f"[secrets] in {configuration}", not missing)
    if not plan:
        _explain(at)


async def _walk(at: House, *, plan: bool) -> None:
    todo = await steps(at)
    if at.is_unit and not plan:  # a run that was killed may have left files that systemd has not read
        await reload()
    for step in todo:
        is_there = await asyncio.to_thread(step.is_there)
        if not is_there and not plan:
            await step.make()
        _say(plan, step.what, is_there)


def _say(plan: bool, what: str, is_there: bool) -> None:  # noqa: FBT001 - two words of three
    click.echo(f"{'is there:' if is_there else 'to make: ' if plan else 'made:    '} {what}")


def _see_settings(settings: SecretsSettings, at: House) -> None:
    if settings.url and settings.url != at.settings["url"]:
        raise AnotherServer(url=settings.url)


def _missing(settings: SecretsSettings, at: House, state: Path) -> Mapping[str, str]:
    """Return what is to be set; what somebody has set besides stays."""
    wanted = {key: value for key, value in at.settings.items() if getattr(settings, key) != value}
    if settings.snapshot_dir is None:
        wanted["snapshot_dir"] = str(state / "openbao-snapshots")
    return {f"secrets.{key}": value for key, value in wanted.items()}


def _explain(at: House) -> None:
    """Say what only a person can do."""
    if f'"127.0.0.1:{at.at.port}"' not in (file := at.at.configuration / CONFIGURATION).read_text():
        click.echo(f"\nits port is the one in {file}, not {at.at.port}: what is there stays as it is")
    key, here = at.key, at.sealed_key if at.sealed_key.exists() and at.loads_sealed_key else at.key
    click.echo()
    if key.exists():
        click.secho(f"Keep {key} off this machine, too: with your passwords, or on paper.", bold=True)
        click.echo("Without it the values, and every snapshot of them, are lost when this machine is. Beside a copy of")
        click.echo("this disk or a snapshot it opens all of them: nowhere else than where you keep such things.")
        if here != key:
            click.echo(f"Here {here} opens the store, which only this machine can read: then  shred -u {key}")
    if not at.is_unit:
        click.echo(f"\nto start the server, at each boot:  {shlex.join(at.command)}")
    operator = at.at.configuration / OPERATOR_SECRET_ID
    login = f"{at.program} write -field=token auth/approle/login role_id={bao.OPERATOR} secret_id=@{operator}"
    click.echo(f"\nto write a value, as who may read {operator}:")
    click.echo(f"  export BAO_ADDR=unix://{at.at.socket}")
    click.echo(f'  export BAO_TOKEN="$({login})"')
    click.echo(f'  read -rs VALUE; printf %s "$VALUE" | {at.program} kv put secret/homelab/postgres password=-')
    click.echo('then, in the configuration:  password = "openbao:secret/homelab/postgres#password"')
    click.echo("to have the agent take it up:  systemctl restart homelab-agent (or end it and start it again)")
