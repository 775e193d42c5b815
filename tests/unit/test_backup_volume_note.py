"""What a copy notes of a volume has no password in it, and names what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homelab_agent.backup import aim, volume_note
from homelab_agent.backup.inventory import Inventory, Volume
from homelab_agent.backup.point import Contents
from homelab_agent.backup.restore_errors import VolumeNotTold

SHARE = {"type": "cifs", "device": "//nas/photos"}


def noted(options: dict[str, str], driver: str = "local") -> dict[str, Any]:
    return volume_note.note(Volume("photos", Path("/v"), driver, options, {"of": "a house"}))


@pytest.mark.parametrize(
    ("o", "kept", "left"),
    [
        ("addr=nas,rw,nfsvers=4", "addr=nas,rw,nfsvers=4", []),
        ("username=me,password=hidden,vers=3.0", "username=me,vers=3.0", ["password (of o)"]),
        ("username=me,pass=hidden", "username=me", ["pass (of o)"]),
        ("PASSWORD2=hidden, credentials=/root/hidden,rw", "rw", ["PASSWORD2 (of o)", "credentials (of o)"]),
        ("user=me%hidden,rw", "rw", ["user (of o)"]),
        ("username=me,password=hid,,den,rw", None, ["o"]),
        ("password=hidden", None, ["password (of o)"]),
        ("passwd_is=no,passive", "passwd_is=no,passive", []),
    ],
)
def test_of_a_share_all_but_its_password_is_noted(o: str, kept: str | None, left: list[str]) -> None:
    said = noted({**SHARE, "o": o})
    assert said["options"] == {**SHARE, **({"o": kept} if kept else {})}
    assert said["left_out"] == left
    assert "hid" not in str(said)


def test_of_a_plugin_only_the_names_of_its_options_are_noted() -> None:
    said = noted({"sshcmd": "me@nas:/", "password": "hidden"}, "vieux/sshfs")
    assert (said["options"], said["left_out"]) == ({}, ["password", "sshcmd"])
    assert said["labels"] == {"of": "a house"}


def test_a_volume_that_is_gone_is_not_made_without_what_was_left_out() -> None:
    about = {"volumes": {"photos": noted({**SHARE, "o": "username=me,password=hidden"})}}
    contents = Contents({"volumes/photos": Path("/v")}, [], {}, about)
    with pytest.raises(VolumeNotTold, match=r"may be a password: password \(of o\)"):
        aim.noted("photos", contents, Inventory("27.0", Path("/var/lib/docker")))
