"""How findings and an overview look on a terminal; used by status, doctor and `homelab-agent` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from homelab_agent.core.console import local_time
from homelab_agent.core.health import State

MARKS = {
    State.OK: ("ok", "green"),
    State.DEGRADED: ("degraded", "yellow"),
    State.FAILED: ("FAILED", "red"),
    State.DISABLED: ("off", "bright_black"),
    State.NOT_AVAILABLE: ("not available", "bright_black"),
}
WIDEST = max(len(mark) for mark, _ in MARKS.values())


def show(findings: Iterable[Mapping[str, Any]]) -> None:
    """Print one line a finding (`check`, `state`, `detail`), the repair below it."""
    for finding in findings:
        mark, colour = MARKS[State(finding["state"])]
        expected = f" (announced: {finding['expected']})" if finding.get("expected") else ""
        click.echo(f"  {click.style(mark.ljust(WIDEST), fg=colour)}  {finding['check']}: {finding['detail']}{expected}")
        if finding.get("repair"):
            click.echo(f"  {' ' * WIDEST}  repair: {finding['repair']}")


def show_needs(needs: Iterable[Mapping[str, Any]]) -> int:
    """Print what needs the operator, first of all; return how many things do."""
    needs = list(needs)
    if needs:
        click.secho(f"{len(needs)} need{'s' if len(needs) == 1 else ''} you", bold=True)
    for need in needs:
        click.echo(f"  {need['check']}: {need['detail']}  (since {local_time(need['since'])})")
        if need["repair"]:
            click.echo(f"    repair: {need['repair']}")
    return len(needs)
