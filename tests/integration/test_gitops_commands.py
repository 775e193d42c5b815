"""`homelab-agent gitops` and `deliveries`, as a person types them: the real agent, its root half, a real remote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.config import keys
from homelab_agent.core.errors import Exit
from tests.agent import Agent
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.webhook import Hook
from tests.waiting import until

SECRET = "It's a Secret to Everybody"
SAYING = ("sh", "-c", "echo one; until [ -e ../go ]; do sleep 0.05; done; echo two")
"""Says something, and goes on when a file is there: until then that is what is shown."""


class House:
    """An agent that deploys one repository, `site`, and who asks it on a command line."""

    def __init__(self, agent: Agent, remote: GitRemote, directory: Path) -> None:
        self.agent = agent
        self.remote = remote
        remote.commit({"index.html": "one\n"})
        remote.clone(directory / "working-copy")
        self.path = directory / "working-copy"
        self.secret = directory / "hook-secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.hook = Hook(remote, f"http://127.0.0.1:{agent.port}/api/webhook/gitops", SECRET)

    def configure(self, *, action: Sequence[str] = ("true",), **more: Any) -> None:
        """Write the configuration: the repository, with one action."""
        entry = {
            "name": "site",
            "full_name": self.remote.full_name,
            "id": self.remote.repository_id,
            "directory": str(self.path),
            "allow_file": True,
            "secret": [{"name": "main", "secret": f"file:{self.secret}"}],
            "action": [{"name": "say", "command": list(action)}],
            **more,
        }
        self.agent.write(f"[gitops]\npoll = 0\nrepository = [{keys.toml(entry)}]\n")

    def start(self, **more: Any) -> House:
        """Configure and start the agent."""
        self.configure(**more)
        self.agent.start()
        return self

    def say(self, *words: str, code: int = 0) -> str:
        """Run a command that ends so; return what it printed, on stderr when it failed."""
        done = ended(self.agent, *words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def told(self, *words: str) -> Any:
        """Run a command for a program and return what it told."""
        return json.loads(self.say(*words, "--json"))

    def pushed(self) -> tuple[str, str]:
        """Push a commit and tell the agent; return the delivery's GUID and the commit, once it has its verdict."""
        sha = self.remote.commit({"index.html": f"{len(self.remote('log', '--oneline', 'main'))}\n"})
        guid = self.hook.push().delivery.guid
        until(lambda: all(one["verdict"] for one in self.told("deliveries", "show", guid)["attempts"]), "a verdict")
        return guid, sha


