"""Runs of sets with a database: it works all the while, others stand still, and what fails leaves no copy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.backup import alone, dumps, hooks, wire
from homelab_agent.backup import docker as adapter
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.dumps.errors import DumpFailed
from homelab_agent.backup.hooks import HookFailed
from homelab_agent.backup.taking import NotShutDown
from tests import postgres_container
from tests.agent import Agent
from tests.freezing import named
from tests.neighbours.docker import Docker
from tests.taken import House
from tests.waiting import until

LOAD = "pgbench -i -q -h /tmp -U postgres postgres && exec pgbench -c 4 -R 200 -T 600 -h /tmp -U postgres postgres"
SUMS = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
UNDER_LOAD = "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'pgbench_history' AND n_tup_ins > 50"
LOCK = "BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)"
LOCKED = "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'large'::regclass"
DUMP_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
AFTER = "homelab-agent.backup.after"
BEFORE = "docker-volume-backup.archive-pre"


@pytest.fixture(scope="module", autouse=True)
def image(docker_engine: Docker) -> Iterator[None]:
    """PostgreSQL's image, for all tests of this module."""
    postgres_container.image(docker_engine)
    yield
    docker_engine("image", "rm", postgres_container.IMAGE)


@pytest.fixture
def house(docker: Docker, tmp_path: Path) -> House:
    return House(docker, tmp_path)


