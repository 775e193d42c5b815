"""`homelab-agent db`: what PostgreSQL holds, what it refused, its schema, a way in; with and without an agent."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError
from homelab_agent.database import binaries, doctor, editions, filling, info, migrations, pool, rejected
from homelab_agent.database.address import Address
from homelab_agent.database.moving import asking
from homelab_agent.database.pool import Connection

T = TypeVar("T")


class NoClient(AgentError):
    """{program} is not installed."""

    repair = "apt install postgresql-client"


@click.group(name="db")
def commands() -> None:
    """PostgreSQL: what it holds, what it refused, its schema, a way in."""


@commands.command(name="info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, sizes in bytes.")
@click.pass_obj
def show_info(console: Console, *, as_json: bool) -> None:
    """Tell edition, versions, sizes, and how many bytes a day adds."""

    async def read(connection: Connection) -> info.Info:
        return await info.read(connection, await editions.look(connection))

    where = _address(console)
    found = _ask(where, read)
    if as_json:
        console.json({"address": where.shown, **dataclasses.asdict(found)})
        return
    click.echo(f"{found.edition}\n{where.shown}")
    total, daily = _mebibytes(found.bytes), _mebibytes(found.bytes_per_day)
    click.echo(f"{total} MiB in all, {daily} MiB more per day; {found.migrations} migrations applied\n")
    rows = ((table.name, _mebibytes(table.bytes), _mebibytes(table.bytes_per_day)) for table in found.tables)
    console.table(("table", "MiB", "MiB per day"), rows)


@commands.command()
@click.option("--plan", is_flag=True, help="Print the SQL that would run, and change nothing.")
@click.pass_obj
def migrate(console: Console, *, plan: bool) -> None:
    """Bring the schema up to date, as the agent does when it starts."""

    async def pending(connection: Connection) -> list[migrations.Migration]:
        undo = connection.transaction()
        await undo.start()
        try:
            loaded = await _loaded(await editions.prepare(connection))
            return migrations.pending(loaded, await migrations.read_applied(connection))
        finally:
            await undo.rollback()

    async def apply(connection: Connection) -> list[migrations.Migration]:
        edition = await editions.prepare(connection)
        return await migrations.apply(connection, await _loaded(edition), edition=edition.name)

    found = _ask(_address(console), pending if plan else apply)
    for migration in found:
        click.echo(f"-- {migration.file}\n{migration.sql}" if plan else f"applied {migration.file}")
    if not found:
        click.echo("The schema is up to date." if not plan else "-- nothing to do")


@commands.command(name="rejected")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every value whole.")
@click.pass_obj
def show_rejected(console: Console, limit: int, *, as_json: bool) -> None:
    """Show the rows that PostgreSQL refused and why, newest first."""
    found = rejected.read(console.find_state(), limit)
    if as_json:
        console.json([rejected.document(one) for one in found])
    elif found:
        rows = ((local_time(one.at.isoformat()), *rejected.cells(one)) for one in found)
        console.table(("refused", "table", "reason", "key", "values"), rows)
    else:
        click.echo("PostgreSQL has refused nothing.")


@commands.command()
@click.option(
    "--to", metavar="ADDRESS", required=True, help="As [database] url takes it, also a reference, or embedded."
)
@click.option("--password", metavar="REFERENCE", default="", help="As [database] password takes it.")
@click.option("--plan", is_flag=True, help="Tell what would be copied, and change nothing.")
@click.option("--yes", is_flag=True, help="Change over without a question.")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait; it changes over only with --yes.")
@click.pass_obj
def move(console: Console, to: str, password: str, *, plan: bool, yes: bool, detach: bool) -> None:
    """Copy all history to another PostgreSQL while the agent works, then have the agent use that one.

    Given again it goes on where it was cut short. Ctrl-C stops following, not the run.
    """
    asking.move(console, to, password, plan=plan, yes=yes, detach=detach)


@commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(console: Console, words: tuple[str, ...]) -> None:
    """Open psql on the agent's database; WORDS are psql's own options."""
    _become(console, "psql", *words)


@commands.command()
@click.pass_obj
def dump(console: Console) -> None:
    """Write the agent's database to standard output, for `db load`: pg_dump's custom format."""
    if sys.stdout.isatty():
        raise click.UsageError("the dump is no text: homelab-agent db dump > FILE")
    _become(console, "pg_dump", "--format=custom", "--compress=1")


@commands.command()
@click.option("--new", type=click.Path(path_type=Path), help="Into a new embedded database below this directory.")
@click.pass_obj
def load(console: Console, new: Path | None) -> None:
    """Have the database be what a dump on standard input says; what is there now is dropped. Stop the agent first."""
    if sys.stdin.isatty():
        raise click.UsageError("there is no dump: homelab-agent db load < FILE")
    if new is not None:
        asyncio.run(filling.fill(new.absolute(), sys.stdin.fileno()))
    else:
        _become(console, "pg_restore", *filling.WORDS)


def _become(console: Console, name: str, *words: str) -> None:
    """Become one of PostgreSQL's own programs, on the agent's database."""
    where = _address(console)
    own = binaries.of_wheel()
    program = own.path(name) if own else shutil.which(name)
    if program is None:
        raise NoClient(program=name)
    # The password goes by the environment: arguments are there for everyone to see.
    env = {**os.environ, "PGPASSWORD": where.password, "PGOPTIONS": "-c search_path=homelab,public"}
    # By its whole path: that is where it looks for what belongs to it.
    os.execve(program, [program, f"--dbname={where.shown}", *words], env)  # noqa: S606 - it takes over


async def _loaded(edition: editions.Edition) -> list[migrations.Migration]:
    return await asyncio.to_thread(migrations.load, edition.name)


def _address(console: Console) -> Address:
    return doctor.find_address(console.section("database"), console.find_state(), console.secrets())


def _ask(where: Address, question: Callable[[Connection], Awaitable[T]]) -> T:
    """Return the answer to a question, on a connection of its own."""

    async def ask() -> T:
        async with pool.single(where, repair="start it: homelab-agent run, or see [database] url") as connection:
            return await question(connection)

    return asyncio.run(ask())


def _mebibytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 2**20:.2f}"
