"""The real root half is killed in the middle of a deployment by real git: the next one goes on by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from homelab_agent.core.privilege import Answer
from homelab_agent.core.process_output import OnLine
from homelab_agent.privileged.client import Client
from tests.clock import until
from tests.gitops_half import COMMAND, ROOT, Site, serving
from tests.gitops_house import House, eventually, house
from tests.half_model import HalfModel, Tree
from tests.neighbours.git_remote import GitRemote

FIRST_TIME = "echo run >>ran; [ -e again ] || { touch again; exec sleep 1000; }"


@dataclass(slots=True)
class Real(HalfModel):
    """The house's way to a half that is not only thought of."""

    client: Client = field(kw_only=True)

    async def answers(self) -> bool:
        return await self.client.answers()

    async def call(
        self,
        verb: str,
        *,
        deadline: float,
        descriptors: Sequence[int] = (),
        on_line: OnLine | None = None,
        **names: Any,
    ) -> Answer:
        return await self.client.call(verb, deadline=deadline, descriptors=descriptors, on_line=on_line, **names)


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def site(open_directory: Path, git_remote: GitRemote) -> Site:
    git_remote.commit({"README": "1\n", ".gitignore": "ran\nagain\n"})
    return Site(open_directory, git_remote)


def halves() -> list[int]:
    """Return the processes of root halves that we have started."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # one of another test may just have ended
            if COMMAND[-1] in child.cmdline():
                found.append(child.pid)
    return found


async def deployed(here: House) -> str:
    """Wait until nothing is left to be done, and return what is deployed."""

    async def over() -> bool:
        return not await here.service.moves.unfinished() and await here.is_quiet()

    await eventually(over, "no move is unfinished")
    return await here.deployed("site")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("repeat", [False, True])
async def test_a_half_that_dies_in_an_action_is_followed_by_one_that_goes_on(
    site: Site, tmp_path: Path, number: signal.Signals, *, repeat: bool
) -> None:
    act = {"name": "slow", "command": ["sh", "-c", FIRST_TIME], "repeat": repeat}
    settings = site.settings(sections={"action": [act]})
    section = {"name": "site", "full_name": site.remote.full_name, "directory": str(site.path), "action": [act]}
    async with serving(site.directory, settings) as half:
        real = Real({"site": Tree()}, client=half.client)
        async with house(tmp_path, real, section) as here:
            assert (await here.ask(name="site")).state == "ok"
            sha = site.remote.commit({"README": "2\n"})
            guid = (await here.deliver(sha, name="site")).guid
            await until((site.path / "again").exists, "the action is under way", seconds=30)
            for pid in halves():
                os.kill(pid, number)
            verdict, _ = await here.closed(guid)
            if repeat:
                assert verdict == "not_available"
                await until(lambda: here.service.worker.goes_on_later("site"), "it goes on later")
                await here.clock.advance(40)
                assert await deployed(here) == sha
            else:
                assert verdict == "interrupted"
            assert (site.path / "ran").read_text() == "run\n" * (2 if repeat else 1)
            assert site.head == sha