def ended(agent: Agent, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; no traceback reaches a person."""
    done = agent.run(*words)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


@pytest.fixture
def house(agent: Agent, git_remote: GitRemote, open_directory: Path) -> House:
    """A repository and an agent for it, which is not started yet."""
    return House(agent, git_remote, open_directory)


@pytest.mark.parametrize(
    "words",
    [
        ("gitops", "status"),
        ("gitops", "plan", "site"),
        ("gitops", "sync", "site"),
        ("gitops", "rollback", "site"),
        ("gitops", "hook-test", "site"),
        ("deliveries", "list"),
        ("deliveries", "show", "some-guid"),
        ("deliveries", "replay", "some-guid"),
    ],
)
def test_without_an_agent_a_command_says_so(agent: Agent, words: tuple[str, ...]) -> None:
    done = ended(agent, *words)
    assert done.returncode == Exit.UNREACHABLE
    assert "No agent answers" in done.stderr
    assert "homelab-agent run" in done.stderr


def test_where_nothing_is_deployed_from_git_the_way_to_begin_is_told(agent: Agent) -> None:
    agent.start()
    for words in (("gitops", "status"), ("gitops", "sync", "site"), ("deliveries", "list")):
        done = ended(agent, *words)
        assert done.returncode == Exit.FAILED
        assert "gitops add URL DIR" in done.stderr


@pytest.mark.timeout(180)
def test_a_sync_shows_what_its_actions_print_and_status_what_is_deployed(house: House) -> None:
    house.start(action=SAYING)
    assert house.told("gitops", "status")[0]["deployed"] == ""
    assert "up_to_date" in house.say("gitops", "sync", "site")
    sha = house.remote.commit({"index.html": "two\n"})
    planned = house.told("gitops", "plan", "site")
    assert (planned["verdict"], planned["target"], planned["actions"]) == ("ok", sha, ["say"])
    assert planned["files"] == ["index.html"]
    for line in ("index.html", "actions: say"):
        assert line in house.say("gitops", "plan", "site")
    with subprocess.Popen(
        house.agent.command("gitops", "sync", "site"), stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        seen = next(line for line in following.stdout if "say: " in line)
        (house.path.parent / "go").touch()
        assert seen + following.stdout.readline() == "  say: one\n  say: two\n"
        assert following.stdout.read().splitlines()[-1].startswith("gitops.sync.site: ok, ok: ")
    assert following.returncode == 0
    assert (house.path / "index.html").read_text() == "two\n"
    [line] = [line for line in house.say("gitops", "status").splitlines() if line.startswith("site")]
    assert sha[:7] in line
    assert " ok " in line


@pytest.mark.timeout(180)
def test_what_went_wrong_is_told_with_its_repair_and_a_rollback_mends_it(house: House) -> None:
    house.start()
    house.say("gitops", "sync", "site")
    house.agent.stop()
    house.start(action=["sh", "-c", "grep -q good index.html"])
    good = house.remote.commit({"index.html": "good\n"})
    house.say("gitops", "sync", "site")
    bad = house.remote.commit({"index.html": "bad\n"})
    said = house.say("gitops", "sync", "site", code=Exit.FAILED)
    assert "action_failed" in said
    assert "homelab-agent gitops rollback site" in said
    assert "site: repair: homelab-agent gitops rollback site" in house.say("gitops", "status")
    assert good[:7] in house.say("gitops", "rollback", "site")
    assert (house.path / "index.html").read_text() == "good\n"
    refused = house.say("gitops", "sync", "site", code=Exit.FAILED)
    assert "bad_sha" in refused
    assert "--again" in refused
    assert "action_failed" in house.say("gitops", "sync", "site", "--again", code=Exit.FAILED)
    assert house.told("gitops", "plan", "site")["head"] == bad


@pytest.mark.timeout(180)
def test_a_sync_may_be_left_alone(house: House) -> None:
    house.start()
    run = house.say("gitops", "sync", "site", "--detach").strip()
    assert "gitops.sync.site: ok" in house.say("jobs", "follow", run)


@pytest.mark.timeout(180)
def test_a_delivery_is_listed_shown_and_replayed(house: House) -> None:
    house.start()
    guid, sha = house.pushed()
    [line] = [line for line in house.say("deliveries", "list", "--repository", "site").splitlines() if guid in line]
    assert sha[:7] in line
    assert " ok " in line
    assert house.told("deliveries", "list", "--repository", "other") == []
    shown = house.say("deliveries", "show", guid)
    for part in ("signed with main", f"commit      {sha}", "attempt 1", ": ok", f"reached {sha}"):
        assert part in shown
    assert json.loads(house.say("deliveries", "show", guid, "--payload"))["after"] == sha
    assert house.told("deliveries", "replay", guid, "--plan")["verdict"] == "up_to_date"
    assert "attempt 2 for site: open" in house.say("deliveries", "replay", guid)
    until(lambda: house.told("deliveries", "show", guid)["attempts"][-1]["verdict"] == "up_to_date", "a verdict")


@pytest.mark.timeout(180)
def test_what_is_not_there_is_told_with_the_way_to_what_is(house: House) -> None:
    house.start()
    for command, name in (("plan", "other"), ("sync", "other"), ("rollback", "other"), ("hook-test", "../x y")):
        said = house.say("gitops", command, name, code=Exit.FAILED)
        assert "There is no repository" in said
        assert "homelab-agent gitops status" in said
    faulty: list[tuple[str, ...]] = [("show", "no-such-guid"), ("show", "a/../b"), ("show", "x", "--payload")]
    for words in (*faulty, ("replay", "%00")):
        said = house.say("deliveries", *words, code=Exit.FAILED)
        assert "repair: homelab-agent deliveries list" in said
    assert "a character that it may not have" in house.say("deliveries", "show", "a\nb", code=Exit.FAILED)


@pytest.mark.timeout(180)
def test_a_hook_is_tried_out_by_the_way_that_the_forge_takes(house: House) -> None:
    house.start(id=0)
    said = house.say("gitops", "hook-test", "site")
    assert "pong from" in said
    assert "signed with the secret main" in said
    assert house.told("gitops", "hook-test", "site")["status"] == "pong"
    newest = house.told("deliveries", "list", "--limit", "1")[0]
    assert (newest["event"], newest["attempts"][0]["verdict"]) == ("ping", "pong")
    guid, _ = house.pushed()
    assert house.told("deliveries", "show", guid)["attempts"][0]["verdict"] == "ok", "a trial teaches no number"
    assert "pong" in house.say("gitops", "hook-test", "site")
    status, _ = house.agent.get("/api/gitops/site/ping", method="POST")
    assert status == 403, "what is signed is for the agent's own command line"


@pytest.mark.timeout(180)
def test_a_hook_that_cannot_work_is_told_with_its_repair(house: House) -> None:
    house.start()
    house.secret.chmod(0o644)
    assert f"chmod 600 {house.secret}" in house.say("gitops", "hook-test", "site", code=Exit.FAILED)
    house.agent.stop()
    house.start(secret=[{"name": "main", "secret": f"file:{house.secret}", "expires": "2020-01-01"}])
    assert "no webhook secret" in house.say("gitops", "hook-test", "site", code=Exit.BUSY)
