"""The whole agent with its secrets in a real OpenBao: a webhook's secret that changes under load, and what is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from homelab_agent.config import keys
from tests.agent import Agent
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub
from tests.neighbours.openbao import OpenBao
from tests.neighbours.webhook import Hook
from tests.waiting import until

SECRETS = [f"the webhook's secret, number {number}" for number in range(3)]


class Site:
    """An agent whose one repository has its webhook's secret in OpenBao."""

    def __init__(self, agent: Agent, remote: GitRemote, openbao: OpenBao, directory: Path) -> None:
        self.agent = agent
        self.remote = remote
        self.openbao = openbao
        remote.commit({"README": "read me\n"})
        remote.clone(directory / "working-copy")
        secret_id = directory / "secret-id"
        secret_id.touch(0o600)
        secret_id.write_text(openbao.secret_id)
        openbao.put("homelab/hook", secret=SECRETS[0])
        section = {"url": openbao.url, "role_id": openbao.role_id, "secret_id": f"file:{secret_id}", "poll": 1}
        entry = {
            "name": "site",
            "full_name": remote.full_name,
            "id": remote.repository_id,
            "directory": str(directory / "working-copy"),
            "allow_file": True,
            "secret": [{"name": "main", "secret": "openbao:secret/homelab/hook#secret"}],
        }
        agent.write(
            "[secrets]\n"
            + "".join(f"{key} = {keys.toml(value)}\n" for key, value in section.items())
            + f"[gitops]\npoll = 0\nrepository = [{keys.toml(entry)}]\n"
        )

    def hook(self, github: GitHub, secret: str) -> Hook:
        """Return the webhook as the forge has it."""
        return github.hook(self.remote, f"http://127.0.0.1:{self.agent.port}/api/webhook/gitops", secret)

    def has_gone_on(self, statuses: Sequence[int], answered: int, version: str) -> bool:
        """Return whether so many deliveries were answered, and the agent has this version of the secret."""
        return len(statuses) > answered and self.version() == version

    def version(self) -> str:
        """Return which version of the webhook's secret the agent has."""
        found = self.agent.json("/api/secrets")["secrets"]
        return str(next(one["version"] for one in found if one["source"] == "openbao"))


@pytest.fixture
def site(agent: Agent, git_remote: GitRemote, openbao: OpenBao, open_directory: Path) -> Site:
    return Site(agent, git_remote, openbao, open_directory)


@pytest.mark.timeout(180)
def test_a_webhooks_secret_changes_under_load_and_no_genuine_delivery_is_refused(site: Site, github: GitHub) -> None:
    site.agent.start_with_database()
    until(lambda: site.hook(github, SECRETS[0]).ping().status == 200, "the secret is known")
    statuses: list[int] = []
    current, ended = [site.hook(github, SECRETS[0])], threading.Event()

    def deliver() -> None:
        while not ended.is_set():
            statuses.append(current[0].push().status)

    load = threading.Thread(target=deliver)
    load.start()
    try:
        site.openbao.put("homelab/hook", secret=SECRETS[1])
        current[0] = site.hook(github, SECRETS[1])  # the forge signs with it before the agent has looked
        until(partial(site.has_gone_on, statuses, len(statuses) + 50, "2"), "the agent has the second")
        site.openbao.put("homelab/hook", secret=SECRETS[2])
        until(partial(site.has_gone_on, statuses, len(statuses) + 50, "3"), "the agent has the third")
        current[0] = site.hook(github, SECRETS[2])  # until now it was signed with the one before
        until(partial(site.has_gone_on, statuses, len(statuses) + 50, "3"), "it goes on")
    finally:
        ended.set()
        load.join()
    assert set(statuses) == {202}
    rows = site.agent.sql
    adopted = "SELECT version FROM secret_change WHERE outcome = 'adopted' ORDER BY id"
    until(lambda: [row["version"] for row in rows(adopted)] == ["2", "3"], "each adoption is a row")
    told = site.agent.log.read_text()
    assert told.count('"event":"secret.adopted"') == 2
    assert not any(secret in told for secret in SECRETS)


@pytest.mark.timeout(180)
def test_an_agent_starts_without_openbao_and_goes_on_when_it_is_there(site: Site, github: GitHub) -> None:
    site.openbao.kill()
    site.agent.start_with_database()
    found = site.agent.until("webhook", "failed")
    assert "OpenBao" in found["detail"]
    assert site.hook(github, SECRETS[0]).push().status == 401
    done = site.agent.run("doctor", "secrets")
    assert done.returncode == 1
    assert "repair: " in done.stdout
    site.openbao.heal()
    site.agent.until("secrets.openbao", "ok")
    assert site.hook(github, SECRETS[0]).push().status == 202
    assert site.agent.run("doctor", "secrets").returncode == 0


@pytest.mark.timeout(120)
def test_the_secrets_are_listed_with_what_they_are_for_and_without_what_they_are(site: Site) -> None:
    site.agent.start()
    site.agent.until("webhook", "ok")
    done = site.agent.run("secrets", "list")
    assert "openbao:secret/homelab/hook#secret" in done.stdout
    assert "gitops.repository.site.secret.main.secret" in done.stdout
    assert SECRETS[0] not in done.stdout + done.stderr
    found = json.loads(site.agent.run("secrets", "list", "--json").stdout)["secrets"]
    hook = next(one for one in found if one["source"] == "openbao")
    assert hook["version"] == "1"
    assert hook["used_by"] == ["gitops.repository.site.secret.main.secret"]
