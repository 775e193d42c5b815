"""`homelab-agent metrics`: what this host's collectors read, without any database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from homelab_agent.core.console import Console
from homelab_agent.core.spool import Scalar
from homelab_agent.metrics.names import METRICS

if TYPE_CHECKING:
    from homelab_agent.metrics.collection import Taken
    from homelab_agent.metrics.collectors.containers import Containers
    from homelab_agent.metrics.sample import Reading
    from homelab_agent.metrics.settings import MetricsSettings

APART_SECONDS = 1.0


@click.group("metrics")
def commands() -> None:
    """Show this host's own numbers."""


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.option("--families", default="", help="Only these, separated by commas (cpu,memory,...).")
@click.pass_obj
def sample(console: Console, families: str, *, as_json: bool) -> None:
    """Read everything twice, a second apart, and print the second reading with its rates."""
    wanted = [family.strip() for family in families.split(",") if family.strip()]
    for family in wanted:
        if family in _ASKED_BY_AGENT:
            message = f"{family} is asked by a running agent now and then: `homelab-agent db psql`, TABLE {family};"
            raise click.UsageError(message)
        if family not in METRICS:
            here = ", ".join(one for one in METRICS if one not in _ASKED_BY_AGENT)
            message = f"there is no family {family}; choose among {here}"
            raise click.UsageError(message)
    taken, lacking = asyncio.run(_twice(console.section("metrics")))
    shown = {family: readings for family, readings in taken.families.items() if not wanted or family in wanted}
    collectors = {
        name: {"status": status.value, "ms": ms, "lacking": lacking.get(name, "")}
        for name, (status, ms) in taken.collectors.items()
    }
    if as_json:
        data: dict[str, Any] = {
            family: [{"key": one.entity.key, "label": one.entity.label, **one.values} for one in readings]
            for family, readings in shown.items()
        }
        console.json({"at": datetime.now(UTC).isoformat(), "families": data, "collectors": collectors})
        return
    for family, readings in shown.items():
        click.secho(family, bold=True)
        if family in _LISTED:
            console.table(*_list(readings, _LISTED[family]))
        else:
            for head, lines in _blocks([(one.entity.label, one.values) for one in readings]):
                console.table(head, lines)
        click.echo()
    if not wanted or shown.keys() < set(wanted):  # what is not there has its reason here
        console.table(
            ("collector", "status", "ms", ""),
            [(name, *one.values()) for name, one in collectors.items()],
        )


async def _twice(settings: MetricsSettings) -> tuple[Taken, Mapping[str, str]]:
    """Return the second sample, and what the host lacks."""
    from homelab_agent.core.clock import Drift, SystemClock
    from homelab_agent.metrics.collection import Collection
    from homelab_agent.metrics.host import Host
    from homelab_agent.metrics.ticker import Tick

    clock = SystemClock()
    collection = Collection(Host(""), settings)
    first = clock.read()
    await collection.take(Tick(first.wall, first, 0, Drift(0.0, 0.0)))
    if collection.unnamed.is_set():
        await _name(collection.containers, settings)
    await clock.sleep(APART_SECONDS)
    second = clock.read()
    slow = timedelta(seconds=settings.slow_interval)  # so that the slow ones have their turn again
    return await collection.take(Tick(second.wall + slow, second, 0, Drift(0.0, 0.0))), collection.lacking


async def _name(containers: Containers, settings: MetricsSettings) -> None:
    """Ask Docker itself what containers are called: there is no root half here. Who may not ask sees ids."""
    from homelab_agent.metrics import docker

    named = {}
    with suppress(docker.DockerSilent):
        named = {one.id: one for one in await asyncio.to_thread(docker.containers, settings.docker)}
    containers.learn(named, containers.unknown - named.keys())


def _blocks(
    entities: Sequence[tuple[str, Mapping[str, Scalar]]],
) -> Sequence[tuple[Sequence[str], Sequence[Sequence[object]]]]:
    """Return tables that fit a terminal: values as lines, entities as columns, a few at a time."""
    blocks = []
    for start in range(0, len(entities), _ENTITIES_ABREAST):
        part = entities[start : start + _ENTITIES_ABREAST]
        lines = [(column, *(_cell(values.get(column)) for _, values in part)) for column in part[0][1]]
        blocks.append((("", *(label for label, _ in part)), lines))
    return blocks


def _list(readings: Sequence[Reading], columns: Sequence[str]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """Return a table of things of which there are many: a line each, what has failed first."""
    first = sorted(readings, key=lambda one: (not one.values.get("failed"), one.entity.label))
    return ("", *columns), [(one.entity.label, *(_cell(one.values[column]) for column in columns)) for one in first]


def _cell(value: Scalar) -> object:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M} UTC"
        case float():
            return f"{value:.{3 if abs(value) >= 1 else 6}f}".rstrip("0").rstrip(".")
        case _:
            return value


_ENTITIES_ABREAST = 5
_ASKED_BY_AGENT = ("forecast", "smart", "probe")
_LISTED = {
    "unit": ("state", "substate", "since", "restarts", "result"),
    "container": ("cpu_pct", "memory_bytes", "memory_pct", "read_bytes", "written_bytes", "oom_kills", "image"),
}
"""Families of many entities, and what a person wants to know of each; all is in the answer for a program."""
