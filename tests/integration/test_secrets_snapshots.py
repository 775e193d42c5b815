"""Snapshots of OpenBao's storage: taken by the agent's job, whole, the oldest let go, and restored elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets import openbao as room
from homelab_agent.secrets import snapshot
from homelab_agent.secrets.errors import SnapshotBroken
from homelab_agent.secrets.settings import SecretsSettings
from homelab_agent.secrets.snapshots import Snapshots
from tests.agent import Agent
from tests.neighbours import openbao as neighbour
from tests.neighbours.openbao import OpenBao
from tests.waiting import until

VALUE = "kept-in-a-snapshot"
RUN: Any = None
"""The job asks nothing of its run."""


def settings(openbao: OpenBao, directory: Path) -> SecretsSettings:
    secret_id = directory / "secret-id"
    secret_id.write_text(openbao.secret_id)
    secret_id.chmod(0o600)
    return SecretsSettings(
        url=f"unix:{openbao.socket}",
        role_id=openbao.role_id,
        secret_id=f"file:{secret_id}",
        snapshot_dir=directory / "snapshots",
    )


@pytest.fixture
async def taken(openbao: OpenBao, tmp_path: Path) -> AsyncIterator[Snapshots]:
    """What the agent's job runs, keeping two."""
    clock = SystemClock()
    found = room.add(settings(openbao, tmp_path), Secrets(Redactor()), tmp_path, clock)
    assert found is not None
    yield Snapshots(found.client, tmp_path / "snapshots", clock, keep=2)
    await found.client.close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_one_is_whole_and_the_agents_alone(openbao: OpenBao, taken: Snapshots, tmp_path: Path) -> None:
    openbao.put("homelab/x", password=VALUE)
    outcome = await taken.run(RUN)
    (path,) = (tmp_path / "snapshots").iterdir()
    assert outcome.ok
    assert path.name in outcome.detail
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    at = datetime.strptime(path.name, "openbao-%Y%m%dT%H%M%SZ.snap").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    await asyncio.to_thread(snapshot.examine, path)
    assert VALUE.encode() not in path.read_bytes()


async def test_the_oldest_are_let_go_once_a_new_one_is_there_and_what_is_not_ours_stays(
    taken: Snapshots, tmp_path: Path
) -> None:
    directory = tmp_path / "snapshots"
    directory.mkdir()
    for name in ("openbao-20240101T000000Z.snap", "openbao-20240102T000000Z.snap", "mine.snap", "openbao-x.snap"):
        (directory / name).write_text("x")
    (directory / "openbao-20240103T000000Z.snap.new").write_text("of a run that was killed")
    await taken.run(RUN)
    found = names(directory)
    assert found[:2] == ["mine.snap", "openbao-20240102T000000Z.snap"]
    assert found[-1] == "openbao-x.snap"
    assert len(found) == 4


@pytest.mark.parametrize("breakage", ["policy", "seal", "kill"])
async def test_where_none_can_be_taken_all_that_are_there_stay(
    openbao: OpenBao, taken: Snapshots, tmp_path: Path, breakage: str
) -> None:
    directory = tmp_path / "snapshots"
    directory.mkdir()
    old = [f"openbao-2024010{number}T000000Z.snap" for number in range(1, 6)]
    for name in old:
        (directory / name).write_text("x")
    match breakage:
        case "policy":
            await asyncio.to_thread(openbao.policy, 'path "secret/data/homelab/*" { capabilities = ["read"] }')
        case "seal":
            await asyncio.to_thread(openbao.seal)
        case "kill":
            await asyncio.to_thread(openbao.kill)
    with pytest.raises(AgentError):
        await taken.run(RUN)
    assert names(directory) == old


async def test_one_that_is_cut_off_empty_or_changed_does_not_count(taken: Snapshots, tmp_path: Path) -> None:
    await taken.run(RUN)
    await asyncio.to_thread(see_broken_ones, tmp_path)


def see_broken_ones(tmp_path: Path) -> None:
    (whole,) = (tmp_path / "snapshots").iterdir()
    data, broken = whole.read_bytes(), tmp_path / "broken"
    for length in (0, 1, 10, len(data) // 2, len(data) - 9):
        broken.write_bytes(data[:length])
        with pytest.raises(SnapshotBroken):
            snapshot.examine(broken)
    middle = len(data) // 2
    broken.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(SnapshotBroken):
        snapshot.examine(broken)


async def test_one_is_restored_on_a_new_server_that_has_the_unseal_key(
    openbao: OpenBao, taken: Snapshots, tmp_path: Path
) -> None:
    """The rehearsal: a new machine with the unseal key and the secret ids of the old one, and the snapshot."""
    openbao.put("homelab/x", password="old")
    openbao.put("homelab/x", password=VALUE)
    await taken.run(RUN)
    (path,) = (tmp_path / "snapshots").iterdir()

    def restore() -> Any:
        with neighbour.started(like=openbao) as new:
            new.put("homelab/x", password="of the new server")
            new.restore(path)
            until(lambda: answers(new), "it is back")
            return SimpleNamespace(
                now=new.ask("GET", "secret/data/homelab/x")["data"],
                before=new.ask("GET", "secret/data/homelab/x?version=1")["data"]["data"],
                agent=new.ask("GET", "secret/data/homelab/x", token=new.log_in())["data"]["data"],
            )

    found = await asyncio.to_thread(restore)
    assert found.now["data"] == found.agent == {"password": VALUE}
    assert found.now["metadata"]["version"] == 2
    assert found.before == {"password": "old"}


def answers(openbao: OpenBao) -> bool:
    try:
        return bool(openbao.ask("GET", "sys/mounts"))
    except (OSError, neighbour.Refused):
        return False


def test_the_agent_takes_them_by_a_job(agent: Agent, openbao: OpenBao, open_directory: Path) -> None:
    given = settings(openbao, open_directory)
    keys = ("url", "role_id", "secret_id", "snapshot_dir")
    agent.write("[secrets]\n" + "".join(f'{key} = "{getattr(given, key)}"\n' for key in keys))
    agent.start()
    done = agent.run("jobs", "run", "secrets.snapshot")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (open_directory / "snapshots").iterdir()
    snapshot.examine(path)
    assert path.name in agent.run("jobs", "list").stdout + done.stdout + done.stderr
