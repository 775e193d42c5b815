"""What the example of docs/notify.md promises: who hears of failures only hears of a failed job and an old copy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from homelab_agent.core.health import Finding
from homelab_agent.core.jobs import Job, Outcome, Run
from homelab_agent.gitops import status
from homelab_agent.metrics import failures
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.sample import Reading
from tests.clock import until
from tests.neighbours.ntfy import Ntfy
from tests.notified import Room, room, secret

EXAMPLE = Path("docs/notify.md").read_text().split("```toml\n")[1].split("```")[0]
STALE = Finding.degraded("the newest copy is 40 hours old", "homelab-agent backup run home")
SLOW = {"grace": 0, "grace_degraded": 86400, "group": 0}


async def damaged(_run: Run) -> Outcome:
    return Outcome(ok=False, detail="home-1 is damaged", repair="homelab-agent backup run")


def example(directory: Path, name: str, ntfy: Ntfy) -> dict[str, Any]:
    """Return a target of the example, with an address here."""
    [found] = [one for one in tomllib.loads(EXAMPLE)["notify"]["target"] if one["name"] == name]
    return {**found, "url": secret(directory, name, ntfy.url()), "quiet": ""}


async def failed(house: Room, job: str) -> None:
    """Run a job, and have health ask how that ended."""
    await house.base.jobs.start(job)
    await until(lambda: (last := house.base.jobs.last(job)) is not None and last.ended, "it has ended")
    await house.base.health.probe(f"job.{job}")


async def test_the_examples_mailbox_hears_of_a_stale_backup_and_of_a_job_that_failed(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    section = {**SLOW, "target": [example(tmp_path, "mail", ntfy)]}
    verify = Job("backup.verify", damaged, 60.0)
    async with room(tmp_path, section, checks=("backup.home", "database.shipping"), jobs=(verify,)) as house:
        house.base.health.add(house.base.jobs.checks())
        house.report("database.shipping", Finding.failed("is not for this mailbox"))
        house.report("backup.home", STALE)
        await until(lambda: len(ntfy.messages) == 1, "the copy is told")
        await failed(house, "backup.verify")
        await until(lambda: len(ntfy.messages) == 2, "the job is told")
        assert house.finding("backup.home").state == "degraded", "it is no reason to call the agent failed"
    assert [one.title for one in ntfy.messages] == ["nas: backup.home is failed", "nas: job.backup.verify is failed"]


async def test_a_failed_deployment_and_a_failed_unit_are_told_as_failures_and_a_worn_disk_is_not(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    section = {**SLOW, "target": [{**example(tmp_path, "phone", ntfy), "severity": "failed"}]}
    unit = Reading(Entity(1, "unit", "cron.service", "cron.service"), {"failed": True, "since": None, "result": None})
    async with room(tmp_path, section, checks=("gitops.site", "metrics.units", "metrics.disks")) as house:
        house.report("metrics.disks", Finding.degraded("sda: 92 % of what it was made for is used up", about=["sda"]))
        house.report("gitops.site", status.trouble("action_failed", "make ended with 2", "homelab-agent gitops show"))
        house.report("metrics.units", failures.of_units([unit]))
        await until(lambda: len(house.rows("SELECT 1 FROM notify_case")) == 2, "both are told")
        await until(lambda: not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL"), "and were sent")
    told = " ".join(one.message for one in ntfy.messages)
    assert "gitops.site is failed" in told
    assert "metrics.units is failed" in told
    assert "metrics.disks" not in told
