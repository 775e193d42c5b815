"""The section `[gitops]`: what may not be written there is said before anything runs, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent import config
from homelab_agent.config import loading
from homelab_agent.gitops.settings import Action

FILE = Path("config.toml")
REPOSITORY = """\
[[gitops.repository]]
name = "homelab"
full_name = "octo/homelab"
directory = "/srv/homelab"
"""


def faults(text: str) -> list[str]:
    with pytest.raises(config.ConfigurationFaulty) as caught:
        loading.interpret(config.Settings, text, FILE, {})
    return [str(fault) for fault in caught.value.faults]


def test_an_action_restarts_neither_the_agent_nor_its_root_half_and_is_told_what_does() -> None:
    text = f"""\
{REPOSITORY}
[[gitops.repository.action]]
name = "self"
kind = "systemctl"
units = ["caddy.service", "homelab-agent", "homelab-agent-privileged.socket"]
[[gitops.repository.action]]
name = "all"
kind = "systemctl"
units = ["homelab-*"]
directory = "/etc"
"""
    said = faults(text)
    assert len(said) == 3
    assert said[0].startswith("config.toml:9: gitops.repository[1].action[1].units = ")
    assert said[0].endswith(
        "homelab-agent, homelab-agent-privileged.socket: that is the agent itself, and would end this action too; "
        "`restart_agent = true` of the repository restarts it when all is done"
    )
    assert "config.toml:13: gitops.repository[1].action[2].units" in said[1]
    assert "homelab-*: that is the agent itself" in said[1]
    assert "'/etc' does not lie in the working copy" in said[2]


@pytest.mark.parametrize("unit", ["caddy.service", "homelab-agent-exporter", "homelab.service", "agent", "*.timer"])
def test_every_other_unit_may_be_restarted(unit: str) -> None:
    assert Action(name="other", kind="systemctl", units=[unit]).units == [unit]
