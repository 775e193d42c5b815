"""Commit statuses at a stand-in of GitHub: told in order, tried again within bounds, and never in anyone's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.gitops.github import LONGEST_PAUSE_SECONDS, TRIES, WAITING_MAX, CommitStatuses
from tests.clock import MovableClock, until
from tests.gitops_house import action, half, house, repository
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub

CONTEXT = "homelab-agent/attic"


class Told:
    """One commit at GitHub, and what tells of it; the token's file can be written anew."""

    def __init__(self, directory: Path, github: GitHub, remote: GitRemote) -> None:
        github.publish(remote)
        self.github = github
        self.remote = remote
        self.sha = remote.commit({"a": "1\n"})
        self.clock = MovableClock(SystemClock().read().wall)  # GitHub's limits end at a time of day
        self.file = directory / "token"
        self.give(github.token(remote))
        reference = partial(Secrets(Redactor()).find, f"file:{self.file}")
        self.statuses = CommitStatuses(reference, self.clock, api_url=github.url, context=CONTEXT)

    def give(self, token: str) -> None:
        self.file.write_text(token)
        self.file.chmod(0o600)

    def tell(self, state: Any = "success", description: str = "deployed") -> None:
        self.statuses.tell(self.remote.full_name, "homelab", self.sha, state, description)

    @property
    def there(self) -> list[tuple[str, str]]:
        return [(one["state"], one["description"]) for one in self.github.statuses(self.remote, self.sha)]

    async def until_asked(self, times: int) -> None:
        await until(lambda: len(self.github.calls) >= times and self.clock.sleepers, f"{times} requests, then a pause")

    async def until_said(self, text: str) -> None:
        """Wait until what the check finds says so."""
        async with asyncio.timeout(10):
            while text not in (await self.statuses.probe()).detail:  # noqa: ASYNC110 - it knows no event
                await asyncio.sleep(0.01)


@pytest.fixture
async def told(tmp_path: Path, github: GitHub, git_remote: GitRemote) -> AsyncIterator[Told]:
    one = Told(tmp_path, github, git_remote)
    async with telling(one):
        yield one


