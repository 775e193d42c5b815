"""`homelab-agent gitops` and `deliveries`, as a person types them: the real agent, its root half, a real remote."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.config import keys
from homelab_agent.core.client import Client
from homelab_agent.core.errors import Exit
from tests import user
from tests.agent import Agent
from tests.neighbours.git_host import GitHost
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.webhook import Hook
from tests.waiting import until

SECRET = "It's a Secret to Everybody"
SAYING = ("sh", "-c", "echo one; until [ -e ../go ]; do sleep 0.05; done")
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
    with subprocess.Popen(house.agent.command("gitops", "sync", "site"), stdout=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        assert "  say: one\n" in iter(shown.stdout.readline, "")
        (house.path.parent / "go").touch()
        assert shown.stdout.read().splitlines()[-1].startswith("gitops.sync.site: ok, ok: ")
    assert shown.returncode == 0
    assert (house.path / "index.html").read_text() == "two\n"
    [line] = [line for line in house.say("gitops", "status").splitlines() if line.startswith("site")]
    assert sha[:7] in line
    assert " ok " in line


@pytest.mark.timeout(180)
def test_every_line_that_an_action_prints_is_shown_in_order(house: House) -> None:
    house.start(action=["seq", "5000"])
    house.say("gitops", "sync", "site")
    house.remote.commit({"index.html": "two\n"})
    shown = house.say("gitops", "sync", "site").splitlines()
    begin = shown.index("  say begins")
    assert shown[begin + 1 : begin + 5001] == [f"  say: {number}" for number in range(1, 5001)]
    assert shown[begin + 5001].startswith("  say took ")
    assert shown[-1].startswith("gitops.sync.site: ok, ok: ")


@pytest.mark.timeout(180)
def test_a_terminal_that_stands_still_holds_nobody_up_and_loses_nothing(house: House) -> None:
    """What is shown waits for who reads it; the agent waits for nobody, and gives the rest when it is asked again."""
    flood = 'echo one; until [ -e ../go ]; do sleep 0.05; done; seq -f "%0300g" 3000'
    house.configure(action=["sh", "-c", flood])
    house.agent.config.write_text(house.agent.config.read_text().replace("[web]", "[web]\nreceive_deadline = 3.0"))
    house.agent.start()
    house.say("gitops", "sync", "site")
    house.remote.commit({"index.html": "two\n"})
    local = Client(house.agent.state / "agent.sock")

    def connections() -> int:
        """Count those over the unix socket and TCP, but for the one that asks."""
        web = next(one for one in local.post("/api/health/probe")["findings"] if one["check"] == "web")
        return int(web["detail"].rpartition(" ")[2]) - 1

    with subprocess.Popen(house.agent.command("gitops", "sync", "site"), stdout=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        assert "  say: one\n" in iter(shown.stdout.readline, "")
        until(lambda: connections() == 1, "nobody else is connected")
        shown.send_signal(signal.SIGSTOP)
        try:
            (house.path.parent / "go").touch()
            until(lambda: house.told("jobs", "history", "gitops.sync.site")[0]["state"] == "ok", "the run has ended")
            until(lambda: connections() == 0, "the agent has cut who does not read")
        finally:
            shown.send_signal(signal.SIGCONT)
        lines = shown.stdout.read().splitlines()
    assert lines[:3000] == [f"  say: {number:0300}" for number in range(1, 3001)]
    assert lines[-1].startswith("gitops.sync.site: ok, ok: ")
    assert shown.returncode == 0


@pytest.mark.timeout(180)
def test_what_would_move_a_terminals_cursor_is_not_shown_as_it_is(house: House) -> None:
    house.start(action=["printf", "\\033[31mred\\033[0m\\tand \\033]0;title\\007 ☃\\n"])
    house.say("gitops", "sync", "site")
    house.remote.commit({"index.html": "two\n"})
    assert "  say: red\tand ?]0;title? ☃\n" in house.say("gitops", "sync", "site")


@pytest.mark.timeout(180)
def test_a_secret_that_the_agent_knows_is_nowhere_though_an_action_prints_it(house: House) -> None:
    token = house.path.parent / "token"
    token.write_text("ghp_0123456789abcdef")
    token.chmod(0o600)
    # The last that is kept of it would begin within the token: it is masked before it is cut.
    printing = 'cat ../hook-secret; echo; cat ../token; printf "%02940d\\n" 0; cat ../hook-secret ../token >&2; exit 3'
    house.start(token=f"file:{token}", rollback="automatic")
    house.say("gitops", "sync", "site")
    house.agent.stop()
    house.configure(token=f"file:{token}", rollback="automatic", action=["sh", "-c", printing])
    house.agent.start_with_database()
    house.agent.until("webhook", "ok")
    house.pushed()
    house.remote.commit({"index.html": "three\n"})
    followed = ended(house.agent, "gitops", "sync", "site")
    assert followed.returncode == Exit.FAILED
    assert "  say: ***\n" in followed.stdout
    assert "rolled_back" in followed.stdout
    history = house.say("jobs", "history") + house.say("deliveries", "list") + house.say("gitops", "status")
    tables = ("gitops_action", "gitops_move", "gitops_verdict", "job_run")
    rows = {table: until(lambda: house.agent.sql(f"SELECT * FROM {table}"), table) for table in tables}  # noqa: B023
    failed = [row for row in rows["gitops_action"] if row["state"] == "failed"]
    assert failed
    assert all(row["detail"].endswith("******") for row in failed), "what was printed last"
    house.agent.stop()
    said = [followed.stdout, followed.stderr, history, json.dumps(rows), house.agent.log.read_text()]
    kept = b"".join(path.read_bytes() for path in sorted(house.agent.state.glob("state.db*")))
    assert b"action say ended with 3" in kept
    for part in (SECRET, "Everybody", token.read_text(), "9abcdef"):
        assert part.encode() not in kept
        assert not [text for text in said if part in text]


@pytest.mark.timeout(180)
def test_a_program_is_told_how_it_ended_and_nothing_else(house: House) -> None:
    house.start(action=["sh", "-c", "echo fine; grep -q good index.html"])
    run = house.told("gitops", "sync", "site")
    assert (run["job"], run["state"], run["trigger"]) == ("gitops.sync.site", "ok", "command")
    assert run["detail"].startswith("up_to_date: ")
    house.remote.commit({"index.html": "bad\n"})
    failed = ended(house.agent, "gitops", "sync", "site", "--json")
    assert failed.returncode == Exit.FAILED
    run = json.loads(failed.stdout)
    assert (run["state"], run["repair"]) == ("failed", "homelab-agent gitops rollback site")
    assert "gitops.sync.site ended as failed" in failed.stderr
    assert run["id"] == house.told("jobs", "history", "gitops.sync.site", "--limit", "1")[0]["id"]
    back = ended(house.agent, "gitops", "rollback", "site", "--json")
    assert (back.returncode, json.loads(back.stdout)["state"]) == (Exit.FAILED, "failed"), (
        "what follows fails there, too"
    )
    detached = house.told("gitops", "sync", "site", "--again", "--detach")
    assert list(detached) == ["run"]
    ended(house.agent, "jobs", "follow", detached["run"])
    ids = [one["id"] for one in house.told("jobs", "history", "gitops.sync.site")]
    assert ids[0] == detached["run"]


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
    assert f"would be {good[:7]}" in house.say("gitops", "rollback", "site", "--plan")
    assert house.told("gitops", "rollback", "site", "--plan")["target"] == good
    assert (house.path / "index.html").read_text() == "bad\n"
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
    assert "no webhook secret" in house.say("gitops", "hook-test", "site", code=Exit.CONFIGURATION)


# A new repository


def added(agent: Agent, url: str, directory: Path, *more: str, code: int = 0) -> str:
    """Add a repository with a command that ends so; return what it printed."""
    done = ended(agent, "gitops", "add", url, str(directory), *more)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.timeout(180)
def test_a_repository_is_added_its_hook_pings_and_what_is_pushed_is_deployed(
    agent: Agent, git_remote: GitRemote, open_directory: Path
) -> None:
    git_remote.commit({"index.html": "one\n"})
    copy = open_directory / "copy"
    said = added(agent, git_remote.url("http"), copy, "--name", "site", "--show-secret")
    secret = open_directory / "hook-secret-site"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for part in (":8443/api/webhook/gitops", "application/json", secret.read_text().strip(), "just the push event"):
        assert part in said
    assert (copy / "index.html").read_text() == "one\n"
    assert agent.run("config", "check").returncode == 0
    agent.start()
    hook = Hook(git_remote, f"http://127.0.0.1:{agent.port}/api/webhook/gitops", secret.read_text().strip())
    assert hook.ping().status == 200
    git_remote.commit({"index.html": "two\n"})
    assert hook.push().status == 202
    until(lambda: (copy / "index.html").read_text() == "two\n", "it is deployed", seconds=60)


@pytest.mark.timeout(180)
def test_who_adds_a_repository_may_wait_for_the_ping(agent: Agent, git_remote: GitRemote, open_directory: Path) -> None:
    git_remote.commit({"index.html": "one\n"})
    words = agent.command("gitops", "add", git_remote.url("http"), str(open_directory / "copy"), "--wait")
    name = git_remote.full_name.partition("/")[2]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as waiting:
        try:
            assert waiting.stdout is not None
            assert any("waiting for the ping" in line for line in iter(waiting.stdout.readline, ""))
            agent.start()
            assert ended(agent, "gitops", "hook-test", name).returncode == 0
            assert "the ping came, signed with the secret main" in waiting.stdout.read()
        finally:
            waiting.kill()
    assert waiting.returncode == 0


def test_a_working_copy_that_is_there_is_taken_as_it_is(
    agent: Agent, git_remote: GitRemote, open_directory: Path
) -> None:
    git_remote.commit({"index.html": "one\n"})
    git_remote.branch("live")
    copy = open_directory / "copy"
    git = git_remote.clone(copy)
    git("switch", "--quiet", "live")
    (copy / "index.html").write_text("mine\n")
    done = ended(agent, "gitops", "add", git_remote.url(), str(copy), "--name", "site", "--json")
    told = json.loads(done.stdout)
    assert (told["branch"], told["allow_file"], told["full_name"]) == ("live", True, git_remote.full_name)
    assert "secret_value" not in told
    assert (copy / "index.html").read_text() == "mine\n"
    before = agent.config.read_text()
    assert "a repository called site" in added(agent, git_remote.url(), copy, "--name", "site", code=Exit.FAILED)
    assert agent.config.read_text() == before


@pytest.mark.timeout(180)
def test_a_clone_belongs_to_who_is_named(agent: Agent, git_remote: GitRemote, open_directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can clone as another user")
    git_remote.commit({"index.html": "one\n"})
    copy = open_directory / "copy"
    owner = pwd.getpwuid(user.UID).pw_name
    assert f"as {owner}" in added(agent, git_remote.url("http"), copy, "--user", owner)
    assert {path.lstat().st_uid for path in (copy, *copy.rglob("*"))} == {user.UID}
    assert f'run_as = "{owner}"' in agent.config.read_text()


def test_a_private_repository_gets_a_key_of_its_own(agent: Agent, git_host: GitHost, open_directory: Path) -> None:
    remote = git_host.repository(private=True)
    remote.commit({"index.html": "one\n"})
    name = remote.full_name.partition("/")[2]
    url, copy = remote.url("ssh"), open_directory / "copy"
    unknown = added(agent, url, copy, code=Exit.FAILED)
    assert "ssh-keyscan" in unknown, "whose host this is, nobody has said"
    words = ("--known-hosts", str(remote.known_hosts))
    refused = added(agent, url, copy, *words, code=Exit.FAILED)
    key = open_directory / f"deploy-key-{name}"
    assert key.with_suffix(".pub").read_text().strip() in refused
    assert "without write access" in refused
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not copy.exists()
    assert "gitops" not in agent.config.read_text()
    git_host.ssh.authorize(key.with_suffix(".pub"), remote.full_name, write=False)
    assert f"the deploy key is {key}" in added(agent, url, copy, *words)
    assert (copy / "index.html").read_text() == "one\n"
    assert str(key) not in (copy / ".git" / "config").read_text()


def test_what_cannot_be_added_changes_nothing_and_is_told_with_its_repair(
    agent: Agent, git_remote: GitRemote, open_directory: Path
) -> None:
    git_remote.commit({"index.html": "one\n"})
    url, copy = git_remote.url("http"), open_directory / "copy"
    other, full = open_directory / "other", open_directory / "full"
    git_remote.clone(other)
    full.mkdir()
    (full / "mine").touch()
    before = agent.config.read_text()
    for words, said in (
        (("ftp://example.org/a/b", copy), "--full-name"),
        (("https://me:secret@example.org/a/b", copy), "token"),
        ((f"{url}x", copy), "ls-remote"),
        ((url, open_directory / "no" / "where"), "mkdir -p"),
        ((url, other), "remote set-url"),
        ((url, full), "no working copy"),
        ((url, copy, "--branch", "a b"), "branch"),
        ((url, copy, "--branch", "absent"), "absent"),
        ((url, copy, "--user", "nobody-of-that-name"), "nobody-of-that-name"),
    ):
        printed = added(agent, words[0], Path(words[1]), *map(str, words[2:]), code=Exit.FAILED)
        assert said in printed
        assert "secret@" not in printed
    assert agent.config.read_text() == before
    assert not copy.exists()
    assert not list(open_directory.glob("hook-secret-*"))