async def test_a_database_under_load_is_dumped_by_a_nightly_run_and_comes_back_from_its_archive(
    agent: Agent, docker: Docker, control: adapter.Docker, open_directory: Path
) -> None:
    """From the proposal to an empty server that has it all; it never stood still."""
    postgres_container.run(docker, "db", "pg")
    docker("exec", "-d", "db", "sh", "-c", LOAD)
    agent.write(
        f'[backup]\ndocker = "{docker.socket}"\ndirectory = "{open_directory}/copies"\n'
        f'records = "{open_directory}/records"\nverify_schedule = ""\nschedule = "0 1 1 1 *"\n'
    )

    def asked(*words: str) -> str:
        done = agent.run(*words, seconds=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    [proposed] = json.loads(await asyncio.to_thread(asked, "backup", "plan", "--json"))["proposed"]
    assert {key: proposed[key] for key in ("mode", "verdict", "dumps", "frozen", "members", "refusals")} == {
        "mode": "auto", "verdict": "dump", "dumps": ["db"], "frozen": [], "members": [], "refusals": [],
    }  # fmt: skip
    await asyncio.to_thread(asked, "backup", "plan", "--accept", "db")
    assert "dump of db" in await asyncio.to_thread(asked, "backup", "plan")
    await asyncio.to_thread(agent.start)
    until(lambda: postgres_container.ask(docker, "db", UNDER_LOAD) == "1", "it is under load")
    assert "read back, dump, still for 0 ms" in await asyncio.to_thread(asked, "backup", "run")
    [listed] = json.loads(await asyncio.to_thread(asked, "backup", "list", "db", "--json"))
    house = ArchiveEngine(open_directory / "copies")
    told = (await house.contents(listed["id"])).about["dumps"]
    assert dumps.ordered(told) == ["dumps/db/globals.sql", "dumps/db/postgres.pgdump"]
    postgres_container.run(docker, "empty", "other")
    empty = await named(control, "empty")
    for member in dumps.ordered(told):
        async with await house.dump(listed["id"], member) as pieces:
            await dumps.load(control, empty.id, told[member], pieces)
    assert postgres_container.ask(docker, "empty", SUMS) == "t"
    assert postgres_container.ask(docker, "empty", "SELECT count(*) FROM pgbench_accounts") == "100000"


async def test_who_writes_beside_a_database_stands_still_while_both_are_copied_and_nothing_counts_where_that_fails(
    house: House,
) -> None:
    postgres_container.run(house.docker, "db", "pg")
    house.write("app", "uploads")
    postgres_container.ask(house.docker, "db", "CREATE TABLE large AS SELECT generate_series(1, 1000) AS n")
    done = await house.take(volumes=["pg", "uploads"])
    assert done.archive.verdict == "crash"
    assert set(done.frozen_ms) == {"app"}
    files = (await house.engine.contents(done.archive.id)).files
    assert "volumes/uploads/log" in files
    assert "dumps/db/postgres.pgdump/0000" in files
    assert not any(name.startswith("volumes/pg") for name in files)

    house.docker("exec", "-d", "db", "psql", "-h", "/tmp", "-U", "postgres", "-c", LOCK)
    until(lambda: postgres_container.ask(house.docker, "db", LOCKED) == "t", "it is locked")
    taking = asyncio.create_task(house.take(volumes=["pg", "uploads"]))
    waits = lambda: postgres_container.ask(house.docker, "db", DUMP_WAITS) == "1"  # noqa: E731
    await asyncio.to_thread(until, waits, "the dump has begun")
    assert house.docker.state("app")["Status"] == "paused"
    house.docker("kill", "db")
    with pytest.raises(DumpFailed, match="db was not dumped"):
        await taking
    assert house.left == []
    assert len(await house.engine.list()) == 1
    assert house.docker.state("app")["Status"] == "running"


async def test_a_postgresql_that_did_not_shut_down_in_order_is_never_called_cold(house: House) -> None:
    postgres_container.run(house.docker, "db", "pg")
    assert (await house.take(volumes=["pg"], mode="stop")).archive.verdict == "cold"
    postgres_container.await_well(house.docker, "db")
    house.docker("kill", "db")
    done = await house.take(volumes=["pg"], mode="stop")
    assert done.archive.verdict == "crash"
    assert any("had ended, and not in order" in note for note in done.notes)
    house.docker("rm", "db")
    data = postgres_container.DATA
    cruel = f"postgres -D {data} -k /tmp & it=$!; trap 'kill -9 $it; exit 0' INT TERM; wait"
    image = postgres_container.IMAGE
    house.docker("run", "-d", "--name", "db", "-v", f"pg:{data}", "-e", "PGDATA=" + data, image, "sh", "-c", cruel)
    postgres_container.await_well(house.docker, "db")
    with pytest.raises(NotShutDown, match="it was at work"):
        await house.take(volumes=["pg"], mode="stop")
    assert house.docker.state("db")["Status"] == "running"
    assert house.left == []


async def cancelled_while_paused(house: House) -> None:
    taking = asyncio.create_task(house.take(volumes=["uploads"]))

    def cancel(told: Mapping[str, Any]) -> None:
        if told.get("notice") == "paused":
            taking.cancel()

    house.on_event = cancel
    await taking


async def test_a_containers_own_commands_run_before_it_stands_still_and_after_whatever_happens(house: House) -> None:
    words = ("--label", f"{BEFORE}=sh -c 'id -u >/data/before'", "--label", f"{BEFORE}.user=nobody")
    after = ("--label", f"{AFTER}=sh -c 'mv /data/before /data/after'")
    house.write("app", "uploads", *words, *after, command="chmod 777 /data; sleep 1000")

    def said(name: str) -> str:
        return house.docker("exec", "app", "cat", f"/data/{name}")

    done = await house.take(volumes=["uploads"])
    assert "volumes/uploads/before" in (await house.engine.contents(done.archive.id)).files
    assert said("after") == "65534"
    assert [note for note in done.notes if "command" in note and "ran" in note] == [
        f"app: its command before the copy ran ({BEFORE})",
        f"app: its command after the copy ran ({AFTER})",
    ]
    house.docker("exec", "app", "rm", "/data/after")
    with pytest.raises(asyncio.CancelledError):
        await cancelled_while_paused(house)
    assert said("after") == "65534"
    house.docker("exec", "app", "chmod", "555", "/data")
    house.on_event = house.events.append
    house.events.clear()
    with pytest.raises(HookFailed, match=r"before its copy.*denied"):
        await house.take(volumes=["uploads"])
    assert not any("frozen" in told for told in house.events)
    assert house.left == []
    assert len(await house.engine.list()) == 1


async def test_a_copy_counts_though_a_command_after_it_fails_which_fails_the_run(house: House) -> None:
    house.write("app", "uploads", "--label", f"{AFTER}=sh -c 'echo no >&2; exit 3'")
    done = await house.take(volumes=["uploads"])
    [trouble] = done.troubles
    assert trouble.cause.endswith("failed; the copy is good, and is kept. (no)")
    assert "docker exec app" in trouble.repair
    assert wire.done(wire.of_done(done)).troubles == done.troubles
    assert len(await house.engine.list()) == 1


async def test_what_a_killed_run_has_not_run_afterwards_is_made_up_for(house: House) -> None:
    house.write("app", "uploads", "--label", f"{AFTER}=touch /data/after", "--label", f"{BEFORE}=sleep 1000")
    with house.elsewhere("uploads"):
        until(lambda: list((house.settings.records / "hooks").glob("*.hooked")), "its command before the copy runs")
    assert await alone.resume(house.settings) == []
    house.docker("exec", "app", "test", "-e", "/data/after")
    house.docker("exec", "app", "rm", "/data/after")
    assert await alone.resume(house.settings) == []
    assert "after" not in house.docker("exec", "app", "ls", "/data")


async def test_what_docker_could_not_run_after_a_copy_is_made_up_for(house: House, control: adapter.Docker) -> None:
    house.write("app", "uploads", "--restart", "always", "--label", f"{AFTER}=touch /data/after")
    containers = (await control.inventory()).containers
    hooked = hooks.Hooks(control, containers, house.settings.records, lambda *_: None)
    async with hooked.around():
        await asyncio.to_thread(house.docker.kill)
    assert "after its copy" in str(hooked.failed[0])
    await asyncio.to_thread(house.docker.start)
    until(lambda: house.docker.state("app")["Status"] == "running", "Docker has started it again")
    await alone.resume(house.settings)
    house.docker("exec", "app", "test", "-e", "/data/after")
    assert list((house.settings.records / "hooks").glob("*.hooked")) == []


async def test_what_is_to_run_after_a_copy_waits_until_its_container_runs_and_is_dropped_where_that_is_gone(
    house: House,
) -> None:
    """As at a boot, when we are there before Docker has started it."""
    for name in ("app", "other"):
        house.write(
            name, name, "--stop-timeout=0", "--label", f"{AFTER}=touch /data/after", "--label", f"{BEFORE}=sleep 1000"
        )
    notes = house.settings.records / "hooks"

    def left() -> int:
        return len(list(notes.glob("*.hooked")))

    with house.elsewhere("app"):
        until(lambda: left() == 1, "its command before the copy runs")
    with house.elsewhere("other"):
        until(lambda: left() == 2, "its command before the copy runs")
    house.docker("stop", "app", "other")
    assert await alone.resume(house.settings) == []
    assert left() == 2
    house.docker("rm", "other")
    house.docker("start", "app")
    assert await alone.resume(house.settings) == []
    house.docker("exec", "app", "test", "-e", "/data/after")
    assert left() == 0
