"""After an edit of the configuration the halves do not mean the same: nothing is done until the agent is restarted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.privilege import VerbRefused
from tests.gitops_half import ROOT, Site, section_of, serving
from tests.neighbours.git_remote import GitRemote


@pytest.fixture(autouse=True)
def _where_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def site(open_directory: Path, git_remote: GitRemote) -> Site:
    git_remote.commit({"a.txt": "one\n"})
    git_remote.commit({"a.txt": "two\n"})
    return Site(open_directory, git_remote)


def settings(site: Site, *, probe: str = "true", **more: Any) -> str:
    sections = {
        "action": [{"name": "note", "command": ["touch", "../noted"]}],
        "probe": [{"kind": "command", "command": [probe]}],
    }
    return site.settings(sections=sections, **more)


def calls(site: Site) -> list[tuple[str, dict[str, Any]]]:
    """Return every verb on a repository, with arguments; the last one goes back."""
    head, before = site.head, site.git("rev-parse", "HEAD~1")
    return [
        ("git_plan", {}),
        ("git_sync", {}),
        ("git_changed", {"old": before, "new": head}),
        ("git_contained", {"head": head, "shas": [before]}),
        ("run_probe", {"probe": 0}),
        ("run_action", {"action": "note"}),
        ("git_rollback", {"sha": before}),
    ]


async def test_nothing_is_done_that_may_be_meant_differently(site: Site) -> None:
    head, config = site.head, site.directory / "config.toml"
    async with serving(site.directory, settings(site)) as half:
        await half("git_plan")
        await asyncio.to_thread(config.write_text, settings(site, probe="false"))
        for verb, arguments in calls(site):
            with pytest.raises(VerbRefused, match="site was changed since the agent was started") as caught:
                await half(verb, **arguments)
            assert "systemctl restart homelab-agent" in caught.value.repair
        assert site.head == head
        assert not (site.directory / "noted").exists()
        half.section = await asyncio.to_thread(section_of, config)  # the agent was restarted
        assert (await half("run_probe", probe=0))["holds"] is False


async def test_an_edit_of_something_else_changes_nothing(site: Site) -> None:
    site.directory.chmod(0o1777)
    config = site.directory / "config.toml"
    async with serving(site.directory, settings(site)) as half:
        more = "# more\n" + settings(site, timeout=50.0) + '[[gitops.repository]]\nname = "x"\nfull_name = "a/x"\n'
        await asyncio.to_thread(config.write_text, more + 'directory = "/nowhere"\n')
        *_, (_, back) = asked = calls(site)
        for verb, arguments in asked:
            await half(verb, **arguments)
        assert site.head == back["sha"]
        assert (site.directory / "noted").exists()
