"""`homelab-agent doctor gitops`: what the deployments stand on is looked at, and each fault said with what mends it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from homelab_agent import config
from homelab_agent.core import privilege, secret
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Finding, Health, State
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.gitops import doctor
from tests import user
from tests.agent import Agent
from tests.gitops_half import OWNER, ROOT, Site
from tests.neighbours import machine as machines
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.machine import Machine
from tests.neighbours.neighbour import need_root

SECRET = "It's a Secret to Everybody"


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


class Practice:
    """A site and an agent's state directory; asks the doctor about them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.state = site.directory / "state"
        self.state.mkdir()
        self.secret = self.file("hook-secret", SECRET)

    def file(self, name: str, content: str, mode: int = 0o600) -> Path:
        path = self.site.directory / name
        path.write_text(content)
        path.chmod(mode)
        return path

    def configuration(self, *actions: Mapping[str, Any], more: str = "", **keys: Any) -> Path:
        """Write the configuration, with the hook's secret unless `keys` have others."""
        secrets = [{"name": "main", "secret": f"file:{self.secret}"}]
        sections = {"secret": keys.pop("secret", secrets), "action": actions}
        text = self.site.settings(sections=sections, **keys)
        path = self.site.directory / "config.toml"
        path.write_text(text.replace("[gitops]\n", f"[gitops]\n{more}\n"))
        return path

    async def __call__(self, *actions: Mapping[str, Any], more: str = "", **keys: Any) -> dict[str, Finding]:
        """Return what the doctor finds of everything."""
        path = await asyncio.to_thread(lambda: self.configuration(*actions, more=more, **keys))
        settings = (await asyncio.to_thread(config.load, path)).settings.gitops
        assert settings is not None
        health = Health(SystemClock())
        owner = await asyncio.to_thread(privilege.owner, self.state)
        files = secret.Local(secret.files_of(owner))  # as `places.secrets` has them read
        secrets = Secrets(Redactor(), origins={**secret.ORIGINS, "file": files})
        health.add(doctor.checks(settings, self.state, secrets))
        found = {one.check.removeprefix("gitops.site."): one.finding for one in await health.probe_all()}
        assert not [one for one in found.values() if SECRET in f"{one.detail} {one.repair}"], "no value is shown"
        return found


@pytest.fixture
def ask(open_directory: Path, git_remote: GitRemote) -> Practice:
    git_remote.commit({"README": "1\n", "deploy.sh": "#!/bin/sh\n", "plain.sh": "", "Makefile": "all:\n"},
                      modes={"deploy.sh": "100755"})  # fmt: skip
    return Practice(Site(open_directory, git_remote))


def ill(found: Finding, detail: str, repair: str, state: State = State.DEGRADED) -> None:
    """See that a finding says this among other things."""
    assert found.state is state, found
    assert detail in found.detail
    assert repair in found.repair


async def test_where_all_is_well_it_says_what_is_there(ask: Practice) -> None:
    found = await ask({"name": "up", "command": ["./deploy.sh"]}, {"name": "all", "kind": "make"})
    assert {one.state for one in found.values()} == {State.OK}, found
    assert set(found) == {"gitops.git", "copy", "secrets", "actions", "remote"}
    assert found["gitops.git"].detail.startswith("git version 2.")
    assert found["copy"].detail.startswith(f"{ask.site.path} is ")
    assert ask.site.remote.url("http") in found["copy"].detail
    assert found["secrets"].detail == "webhook secrets: 1"
    assert found["remote"].detail == "main has all that the remote has"


async def test_a_remote_that_is_ahead_is_well_too(ask: Practice) -> None:
    before = ask.site.head
    ask.site.remote.commit({"README": "2\n"})
    assert (await ask())["remote"].detail == "main can move on by 1 commit"
    assert ask.site.head == before, "nothing is moved"


async def test_a_directory_that_is_not_there_is_said_of_all_that_needs_it(ask: Practice) -> None:
    found = await ask({"name": "up", "command": ["./deploy.sh"]}, directory="/nonexistent/copy")
    for name in ("copy", "actions", "remote"):
        ill(found[name], "There is no directory /nonexistent/copy", "git clone", State.FAILED)
    assert found["secrets"].state is State.OK


async def test_what_is_no_working_copy_is_said(ask: Practice) -> None:
    (ask.site.path / ".git").rename(ask.site.directory / "git")
    found = await ask()
    ill(found["copy"], "not a git repository", "git status", State.FAILED)
    ill(found["remote"], "not_a_repository", "git status")


