"""How a repository stands is the same before and after a restart of the agent, and is said once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.jobs import RunRecord
from homelab_agent.gitops import routes
from tests.clock import MovableClock
from tests.gitops_house import House, action, die, half, house, repository
from tests.half_model import Brake

LAST = action("last")
PROBE = {"kind": "unit", "target": "caddy", "within": 1.0}
Scene = Callable[[House], Awaitable[None]]


async def deployed(here: House) -> None:
    """Have two commits deployed, one after the other."""
    await here.ask()
    await here.closed(await here.push())


async def a_failed_action(here: House) -> None:
    await deployed(here)
    here.tree.broken = frozenset({"last"})
    await here.closed(await here.push())


async def a_probe_that_does_not_hold(here: House) -> None:
    await deployed(here)
    here.tree.holds = False
    guid = await here.push()
    while not (await here.attempts())[guid, 1]["verdict"]:
        await here.clock.advance(1)


async def a_first_deployment_that_failed(here: House) -> None:
    here.tree.head = ""
    here.tree.broken = frozenset({"last"})
    await here.ask()


async def a_commit_that_is_broken(here: House) -> None:
    await deployed(here)
    here.tree.broken_at[here.tree.push({"a": "broken"})] = frozenset({"last"})
    await here.ask()


async def a_good_commit_that_is_not_good_any_more(here: House) -> None:
    await deployed(here)
    here.tree.broken = frozenset({"last"})
    await here.closed(await here.push())


async def a_working_copy_that_was_edited_meanwhile(here: House) -> None:
    await deployed(here)
    here.tree.broken = frozenset({"last"})
    brake = here.half.gate = Brake(("run_action", "after"))
    guid = await here.push()
    await brake.held.wait()
    here.tree.dirty = True
    brake.release()
    await here.closed(guid)


async def a_rollback(here: House) -> None:
    await deployed(here)
    await here.run("gitops.rollback.homelab")


async def a_rollback_to_what_is_not_good_any_more(here: House) -> None:
    await deployed(here)
    here.tree.broken = frozenset({"last"})
    await here.run("gitops.rollback.homelab")


async def a_rollback_that_was_refused(here: House) -> None:
    await a_failed_action(here)
    here.tree.dirty = True
    await here.run("gitops.rollback.homelab")
    here.tree.dirty = False
    ran = len(here.tree.ran)
    await here.service.poll.look("homelab")
    await here.quiet()
    assert len(here.tree.ran) == ran, "what failed is not tried again for that"


async def a_rollback_of_what_failed(here: House) -> None:
    await a_failed_action(here)
    here.tree.broken = frozenset()
    await here.run("gitops.rollback.homelab")


async def a_rollback_that_a_person_stopped(here: House) -> None:
    await deployed(here)
    brake = here.half.gate = Brake(("run_action", "before"))
    run = await here.base.jobs.start("gitops.rollback.homelab")
    await brake.held.wait()
    await here.base.jobs.cancel(run)
    assert (await here.ended(run)).state == "cancelled"
    here.half.gate = None


MANUAL: list[Scene] = [
    a_rollback_that_a_person_stopped,
    a_failed_action,
    a_probe_that_does_not_hold,
    a_first_deployment_that_failed,
    a_rollback,
    a_rollback_to_what_is_not_good_any_more,
    a_rollback_that_was_refused,
    a_rollback_of_what_failed,
    deployed,
]
AUTOMATIC: list[Scene] = [
    a_commit_that_is_broken,
    a_good_commit_that_is_not_good_any_more,
    a_working_copy_that_was_edited_meanwhile,
]


async def standing(here: House) -> dict[str, Any]:
    """Return how it stands, in the words of the check and of `GET /api/gitops`."""
    finding = await here.finding()
    fields = here.service.status.as_fields("homelab")
    assert (fields["state"], fields["detail"], fields["repair"]) == (finding.state, finding.detail, finding.repair)
    return {name: fields[name] for name in ("deployed", "state", "detail", "repair")}


@pytest.mark.parametrize(
    ("rollback", "scene"),
    [*(("manual", scene) for scene in MANUAL), *(("automatic", scene) for scene in AUTOMATIC)],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_the_advice_is_the_same_before_and_after_a_restart(tmp_path: Path, rollback: str, scene: Scene) -> None:
    section = repository("homelab", LAST, rollback=rollback, probe=[PROBE])
    root_half, clock = half(), MovableClock()
    async with house(tmp_path, root_half, section, clock=clock) as here:
        await scene(here)
        before = await standing(here)
        assert (before["state"] == "ok") == (scene is deployed)
    async with house(tmp_path, root_half, section, clock=clock) as here:
        assert await standing(here) == before


async def test_an_action_that_was_cut_short_is_said_by_each_agent_that_starts(tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, repository("homelab", LAST)) as here:
        await here.ask()
        brake = root_half.gate = Brake(("run_action", "before"))
        await here.push()
        await brake.held.wait()
        await die()
    root_half.gate = None
    async with house(tmp_path, root_half, repository("homelab", LAST)) as here:
        before = await standing(here)
        assert before["detail"].startswith("interrupted: action last was cut short")
        assert before["repair"] == "homelab-agent gitops sync homelab"
    async with house(tmp_path, root_half, repository("homelab", LAST)) as here:
        assert await standing(here) == before


async def test_how_far_the_branch_is_ahead_is_known_since_a_look_and_what_is_bad_since_a_rollback(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        status = here.service.status
        assert [status.as_fields("homelab")[name] for name in ("behind", "looked_at")] == [None, None]
        await deployed(here)
        assert status.as_fields("homelab")["behind"] == 0
        bad = here.tree.head
        await here.run("gitops.rollback.homelab")
        here.clock.step(60)
        await here.service.poll.look("homelab")
        fields = status.as_fields("homelab")
        assert (fields["behind"], fields["looked_at"]) == (1, here.clock.read().wall)
        assert fields["bad"] == [{"sha": bad, "why": f"rolled back to {here.tree.head[:7]}: a person asked for it"}]
    async with house(tmp_path, here.half, repository("homelab", LAST)) as here:
        await here.quiet()
        assert here.service.status.as_fields("homelab")["bad"] == fields["bad"]


def test_a_run_that_waits_for_another_s_end_is_not_at_work() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    waits = RunRecord("1", "gitops.sync.homelab", "webhook", "waiting", now, waits_for="backup.nightly")
    works = RunRecord("2", "gitops.rollback.homelab", "command", "running", now)
    other = RunRecord("3", "gitops.sync.homelab2", "webhook", "running", now)
    assert routes._under_way("homelab", [other]) == {"busy": False, "run": None, "waits_for": ""}
    assert routes._under_way("homelab", [other, waits]) == {"busy": False, "run": "1", "waits_for": "backup.nightly"}
    assert routes._under_way("homelab", [waits, works]) == {"busy": True, "run": "2", "waits_for": ""}


async def test_what_is_wrong_is_one_need_and_not_two(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        here.base.health.add(here.base.jobs.checks())
        await a_failed_action(here)
        await here.quiet()
        await here.base.health.probe_all()
        assert [one.check for one in here.base.health.picture() if one.needs_operator] == ["gitops.homelab"]
