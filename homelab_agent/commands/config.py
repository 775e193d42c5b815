"""`homelab-agent config`: check, show and change the configuration."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import click

from homelab_agent import config, places
from homelab_agent.config import environment, keys, reference, sample, show, writer
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError


class NoConfiguration(AgentError):
    """There is no configuration file; every key has its default."""

    repair = "homelab-agent config sample > config.toml"


@click.group("config")
def commands() -> None:
    """Check, show and change the configuration."""


def _given() -> Path | None:
    """Return what `homelab-agent --config` was given."""
    path: Path | None = click.get_current_context().find_root().params.get("config_path")
    return path


def _load() -> config.Loaded[config.Settings]:
    loaded = config.load(_given())
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded


@commands.command("check")
def check() -> None:
    """Name everything that is wrong with the configuration, all at once; exit 78 when something is."""
    loaded = _load()
    click.echo(f"{loaded.path or 'the defaults'}: no faults")


@commands.command("show")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def show_values(console: Console, *, as_json: bool) -> None:
    """Show every key in force and where its value came from; secrets are masked."""
    values = list(show.values(_load()))
    if as_json:
        console.json([dataclasses.asdict(one) for one in values])
        return
    rows = ((one.key, one.origin, "" if one.value is None else keys.toml(one.value)) for one in values)
    console.table(("key", "from", "value"), rows)


@commands.command("schema")
@click.pass_obj
def schema(console: Console) -> None:
    """Print the JSON Schema of the file, for an editor."""
    console.json(reference.schema(config.Settings))


@commands.command("set")
@click.argument("key")
@click.argument("value")
def set_value(key: str, value: str) -> None:
    """Set KEY ("web.listen") to VALUE in the file; its comments stay.

    VALUE is text as it stands, or TOML where the key takes something else: 10, true, '["a", "b"]'.
    """
    path = writer.target(_given())
    named = tuple(key.split("."))
    typed = environment.typed(keys.find(config.Settings, named), value)
    writer.set_values(path, {key: typed}, again=("config", "set", key, value))
    click.echo(f"{path}: {key} is set; to apply it: homelab-agent reload")
    if (variable := environment.variable_of(named)) in os.environ:
        click.echo(f"warning: ${variable} goes before it", err=True)


@commands.command("sample")
def print_sample() -> None:
    """Print the commented config.toml with every key's default."""
    click.echo(sample.sample(config.Settings), nl=False)


@commands.command("reference")
def print_reference() -> None:
    """Print the reference of every key (docs/configuration.md)."""
    click.echo(reference.reference(config.Settings), nl=False)


@commands.command("host")
def host() -> None:
    """Print this host's name in every row and log line; `make up` has Loki call it the same."""
    click.echo(places.host(_load().settings.agent))


@commands.command("path")
def path() -> None:
    """Print which file is in force."""
    found = config.loading.find(_given())
    if found is None:
        raise NoConfiguration
    click.echo(found)
