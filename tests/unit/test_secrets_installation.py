"""Where OpenBao's files go, and its configuration for other places than the delivered ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homelab_agent.secrets import bootstrap, installation
from homelab_agent.secrets.bao import Program
from homelab_agent.secrets.bootstrap import PlaceNotPlain
from homelab_agent.secrets.installation import Installation

PROGRAM = Program(Path("/usr/bin/bao"), "2.7.2")


def test_at_the_delivered_places_the_configuration_is_as_delivered() -> None:
    assert Installation().text() == (installation.DELIVERED / installation.CONFIGURATION).read_text()


def test_elsewhere_nothing_is_left_of_the_delivered_places(tmp_path: Path) -> None:
    house = bootstrap.house(PROGRAM, tmp_path, 9100, default=Path("/nowhere"), reader=os.getuid())
    text = "".join(line for line in house.at.text().splitlines(keepends=True) if not line.lstrip().startswith("#"))
    for delivered in ("/etc/", "/var/lib/openbao", "/run/", "8200", "8201", '"openbao"'):
        assert delivered not in text
    for here in (f'"{tmp_path}/raft"', f'"{tmp_path}/openbao.sock"', f"file://{tmp_path}/unseal-key", "127.0.0.1:9101"):
        assert here in text


@pytest.mark.parametrize("name", ['a"b', "a b", "a${b}", "ä", "a\nb"])
def test_a_directory_that_the_configuration_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlaceNotPlain):
        bootstrap.house(PROGRAM, tmp_path / name, 9100, default=Path("/nowhere"), reader=os.getuid())


def test_the_agent_reads_its_secret_id_from_a_file_where_it_is_no_unit(tmp_path: Path) -> None:
    house = bootstrap.house(PROGRAM, tmp_path, 9100, default=Path("/nowhere"), reader=os.getuid())
    assert house.settings == {
        "url": f"unix:{tmp_path}/openbao.sock",
        "role_id": "homelab-agent",
        "secret_id": f"file:{tmp_path}/agent-secret-id",
    }
