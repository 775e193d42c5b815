"""The command line: the agent's own commands and the rooms', collected; each is imported when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homelab_agent import __version__, capabilities
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError, Exit

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Entry:
    """A command's name, the module that holds it as `commands`, and its line in the list."""

    name: str
    module: str
    line: str


GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Run",
        (
            Entry("run", "commands.run", "Run the agent in the foreground (what the service does)."),
            Entry("reload", "commands.reload", "Apply a changed configuration without a restart."),
        ),
    ),
    (
        "Look",
        (
            Entry("status", "commands.status", "Tell how the running agent stands."),
            Entry("doctor", "commands.doctor", "Check everything now, also without a running agent."),
            Entry("jobs", "commands.jobs", "List, run and follow jobs."),
            Entry("timeline", "commands.timeline", "What happened, in one list, each cause before its effect."),
            Entry("logs", "commands.logs", "The agent's events from the journal; follow them."),
        ),
    ),
    (
        "Set up",
        (
            Entry("config", "commands.config", "Check, show and change the configuration."),
            Entry("web", "web.commands", "Log in to the page; API tokens."),
            Entry("db", "database.commands", "PostgreSQL: what it holds, migrations."),
            Entry("secrets", "secrets.commands", "Which secrets there are; OpenBao for them, from nothing."),
            Entry("completion", "commands.completion", "Completion of all this in bash, zsh or fish."),
        ),
    ),
    (
        "Capabilities",
        tuple(
            entry
            for entry in (
                Entry("metrics", "metrics.commands", "This host's own numbers."),
                Entry("gitops", "gitops.commands", "Deploy from git: what is deployed, sync, rollback, set-up."),
                Entry("deliveries", "gitops.delivery_commands", "The webhooks that came, and what became of each."),
                Entry("gate", "gate.commands", "The doors to the internet and the tailnet: why they are open or shut."),
                Entry("reading", "reading.commands", "Sync what was read into PostgreSQL, and prove that all came."),
                Entry("notify", "notify.commands", "Who is told what needs a person: a test, a mute, what was told."),
                Entry("backup", "backup.commands", "Back up what containers keep, and read it back."),
                Entry(
                    "restore", "backup.restore_command", "Bring a copy back, in place or beside it, each file proven."
                ),
            )
            if entry.module.partition(".")[0] in capabilities.NAMES
        ),
    ),
)


INSIDE = (
    Entry("privileged", "commands.privileged", "The root half: does for the agent what needs root."),
    Entry("state", "commands.state", "A copy of state.db."),
    Entry("catalogue", "commands.catalogue", "What each event means, for the journal's own -x."),
    Entry("installing", "installing.commands", "What make install and make upgrade ask of a release."),
)
"""What a unit, the agent, its root half or a script starts, and no person."""

BESIDE: Mapping[str, tuple[Entry, ...]] = {
    "db": tuple(
        entry
        for entry in (
            Entry("import-reference", "commands.import_reference", "Take over a table `system_metrics` of before."),
        )
        if "metrics" in capabilities.NAMES
    ),
}
"""By group: commands in it that are not its room's alone, for they put two rooms together."""


class Commands(click.Group):
    """Finds a command's module by `GROUPS`, so that none is imported for another's sake."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return every command's name, in the order of `GROUPS`."""
        return [entry.name for _, entries in GROUPS for entry in entries]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command; None when there is none of that name."""
        for entry in (*INSIDE, *(entry for _, entries in GROUPS for entry in entries)):
            if entry.name == cmd_name:
                command = _imported(entry)
                for other in BESIDE.get(entry.name, ()):
                    assert isinstance(command, click.Group)  # noqa: S101 - `BESIDE` is of groups
                    command.add_command(_imported(other), other.name)
                return command
        return None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name or an option; no command is imported for it, for a person waits at each TAB."""
        from click.shell_completion import CompletionItem

        entries = [entry for _, entries in GROUPS for entry in entries if entry.name.startswith(incomplete)]
        names = [CompletionItem(entry.name, help=entry.line) for entry in entries]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands in their groups."""
        for title, entries in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.line) for entry in entries])


def _imported(entry: Entry) -> click.Command:
    command = importlib.import_module(f"homelab_agent.{entry.module}").commands
    assert isinstance(command, click.Command)  # noqa: S101 - a room's contract
    return command


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="Where the agent listens.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="homelab-agent")
@click.pass_context
def commands(ctx: click.Context, config_path: Path | None, socket_path: Path | None, *, debug: bool) -> None:
    """One process that does the host-side work of a home server.

    Without a command: what needs you, what is off and how to enable it.
    """
    from homelab_agent import places  # what finds the configuration imports pydantic: not for --help
    from homelab_agent.config import writer

    ctx.obj = Console(
        load=lambda: places.settings(config_path),
        find_socket=lambda: socket_path or places.socket(config_path),
        find_state=lambda: places.state_directory(places.settings(config_path).agent),
        secrets=lambda: places.secrets(places.settings(config_path)),
        whereabouts=lambda: places.whereabouts(config_path, places.settings(config_path)),
        find_configuration=lambda: writer.target(config_path),
        add_entry=writer.add_entry,
        set_values=writer.set_values,
        debug=debug,
    )
    if ctx.invoked_subcommand is None:
        from homelab_agent.commands import overview

        overview.show(ctx.obj)
        click.echo()
        formatter = ctx.make_formatter()
        commands.format_commands(ctx, formatter)
        click.echo(formatter.getvalue().rstrip())


def main() -> None:
    """Run the command line; every error ends as message, cause and repair, without a traceback."""
    debug = "--debug" in sys.argv
    try:
        code = commands.main(prog_name="homelab-agent", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = Exit.USAGE if isinstance(error, click.UsageError) else Exit.FAILED
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = Exit.OK
    except AgentError as error:
        if debug:
            raise
        Console.problem(error.message, error.cause, error.repair)
        code = error.exit_code
    except Exception as error:  # no traceback reaches a person
        if debug:
            raise
        Console.problem(
            "homelab-agent met something it did not expect.",
            f"{type(error).__name__}: {error}",
            "run it again with --debug and report what it prints",
        )
        code = Exit.FAILED
    sys.exit(code if isinstance(code, int) else 0)
