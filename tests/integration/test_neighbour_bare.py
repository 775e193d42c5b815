"""The bare Debian of the tests is what a fresh installation is: with what `make install` asks for, and no more."""

from __future__ import annotations

from tests.neighbours import bare
from tests.neighbours.machine import Machine


def test_it_has_what_installing_needs_and_nothing_else(bare_machine: Machine) -> None:
    assert bare.NEIGHBOUR.version().startswith(bare_machine("cat", "/etc/debian_version"))
    for tool in ("git", "make", "python3"):
        bare_machine(tool, "--version")
    for tool in ("curl", "docker", "gcc", "pip", "wget"):
        assert bare_machine.run(tool, "--version").returncode == 127, tool
    bare_machine("python3", "-m", "venv", "/opt/venv")
    bare_machine("/opt/venv/bin/pip", "--version")
    assert not (bare.root() / "opt/venv").exists()


def test_it_makes_users_and_directories_that_packages_declare(bare_machine: Machine) -> None:
    bare_machine.path("/usr/lib/sysusers.d/homelab.conf").write_text('u homelab - "homelab" /var/lib/homelab\n')
    bare_machine.path("/usr/lib/tmpfiles.d/homelab.conf").write_text("d /run/homelab 0750 homelab homelab\n")
    bare_machine.reboot()
    assert bare_machine("stat", "--format=%U %a", "/run/homelab") == "homelab 750"