async def test_who_the_owner_is_and_may_be_is_held_against_the_configuration(ask: Practice) -> None:
    need_root("only root can give away files")
    found = (await ask(run_as="root"))["copy"]
    ill(found, "and run_as is root", f"sudo chown -R root: {ask.site.path}, or correct run_as", State.FAILED)
    os.chown(ask.state, 12345, 12345)
    ill((await ask())["copy"], "The agent may do nothing as the user nobody. (it runs as user 12345, and there is no "
        "root half)", "as a service with its root half", State.FAILED)  # fmt: skip
    assert (await ask(run_as="no-such-user"))["copy"].detail == "There is no user no-such-user on this host."


async def test_another_branch_is_said_with_the_way_to_the_right_one(ask: Practice) -> None:
    ask.site.git("switch", "--quiet", "--create", "other")
    ill((await ask())["remote"], "wrong_branch: other is checked out", "git switch main")


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("https://git.example/octo/other.git", "its remote is octo/other"),
        ("https://octo:pass@git.example/octo/homelab.git", "The address holds a password"),
    ],
)
async def test_a_remote_that_is_not_the_configured_one_is_said(ask: Practice, url: str, detail: str) -> None:
    ask.site.git("remote", "set-url", "origin", url)
    ill((await ask())["copy"], detail, f"git -C {ask.site.path} remote set-url origin URL")


async def test_a_way_in_that_the_remote_does_not_take_is_said(ask: Practice) -> None:
    key = ask.file("deploy-key", "key")
    found = await ask(deploy_key=str(key))
    ill(found["copy"], "is not reached with a deploy key", "remove deploy_key")
    ask.site.git("remote", "set-url", "origin", f"git@git.example:{ask.site.remote.full_name}.git")
    assert (await ask(deploy_key=str(key)))["copy"].state is State.OK
    ill((await ask(token=f"file:{ask.secret}"))["copy"], "is not reached with a token", "remove token")
    ask.site.git("remote", "remove", "origin")
    ill((await ask())["copy"], "it has no remote", f"git -C {ask.site.path} remote add origin URL", State.FAILED)