@contextlib.asynccontextmanager
async def telling(told: Told) -> AsyncIterator[None]:
    task = asyncio.ensure_future(told.statuses.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_status_is_told_as_github_wants_it(told: Told) -> None:
    told.tell("pending", "is being deployed")
    await until(lambda: told.there, "the status")
    [call] = told.github.calls
    assert call.json() == {"state": "pending", "description": "is being deployed", "context": f"{CONTEXT}/homelab"}
    assert call.headers["user-agent"] == "homelab-agent"
    assert call.headers["x-github-api-version"] == "2022-11-28"
    assert "target_url" not in call.json()
    assert (await told.statuses.probe()).state == "ok"


async def test_only_the_last_word_on_a_commit_that_waits_is_told(told: Told) -> None:
    told.tell("pending", "is being deployed")
    told.tell("success", "deployed")
    await until(lambda: told.there, "the status")
    assert told.there == [("success", "deployed")]


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_what_fails_at_github_is_tried_again_and_not_for_ever(told: Told, status: int) -> None:
    told.github.fail(status, times=1)
    told.tell()
    await told.until_asked(1)
    await told.clock.advance(2)
    await until(lambda: told.there, "the status")
    told.github.fail(status)
    told.tell()
    for number in range(TRIES - 1):
        await told.until_asked(3 + number)
        await told.clock.advance(10)
    await told.until_said(f"answers {status}")
    await until(lambda: len(told.github.calls) == 2 + TRIES, "the last try")
    told.github.mend()
    told.tell("failure", "cut short")
    await until(lambda: len(told.there) == 2, "the next one")
    await told.until_said("commit statuses go to")


async def test_github_that_is_down_is_tried_again(told: Told) -> None:
    told.github.down()
    told.tell()
    await until(lambda: told.clock.sleepers, "the pause")
    assert (await told.statuses.probe()).state == "degraded"
    told.github.up()
    await told.clock.advance(2)
    await until(lambda: told.there, "the status")


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(("retry_after", "pause"), [(7, 7.0), (None, 60.0)])
async def test_too_many_requests_wait_as_long_as_github_says(
    told: Told, status: int, retry_after: int | None, pause: float
) -> None:
    told.github.throttle(status, retry_after=retry_after, times=1)
    told.tell()
    await told.until_asked(1)
    await told.clock.advance(pause - 0.1)
    assert len(told.github.calls) == 1
    await told.clock.advance(0.1)
    await until(lambda: told.there, "the status")


async def test_an_hour_s_requests_that_are_used_up_wait_for_the_next_if_that_is_soon(told: Told) -> None:
    told.github.exhaust(seconds=100)
    told.tell()
    await told.until_asked(1)
    told.github.mend()
    await told.clock.advance(101)
    await until(lambda: told.there, "the status")
    told.github.exhaust(seconds=2 * LONGEST_PAUSE_SECONDS)
    told.tell("failure", "cut short")
    await told.until_said("rate limit exceeded")
    assert not told.clock.sleepers  # for longer nobody waits


@pytest.mark.parametrize("wrong", ["revoked", "of another", "read only", "no commit"])
async def test_what_github_refuses_is_not_tried_again_and_is_said(told: Told, wrong: str) -> None:
    match wrong:
        case "revoked":
            told.github.revoke(told.file.read_text())
        case "of another":
            told.give(told.github.token())
        case "read only":
            told.give(told.github.token(told.remote, may_write=False))
        case "no commit":
            told.sha = "1" * 40
    told.tell()
    await told.until_said(f"{told.github.url} answers 4")
    assert len(told.github.calls) == 1
    finding = await told.statuses.probe()
    assert (finding.state, finding.repair) == ("degraded", "gitops.status_token")


async def test_a_token_that_is_replaced_counts_from_then_on(told: Told) -> None:
    token = told.file.read_text()
    told.give("wrong")
    told.tell()
    await told.until_said("Bad credentials")
    told.give(token)
    told.tell()
    await until(lambda: told.there, "the status")


async def test_a_token_that_cannot_be_read_asks_nobody(told: Told) -> None:
    told.file.unlink()
    told.tell()
    await told.until_said("is not there")
    assert told.github.calls == []


async def test_while_one_waits_a_newer_word_on_it_takes_its_place(told: Told) -> None:
    told.github.throttle(times=1)
    told.tell("pending", "is being deployed")
    await told.until_asked(1)
    told.tell("success", "deployed")
    await told.clock.advance(60)
    await until(lambda: told.there, "the status")
    assert told.there == [("success", "deployed")]


async def test_too_many_that_wait_lose_the_oldest(tmp_path: Path, github: GitHub, git_remote: GitRemote) -> None:
    one = Told(tmp_path, github, git_remote)
    last = one.sha
    for number in range(WAITING_MAX):
        one.sha = f"{number:040x}"
        one.tell()
    one.sha = last
    one.tell()
    async with telling(one):
        await until(lambda: one.there, "the last one")
    asked = {call.path.rpartition("/")[2] for call in github.calls}
    assert len(asked) == WAITING_MAX
    assert f"{0:040x}" not in asked


async def test_a_push_is_pending_and_then_what_became_of_it_and_github_changes_no_verdict(
    tmp_path: Path, github: GitHub, git_remote: GitRemote
) -> None:
    github.publish(git_remote)
    (tmp_path / "token").write_text(github.token(git_remote))
    (tmp_path / "token").chmod(0o600)
    root_half = half()
    section = repository("homelab", action("last"), full_name=git_remote.full_name)
    token = f"file:{tmp_path / 'token'}"
    async with house(tmp_path, root_half, section, status_token=token, api_url=github.url) as here:
        assert here.service.commit_statuses is not None
        telling = asyncio.ensure_future(here.service.commit_statuses.run())
        shas = [git_remote.commit({"a": f"{number}\n"}) for number in range(3)]
        for sha in shas:
            adopt(here.tree, sha)
        await here.deliver(shas[2])
        await until(
            lambda: [one["state"] for one in github.statuses(git_remote, shas[2])][-1:] == ["success"], "success"
        )
        assert {one["context"] for one in github.statuses(git_remote, shas[2])} == {"homelab-agent/attic/homelab"}
        await here.deliver(shas[1])
        await until(lambda: github.statuses(git_remote, shas[1])[1:], "what became of it")
        assert github.statuses(git_remote, shas[1])[-1]["description"] == f"included in {shas[2][:7]}"
        github.down()
        here.tree.broken = frozenset({"last"})
        sha = git_remote.commit({"a": "4\n"})
        adopt(here.tree, sha)
        assert (await here.closed((await here.deliver(sha)).guid))[0] == "action_failed"
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def adopt(tree: Any, sha: str) -> None:
    """Let a commit that GitHub has be the tip in the root half's thoughts too."""
    made = tree.push({"a": sha})
    for known in (tree.parents, tree.files):
        known[sha] = known.pop(made)
    tree.tip = sha
