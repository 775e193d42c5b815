"""`homelab-agent jobs`: what runs when, what ran, and one run as it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import click

from homelab_agent.core.client import AgentNotRunning
from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.http import Event


class RunFailed(AgentError):
    """{job} ended as {state}."""

    repair = "{repair}"


class RunLostSight(AgentError):
    """The agent stopped before the run {run} of {job} ended."""

    repair = "homelab-agent jobs follow {run}  (once it runs again)"
    exit_code = Exit.UNREACHABLE


@click.group("jobs")
def commands() -> None:
    """List, run and follow jobs."""


@commands.command("list")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def list_jobs(console: Console, *, as_json: bool) -> None:
    """List the jobs, when each runs next and how it ended last."""
    jobs = console.client().get("/api/jobs")["jobs"]
    if as_json:
        console.json(jobs)
        return
    rows = (
        (
            job["name"],
            job["schedule"] or "on demand",
            local_time(job["next"]),
            job["last"] and f"{job['last']['state']} {local_time(job['last']['ended_at'])}",
            job["description"],
        )
        for job in jobs
    )
    console.table(("job", "schedule", "next", "last", "what it does"), rows)


@commands.command("history")
@click.argument("job", default="")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def history(console: Console, job: str, limit: int, *, as_json: bool) -> None:
    """Show the last runs, of one job or of all."""
    runs = console.client().get("/api/runs", job=job, limit=limit)["runs"]
    if as_json:
        console.json(runs)
        return
    rows = (
        (
            local_time(run["requested_at"]),
            *(run[key] for key in ("job", "trigger", "state", "detail", "id")),
            _took(run),
        )
        for run in runs
    )
    console.table(("asked", "job", "by", "result", "detail", "run", "took"), rows)


@commands.command("run")
@click.argument("job")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.pass_obj
def run(console: Console, job: str, *, detach: bool) -> None:
    """Run a job now and follow it; Ctrl-C stops following, not the job."""
    run_id = console.client().post(f"/api/jobs/{quote(job, safe='')}/run")["run"]
    if detach:
        click.echo(run_id)
    else:
        _follow(console, run_id)


@commands.command("follow")
@click.argument("run_id", metavar="RUN")
@click.pass_obj
def follow(console: Console, run_id: str) -> None:
    """Follow a run until it ends; exit 1 when it fails."""
    _follow(console, run_id)


@commands.command("cancel")
@click.argument("run_id", metavar="RUN")
@click.pass_obj
def cancel(console: Console, run_id: str) -> None:
    """Ask a run to stop."""
    console.client().post(f"/api/runs/{quote(run_id, safe='')}/cancel")
    click.echo("asked to stop; see: homelab-agent jobs history")


def _follow(console: Console, run_id: str) -> None:
    last: Mapping[str, Any] = {}
    with click.progressbar(length=1000, show_eta=False, label=run_id[:8]) as bar:
        for event in _events(console, run_id):
            last = cast("Mapping[str, Any]", event.data)
            bar.label = f"{last['job']}: {_note(last)}"
            progress = last["progress"] or {}
            if progress.get("total"):
                bar.update(int(1000 * min(1.0, progress["done"] / progress["total"])) - bar.pos)
            else:
                bar.render_progress()
            if last["ended_at"]:
                bar.update(1000 - bar.pos)
                break
    if not last or not last["ended_at"]:
        raise RunLostSight(run=run_id, job=last.get("job", "its job"))
    click.echo(f"{last['job']}: {last['state']}, {last['detail'] or 'nothing to say'}{_took(last, ' in ')}")
    if last["state"] != "ok":
        raise RunFailed(job=last["job"], state=last["state"], repair=last["repair"], cause=last["detail"])


def _events(console: Console, run_id: str) -> Iterator[Event]:
    """Yield a run's events; that the agent goes away meanwhile is the end of them."""
    seen = False
    try:
        for event in console.client().events(f"/api/runs/{quote(run_id, safe='')}/events"):
            seen = True
            yield event
    except AgentNotRunning:
        if not seen:
            raise


def _note(run: Mapping[str, Any]) -> str:
    if run["waits_for"]:
        return f"waits for {run['waits_for']}"
    progress = run["progress"]
    if not progress:
        return str(run["state"])
    total = f"/{progress['total']:g}" if progress["total"] else ""
    return f"{progress['done']:g}{total} {progress['unit']} {progress['note']}".strip()


def _took(run: Mapping[str, Any], before: str = "") -> str:
    if not run["started_at"]:
        return ""
    start = datetime.fromisoformat(run["started_at"])
    end = datetime.fromisoformat(run["ended_at"]) if run["ended_at"] else datetime.now(UTC)
    return f"{before}{(end - start).total_seconds():.1f} s"