async def test_a_remote_that_is_gone_or_says_nothing_is_a_finding_within_bounded_time(
    ask: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask.site.remote.gone()
    ill((await ask())["remote"], "fetch_failed", "git ls-remote")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ask.site.git("remote", "set-url", "origin", f"http://127.0.0.1:{silent.getsockname()[1]}/octo/homelab.git")
        monkeypatch.setattr(doctor, "REMOTE_SECONDS", 1.0)
        ill((await ask())["remote"], "fetch_failed: git was not done after 1 s", "git ls-remote")


@pytest.mark.parametrize(
    ("entry", "state", "detail", "repair"),
    [
        ("file:{0}/none", State.FAILED, "none is not there", "chmod 600"),
        ("file:{0}/short", State.DEGRADED, "the webhook secret main is shorter than 22 characters", "openssl rand"),
        ("file:{0}/open", State.FAILED, "can be read or written by others", "chmod 600"),
        ("env:HOMELAB_AGENT_TEST_NOT_SET", State.NOT_AVAILABLE, "only the agent can tell", "start the agent"),
        ("credential:hook", State.NOT_AVAILABLE, "only the agent can tell", "start the agent"),
        ("fil:hunter2", State.FAILED, "begins with one of env:, file:", "file:PATH"),
        ("hunter2", State.DEGRADED, "shorter than 22 characters", "openssl rand"),
    ],
)
async def test_a_secret_that_does_not_do_is_said_without_its_value(
    ask: Practice, entry: str, state: State, detail: str, repair: str
) -> None:
    ask.file("short", "hunter2")
    ask.file("open", SECRET, 0o640)
    found = (await ask(secret=[{"name": "main", "secret": entry.format(ask.site.directory)}]))["secrets"]
    ill(found, detail, repair, state)
    assert "hunter2" not in found.detail


async def test_a_secret_is_looked_at_as_the_agent_that_is_another_user(ask: Practice) -> None:
    need_root("only root can look for another")
    os.chown(ask.state, OWNER, OWNER)
    ill((await ask())["secrets"], "belongs to another user (uid 0)", f"chown {OWNER} {ask.secret}", State.FAILED)
    os.chown(ask.secret, OWNER, OWNER)
    assert (await ask())["secrets"].state is State.OK


async def test_secrets_that_end_are_said(ask: Practice) -> None:
    today = datetime.now(UTC).date()
    reference = f"file:{ask.secret}"
    soon = {"name": "main", "secret": reference, "expires": (today + timedelta(days=3)).isoformat()}
    ill((await ask(secret=[soon]))["secrets"], "is accepted until", "put a new one beside it")
    over = {"name": "old", "secret": reference, "expires": (today - timedelta(days=3)).isoformat()}
    ill((await ask(secret=[over]))["secrets"], "its deliveries are refused", "put a new one beside it")
    both = (await ask(secret=[over, {"name": "main", "secret": reference}]))["secrets"]
    assert both == Finding.ok(f"webhook secrets: 2; old expired on {today - timedelta(days=3)}")


async def test_without_a_secret_it_is_polled_or_nothing_happens(ask: Practice) -> None:
    assert (await ask(secret=[]))["secrets"] == Finding.ok("no webhook secret: it is polled")
    ill((await ask(secret=[], more="poll = 0"))["secrets"], "nothing is deployed by itself", "[gitops] poll")


async def test_the_token_for_commit_statuses_is_looked_at(ask: Practice) -> None:
    found = (await ask(more='status_token = "file:/nonexistent/token"'))["gitops.status_token"]
    ill(found, "/nonexistent/token is not there", "chmod 600", State.FAILED)
    assert (await ask(more=f'status_token = "file:{ask.secret}"'))["gitops.status_token"] == Finding.ok("it is there")


async def test_files_that_decide_what_is_deployed_are_nobody_elses(ask: Practice) -> None:
    config_file = ask.site.path / ".git/config"
    config_file.chmod(0o666)
    found = (await ask())["copy"]
    ill(found, f"may write to {config_file}", f"sudo chmod -R go-w {config_file}")
    config_file.chmod(0o644)
    names = {"deploy_key": 0o640, "known_hosts": 0o666, "allowed_signers": 0o646}
    files = {name: str(ask.file(name, "", mode)) for name, mode in names.items()}
    found = (await ask(**files))["secrets"]
    ill(found, f"others may read {files['deploy_key']}", f"chmod 600 {files['deploy_key']}")
    for name in ("known_hosts", "allowed_signers"):
        ill(found, f"others may write {files[name]}", f"chmod go-w {files[name]}")
    missing = (await ask(known_hosts="/nonexistent/hosts"))["secrets"]
    ill(missing, "/nonexistent/hosts cannot be read", "correct `known_hosts`", State.FAILED)


async def test_what_another_user_has_left_in_the_working_copy_is_said(ask: Practice) -> None:
    need_root("only root can give away files")
    (ask.site.path / ".git/FETCH_HEAD").touch()
    os.chown(ask.site.path / ".git/FETCH_HEAD", 0, 0)
    ill((await ask())["copy"], "FETCH_HEAD", f"sudo chown -R nobody: {ask.site.path}/.git/FETCH_HEAD")


@pytest.mark.parametrize(
    ("action", "state", "detail", "repair"),
    [
        ({"command": ["not-there"]}, State.FAILED, "The program not-there is not installed", "install not-there"),
        ({"command": ["/opt/not-there"]}, State.FAILED, "The program /opt/not-there is not", "install /opt/not-there"),
        ({"command": ["./gone.sh"]}, State.DEGRADED, "./gone.sh is not in the working copy", "`command`"),
        ({"command": ["./plain.sh"]}, State.DEGRADED, "./plain.sh is not executable", "--chmod=+x"),
        ({"command": ["true"], "directory": "dir"}, State.DEGRADED, "the directory dir is not in", "`directory`"),
        ({"command": ["true"], "run_as": "no-such-user"}, State.FAILED, "no user no-such-user", "run_as"),
    ],
)  # fmt: skip
async def test_what_an_action_needs_and_is_not_there_is_said_before_it_runs(
    ask: Practice, action: dict[str, Any], state: State, detail: str, repair: str
) -> None:
    found = (await ask({"name": "up", **action}))["actions"]
    ill(found, f"action up: {detail}" if state is State.DEGRADED else detail, repair, state)


async def test_a_makefile_that_is_not_there_is_said(ask: Practice) -> None:
    (ask.site.path / "Makefile").unlink()
    ill((await ask({"name": "up", "kind": "make"}))["actions"], "a Makefile is not in the working copy", "push it")


async def test_a_docker_without_compose_is_said_and_asked_as_the_user_of_the_action(
    ask: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask.site.write({"who": ""})
    docker = ask.file("docker", f'#!/bin/sh\nid -u >{ask.site.path}/who\n[ "$*" != "compose version" ]\n', 0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    found = (await ask({"name": "up", "kind": "compose"}))["actions"]
    ill(found, "action up: docker has no compose", "install docker's compose plugin", State.FAILED)
    assert (ask.site.path / "who").read_text() == f"{OWNER}\n", "what is in that user's home is that user's to run"


async def test_a_git_that_is_too_old_is_said(ask: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    old = ask.file("git", "#!/bin/sh\necho git version 2.30.2\n", 0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    found = (await ask())["gitops.git"]
    ill(found, "git version 2.30.2 is too old", "install git 2.39 or later", State.FAILED)


async def test_who_can_push_to_what_runs_as_root_is_said_to_be_root(ask: Practice) -> None:
    need_root("the actions are root's")
    found = await ask({"name": "up", "command": ["./deploy.sh"], "run_as": "root"}, {"name": "all", "kind": "make"})
    full_name = ask.site.remote.full_name
    said = f"actions of site run as root (up): whoever can push to {full_name} is root here"
    assert found["actions"] == Finding.ok(f"actions: 2; {said}")


UNIT = "[Service]\nExecStart=/bin/sleep 1000\n"


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine that has this checkout, wherever that is: below /tmp, say, which is its own."""
    with machines.running(shared=[ROOT]) as one:
        yield one


def test_the_group_docker_and_the_units_of_a_real_machine(machine: Machine) -> None:
    machine.run("groupadd", "--force", "docker")
    machine("useradd", "--create-home", "--groups", "docker", "deployer")
    machine.install("there.service", UNIT)
    machine("git", "init", "--quiet", "--initial-branch=main", "/srv/site")
    machine("git", "-C", "/srv/site", "remote", "add", "origin", "https://git.example/octo/site.git")
    machine("chown", "-R", "deployer:", "/srv/site")
    machine.path("/srv/config.toml").write_text(
        '[agent]\nstate = "/var/lib/homelab-agent"\n[gitops]\n[[gitops.repository]]\nname = "site"\n'
        'full_name = "octo/site"\ndirectory = "/srv/site"\n'
        '[[gitops.repository.action]]\nname = "up"\ncommand = ["true"]\n'
        '[[gitops.repository.action]]\nname = "units"\nkind = "systemctl"\nunits = ["there.service", "gone.service"]\n'
    )
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from homelab_agent.cli import main; main()"
    words = ["--config", "/srv/config.toml", "doctor", "gitops", "--json"]
    done = machine.run(sys.executable, "-c", program, *words, seconds=120)
    found = {one["check"]: one for one in json.loads(done.stdout)}
    power = (
        "actions of site run as deployer, who is in the group docker (up): whoever can push to octo/site is root here"
    )
    actions = found["gitops.site.actions"]
    assert actions["detail"] == f"action units: systemd knows no unit gone.service; {power}"
    assert actions["repair"] == "systemctl list-unit-files gone.service"
    assert (
        found["gitops.site.copy"]["detail"] == "/srv/site is deployer's, and follows https://git.example/octo/site.git"
    )
    assert found["gitops.site.remote"]["detail"].startswith("fetch_failed: "), "there is no network, and that is said"
    assert done.returncode == 1, "something has failed"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def doctor_command(ask: Practice) -> Run:
    """Run the command; `wrap` makes another command line of it."""
    path = ask.configuration({"name": "up", "command": ["./deploy.sh"]})
    path.write_text(f'[agent]\nstate = "{ask.state}"\n{path.read_text()}')
    path.chmod(0o644)

    def run(wrap: Callable[[list[str]], list[str]] = list) -> subprocess.CompletedProcess[str]:
        argv = wrap([sys.executable, "-m", "homelab_agent", "--config", str(path), "doctor", "gitops"])
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_another_user_is_told_who_can_tell(ask: Practice, doctor_command: Run) -> None:
    need_root("only root can become another user")
    subprocess.run(["chown", "-R", "root:", ask.site.path], check=True)
    done = doctor_command(user.ordinary)
    assert "gitops.git: git version" in done.stdout
    assert "only root, whose working copy it is, and root can tell" in done.stdout
    assert "repair: sudo homelab-agent doctor gitops" in done.stdout
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(180)
def test_beside_a_running_agent_it_tells_what_that_does_not_ask(agent: Agent, ask: Practice) -> None:
    text = ask.configuration({"name": "up", "command": ["./gone.sh"]}).read_text()
    agent.write(text)
    alone = agent.run("doctor", "gitops")
    assert "Checking from outside." in alone.stderr
    assert "gitops.site.remote: main has all that the remote has" in alone.stdout
    agent.start()
    beside = agent.run("doctor", "gitops")
    assert "gitops.site: " in beside.stdout, "the agent's own"
    assert "action up: ./gone.sh is not in the working copy" in beside.stdout
    assert "gitops.site.remote" not in beside.stdout, "that the agent asks itself"
