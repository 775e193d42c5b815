"""A push becomes a proven deployment: the real agent, its root half, a real remote, deliveries as GitHub sends them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.config import keys
from tests import user
from tests.agent import Agent
from tests.fixtures.soak import Soak
from tests.neighbours import payloads
from tests.neighbours.git import Git
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub
from tests.neighbours.webhook import Answer, Hook
from tests.waiting import until

SECRET = "It's a Secret to Everybody"
GOOD = {"ok", "up_to_date", "included"}


class Site:
    """An agent that deploys one repository, and who pushes to it."""

    def __init__(self, agent: Agent, remote: GitRemote, github: GitHub, directory: Path) -> None:
        self.agent = agent
        self.remote = remote
        remote.commit({"site/index.html": "one\n", "README": "read me\n", "counter": "0\n"})
        self.copy = remote.clone(directory / "working-copy")
        self.path = directory / "working-copy"
        self.log = directory / "actions.log"
        self.secret = directory / "hook-secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.hook: Hook = github.hook(remote, f"http://127.0.0.1:{agent.port}/api/webhook/gitops", SECRET)

    def configure(self, *, actions: Sequence[Mapping[str, Any]] = (), **more: Any) -> None:
        """Write the configuration: the repository, its actions and probes."""
        entry = {
            "name": "site",
            "full_name": self.remote.full_name,
            "id": self.remote.repository_id,
            "directory": str(self.path),
            "allow_file": True,
            "secret": [{"name": "main", "secret": f"file:{self.secret}"}],
            "action": list(actions),
            **more,
        }
        self.agent.write(f"[gitops]\npoll = 0\nrepository = [{keys.toml(entry)}]\n")

    def writing(self, name: str, *paths: str, then: str = "true", **more: Any) -> dict[str, Any]:
        """Return an action that notes its name and the commit it sees, and goes on with a shell's words."""
        note = f'echo "{name} $(git rev-parse HEAD)" >>{self.log}; {then}'
        return {"name": name, "paths": list(paths) or ["**"], "command": ["sh", "-c", note], **more}

    def noted(self) -> list[str]:
        """Return what the actions have noted."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def push(self, files: Mapping[str, str]) -> tuple[str, Answer]:
        """Commit to the remote and tell the agent as GitHub does."""
        sha = self.remote.commit(files)
        return sha, self.hook.push()

    def deliveries(self) -> list[dict[str, Any]]:
        """Return the newest deliveries."""
        found: list[dict[str, Any]] = self.agent.json("/api/gitops/deliveries?limit=1000")["deliveries"]
        return found

    def verdicts(self, guid: str) -> list[str]:
        """Return the verdicts of a delivery's attempts; raises KeyError for one that is not there."""
        found = {one["guid"]: one for one in self.deliveries()}
        return [attempt["verdict"] for attempt in found[guid]["attempts"]]

    def verdict(self, answer: Answer, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until a delivery's last attempt has its verdict, and return that attempt."""

        def closed() -> dict[str, Any] | None:
            (found,) = [one for one in self.deliveries() if one["guid"] == answer.delivery.guid]
            last: dict[str, Any] = found["attempts"][-1]
            return last if last["verdict"] else None

        return until(closed, f"a verdict of {answer.delivery.guid}", seconds=seconds) or {}

    def all_closed(self) -> list[dict[str, Any]]:
        """Wait until nothing is open, and return all deliveries."""
        until(lambda: all(a["verdict"] for d in self.deliveries() for a in d["attempts"]), "all verdicts", seconds=120)
        return self.deliveries()


@pytest.fixture
def site(agent: Agent, git_remote: GitRemote, github: GitHub, open_directory: Path) -> Site:
    """A repository and an agent for it, which is not started yet."""
    return Site(agent, git_remote, github, open_directory)


@pytest.mark.timeout(180)
def test_a_signed_push_is_deployed_and_what_follows_is_what_changed(site: Site) -> None:
    site.configure(actions=[site.writing("site", "site/**"), site.writing("docs", "docs/**")])
    site.agent.start()
    assert site.hook.ping().status == 200
    sha, answer = site.push({"site/index.html": "two\n"})
    assert answer.status == 202
    assert site.verdict(answer)["verdict"] == "ok"
    assert (site.path / "site/index.html").read_text() == "two\n"
    assert site.noted() == [f"site {sha}"]
    nothing, answer = site.push({"README": "nothing follows\n"})
    assert site.verdict(answer)["sha_reached"] == nothing
    assert site.noted() == [f"site {sha}"]
    assert site.agent.finding("gitops.site")["state"] == "ok"


@pytest.mark.timeout(180)
def test_what_is_not_signed_or_not_ours_changes_nothing(site: Site) -> None:
    site.configure()
    site.agent.start()
    site.remote.commit({"README": "new\n"})
    right, site.hook.secret = site.hook.secret, "wrong"
    assert site.hook.push().status == 401
    site.hook.secret = right
    other = site.hook.push(ref="refs/heads/main")
    assert site.verdict(other)["verdict"] == "ok"
    again = site.hook.redeliver(other.delivery)
    assert again.status == 202
    assert site.verdicts(other.delivery.guid) == ["ok"], "a good one does not run again"
    site.remote.branch("feature")
    assert site.verdict(site.hook.push(ref="refs/heads/feature"))["verdict"] == "ignored"


@pytest.mark.timeout(240)
def test_two_hundred_pushes_at_once_are_at_most_two_further_syncs_and_two_hundred_verdicts(site: Site) -> None:
    site.configure(actions=[site.writing("site")])
    site.agent.start()
    pushes = []
    for number in range(200):
        before = site.remote.sha()
        after = site.remote.commit({"counter": f"{number}\n"})
        pushes.append(site.hook.delivery("push", payload_of(site, before, after)))
    with ThreadPoolExecutor(16) as senders:
        answers = list(senders.map(lambda delivery: site.hook.send(delivery, seconds=60), pushes))
    assert {answer.status for answer in answers} == {202}
    deliveries = site.all_closed()
    assert len(deliveries) == 200
    assert all(len(delivery["attempts"]) == 1 for delivery in deliveries)
    assert {delivery["attempts"][0]["verdict"] for delivery in deliveries} <= GOOD
    runs = [run for run in site.agent.json("/api/runs?limit=100")["runs"] if run["job"] == "gitops.sync.site"]
    assert len(runs) <= 4, "the first, those that came while it ran, and their like once more"
    assert (site.path / "counter").read_text() == "199\n"
    until(lambda: stored(site.agent) == 200, "each verdict has its row", seconds=90)


def payload_of(site: Site, before: str, after: str) -> Any:
    """Return what GitHub sends of one push of many."""
    return payloads.push(site.remote, before=before, after=after)


def stored(agent: Agent) -> int:
    """Return how many verdicts PostgreSQL holds."""
    if not agent.connected():
        return 0
    return int(agent.sql("SELECT count(*) AS n FROM gitops_verdict")[0]["n"])


@pytest.mark.timeout(180)
def test_a_failed_deployment_is_said_with_its_repair_and_rolled_back_when_asked(site: Site) -> None:
    fails = "! grep -q broken site/index.html"
    site.configure(actions=[site.writing("site", "site/**", then=fails)])
    site.agent.start()
    good, answer = site.push({"site/index.html": "two\n"})
    assert site.verdict(answer)["verdict"] == "ok"
    _, answer = site.push({"site/index.html": "broken\n"})
    failed = site.verdict(answer)
    assert failed["verdict"] == "action_failed"
    assert "gitops rollback site" in failed["repair"]
    assert site.agent.until("gitops.site", "degraded")["repair"]
    assert site.agent.run("jobs", "run", "gitops.rollback.site").returncode == 0, site.agent.tail()
    assert (site.path / "site/index.html").read_text() == "two\n"
    assert site.copy("rev-parse", "HEAD") == good
    assert site.copy("for-each-ref", "refs/homelab/rolled-back"), "the old tip is kept"
    again = site.agent.run("jobs", "run", "gitops.sync.site")
    assert again.returncode == 1
    assert "bad_sha" in again.stderr, "it does not go there a second time"
    better, answer = site.push({"site/index.html": "three\n"})
    assert site.verdict(answer)["sha_reached"] == better


@pytest.mark.timeout(180)
def test_an_unhealthy_deployment_goes_back_by_itself(site: Site) -> None:
    healthy = {"kind": "command", "command": ["grep", "-qv", "ill", str(site.path / "site/index.html")], "within": 2.0}
    site.configure(actions=[site.writing("site")], probe=[healthy], rollback="automatic")
    site.agent.start()
    good, answer = site.push({"site/index.html": "well\n"})
    assert site.verdict(answer)["verdict"] == "ok"
    _, answer = site.push({"site/index.html": "ill\n"})
    assert site.verdict(answer)["verdict"] == "rolled_back"
    assert site.copy("rev-parse", "HEAD") == good


@pytest.mark.timeout(180)
def test_a_working_copy_that_was_edited_is_left_as_it_is(site: Site) -> None:
    site.configure()
    site.agent.start()
    (site.path / "README").write_text("edited here\n")
    _, answer = site.push({"README": "edited there\n"})
    told = site.verdict(answer)
    assert told["verdict"] == "dirty_overlap"
    assert told["repair"]
    assert (site.path / "README").read_text() == "edited here\n"
    Git(site.path, site.copy.env)("checkout", "README")
    assert site.hook.redeliver(answer.delivery).status == 202
    until(lambda: site.verdicts(answer.delivery.guid) == ["dirty_overlap", "ok"], "the next attempt", seconds=60)


@pytest.mark.timeout(180)
def test_the_working_copy_of_another_user_stays_that_users(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can deploy for others")
    site.copy("remote", "set-url", "origin", site.remote.url("http"))  # git reads no repository of another user's
    for path in [site.path, *site.path.rglob("*")]:
        os.chown(path, user.UID, user.UID, follow_symlinks=False)
    site.configure(actions=[{"name": "who", "command": ["sh", "-c", "id -u >who"]}])
    site.agent.start()
    _, answer = site.push({"site/new": "new\n"})
    assert site.verdict(answer)["verdict"] == "ok", site.agent.tail()
    assert (site.path / "who").read_text() == f"{user.UID}\n"
    assert {path.stat().st_uid for path in site.path.rglob("*")} == {user.UID}


def kill_between_promise_and_verdict(site: Site, soak: Soak, least: int) -> None:
    """Kill the agent at random moments after it accepted a push; then count."""
    site.configure(actions=[site.writing("site", repeat=True)])
    for number in soak.rounds(least):
        site.agent.start()
        sha = site.remote.commit({"counter": f"{number}\n"})
        answer = site.hook.push()
        assert answer.status == 202
        end = soak.dice.uniform(0.0, 0.6)
        until_passed(end)
        site.agent.kill()
        assert sha
    site.agent.start()
    deliveries = site.all_closed()
    assert all(len(delivery["attempts"]) == 1 for delivery in deliveries)
    assert {delivery["attempts"][0]["verdict"] for delivery in deliveries} <= GOOD, json.dumps(deliveries)[:2000]
    assert site.copy("rev-parse", "HEAD") == site.remote.sha()
    assert site.noted()[-1] == f"site {site.remote.sha()}"
    assert site.copy("status", "--porcelain") == ""


def until_passed(seconds: float) -> None:
    """Let a moment pass: when the kill comes is what is drawn."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, "the moment", seconds=seconds + 5)


@pytest.mark.timeout(300)
def test_killed_at_ten_random_moments_each_push_has_one_verdict_and_the_last_is_live(site: Site, soak: Soak) -> None:
    kill_between_promise_and_verdict(site, soak, 10)


@pytest.mark.soak
def test_killed_at_a_hundred_random_moments_each_push_has_one_verdict(site: Site, soak: Soak) -> None:
    kill_between_promise_and_verdict(site, soak, 100)
