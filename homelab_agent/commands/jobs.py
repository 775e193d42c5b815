"""`homelab-agent jobs`: what runs when, what ran, and one run as it goes."""

from __future__ import annotations

from urllib.parse import quote

import click

from homelab_agent.core import following
from homelab_agent.core.console import Console, local_time


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
            following.took(run),
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
        following.follow(console, run_id, following.print_above)


@commands.command("follow")
@click.argument("run_id", metavar="RUN")
@click.pass_obj
def follow(console: Console, run_id: str) -> None:
    """Follow a run until it ends, and show what it says; exit 1 when it fails."""
    following.follow(console, run_id, following.print_above)


@commands.command("cancel")
@click.argument("run_id", metavar="RUN")
@click.pass_obj
def cancel(console: Console, run_id: str) -> None:
    """Ask a run to stop."""
    console.client().post(f"/api/runs/{quote(run_id, safe='')}/cancel")
    click.echo("asked to stop; see: homelab-agent jobs history")
