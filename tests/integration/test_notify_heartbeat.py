"""Silence is missed elsewhere: the agent calls while it does its work, and each run of a job says how it went."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from homelab_agent.core.health import Check, Finding
from homelab_agent.core.jobs import Job, Outcome, Run
from tests.clock import until
from tests.neighbours.monitors import Healthchecks, UptimeKuma
from tests.notified import nothing, room, secret


def heartbeat(directory: Path, url: str, jobs: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    told = [{"job": job, "url": secret(directory, job, address)} for job, address in (jobs or {}).items()]
    of_agent = {"url": secret(directory, "heartbeat", url)} if url else {}
    return {"heartbeat": {**of_agent, "every": 1, "job": told, **more}}


async def fails(run: Run) -> Outcome:
    for number in range(60):
        run.say(f"line {number}")
    run.say("with canary-of-a-password")
    return Outcome(ok=False, detail="the disk is full")


async def test_the_agent_calls_as_long_as_the_watchdogs_truth_holds(tmp_path: Path, healthchecks: Healthchecks) -> None:
    address = healthchecks.check()
    async with room(tmp_path, heartbeat(tmp_path, address)) as house:
        await until(lambda: len(healthchecks.of(address)) >= 2, "it calls, again and again")
        assert house.finding("notify.heartbeat").state == "ok"
        house.base.health.add([Check("sampling", blocks=frozenset({"watchdog"}))])
        house.report("sampling", Finding.failed("no sample was taken"))
        await until(lambda: house.finding("notify.heartbeat").state == "degraded", "it knows that it is silent")
        count = len(healthchecks.of(address))
        await asyncio.sleep(2.5)  # two calls' time
        assert len(healthchecks.of(address)) == count
        house.report("sampling", Finding.ok("taken"))
        await until(lambda: len(healthchecks.of(address)) > count, "it calls again")


SAMPLING = Check("sampling", blocks=frozenset({"watchdog"}))


async def test_at_a_start_it_calls_as_soon_as_it_was_asked_whether_samples_are_taken_and_says_no_falsehood(
    tmp_path: Path, healthchecks: Healthchecks
) -> None:
    address = healthchecks.check()
    async with room(tmp_path, heartbeat(tmp_path, address, every=3600), checks=(SAMPLING,)) as house:
        with house.base.health.changes.subscribe() as changes:
            await asyncio.sleep(0.5)  # it has all the time to say something wrong
            assert not healthchecks.of(address)
            house.report("sampling", Finding.ok("taken"))
            await until(lambda: healthchecks.of(address), "it calls at once")
            await until(lambda: house.finding("notify.heartbeat").detail == "its calls are taken", "and knows it")
            said = [changes.get_nowait().after for _ in range(changes.qsize())]
    assert not [one for one in said if one.in_trouble]


async def test_while_it_is_silent_it_looks_often_though_it_calls_seldom(
    tmp_path: Path, healthchecks: Healthchecks
) -> None:
    address = healthchecks.check()
    async with room(tmp_path, heartbeat(tmp_path, address, every=3600), checks=(SAMPLING,)) as house:
        house.report("sampling", Finding.failed("no sample was taken"))
        await until(lambda: house.finding("notify.heartbeat").state == "degraded", "it is silent")
        assert not healthchecks.of(address)
        house.report("sampling", Finding.ok("taken"))
        await until(lambda: healthchecks.of(address), "it calls", seconds=15)
        await until(lambda: house.finding("notify.heartbeat").state == "ok", "and knows it")


async def test_a_run_tells_its_start_and_that_it_went_well(tmp_path: Path, healthchecks: Healthchecks) -> None:
    address = healthchecks.check()
    section = heartbeat(tmp_path, "", {"tidy": address})
    async with room(tmp_path, section, jobs=(Job("tidy", nothing, deadline=5),)) as house:
        run = await house.base.jobs.start("tidy")
        await until(lambda: len(healthchecks.of(address)) == 2, "both are told")
    start, success = healthchecks.of(address)
    assert (start.kind, start.rid) == ("start", run)
    assert (success.kind, success.rid, success.body) == ("", run, "ok: nothing to do")


async def test_a_run_that_fails_tells_its_last_lines_without_secrets_however_late_the_other_side_is(
    tmp_path: Path, healthchecks: Healthchecks
) -> None:
    address = healthchecks.check()
    section = heartbeat(tmp_path, "", {"tidy": address})
    async with room(tmp_path, section, jobs=(Job("tidy", fails, deadline=5),)) as house:
        house.base.redactor.add("canary-of-a-password")
        healthchecks.fail(503)
        await house.base.jobs.start("tidy")
        await until(lambda: healthchecks.asked, "it was tried")
        healthchecks.mend()
        await until(lambda: any(one.kind == "fail" for one in healthchecks.of(address)), "it is told", seconds=30)
    lines = healthchecks.of(address)[-1].body.splitlines()
    assert lines[0] == "failed: the disk is full"
    assert lines[1:] == [*(f"line {number}" for number in range(11, 60)), "with ***"]


async def test_a_check_that_is_not_there_is_no_answer(tmp_path: Path, healthchecks: Healthchecks) -> None:
    gone = f"http://127.0.0.1:{healthchecks.port}/ping/0f0f0f0f-0000-4000-8000-000000000000"
    async with room(tmp_path, heartbeat(tmp_path, gone)) as house:
        await until(lambda: house.finding("notify.heartbeat").state == "degraded", "it is said")
        said = house.finding("notify.heartbeat").detail
    assert "OK (not found)" in said
    assert "0f0f0f0f" not in said


async def lasts(run: Run) -> Outcome:
    await run.cancelled.wait()
    return Outcome(ok=False, detail="it was told to stop")


async def test_a_run_that_is_cancelled_ends_there_too(tmp_path: Path, healthchecks: Healthchecks) -> None:
    address = healthchecks.check()
    section, tidy = heartbeat(tmp_path, "", {"tidy": address}), Job("tidy", lasts, deadline=90)
    async with room(tmp_path, section, jobs=(tidy,)) as house:
        run = await house.base.jobs.start("tidy")
        await until(lambda: [one.kind for one in healthchecks.of(address)] == ["start"], "its start is told")
        await house.base.jobs.cancel(run)
        await until(lambda: len(healthchecks.of(address)) == 2, "its end is told")
    assert (healthchecks.of(address)[1].kind, healthchecks.of(address)[1].rid) == ("fail", run)
    assert healthchecks.of(address)[1].body.startswith("cancelled")


async def test_an_address_that_is_none_ends_no_beat(tmp_path: Path, healthchecks: Healthchecks) -> None:
    good = healthchecks.check()
    section = heartbeat(tmp_path, "http://[bad", {"bad": "http://[worse/x", "tidy": good})
    jobs = (Job("bad", nothing, deadline=5), Job("tidy", nothing, deadline=5))
    async with room(tmp_path, section, jobs=jobs) as house:
        await until(lambda: house.finding("notify.heartbeat").state == "degraded", "it is said")
        assert "[bad" not in house.finding("notify.heartbeat").detail
        await house.base.jobs.start("bad")
        await house.base.jobs.start("tidy")
        await until(lambda: len(healthchecks.of(good)) == 2, "the other job is told")


async def test_a_slug_is_no_secret(tmp_path: Path, healthchecks: Healthchecks) -> None:
    key = "fqOOd6-F4MMNuCEnzTU01w"
    address = f"http://127.0.0.1:{healthchecks.port}/ping/{key}/homelab-agent"
    async with room(tmp_path, heartbeat(tmp_path, address)) as house:
        await until(lambda: house.finding("notify.heartbeat").state == "degraded", "it is called")
        assert house.base.redactor.mask(f"homelab-agent doctor web {key}") == "homelab-agent doctor web ***"


async def test_what_is_answered_is_masked_before_it_is_cut(tmp_path: Path, healthchecks: Healthchecks) -> None:
    address = healthchecks.check()
    async with room(tmp_path, heartbeat(tmp_path, address)) as house:
        house.base.redactor.add("canary-of-a-long-password")
        for pad in range(150, 200, 10):
            healthchecks.fail(500, body=b"x" * pad + b" canary-of-a-long-password")
            healthchecks.asked.clear()
            await until(lambda: len(healthchecks.asked) >= 2, "it is called and answered")
            assert "canary" not in house.finding("notify.heartbeat").detail


async def test_uptime_kuma_is_told_up_and_down(tmp_path: Path, uptime_kuma: UptimeKuma) -> None:
    section = heartbeat(tmp_path, uptime_kuma.url, {"tidy": uptime_kuma.url}, kind="uptime-kuma")
    async with room(tmp_path, section, jobs=(Job("tidy", fails, deadline=5),)) as house:
        await until(lambda: ("up", "OK") in uptime_kuma.beats, "the agent is up")
        await house.base.jobs.start("tidy")
        await until(lambda: any(status == "down" for status, _ in uptime_kuma.beats), "the job is down")
    said = next(text for status, text in uptime_kuma.beats if status == "down")
    assert said.startswith("failed: the disk is full line 11")
