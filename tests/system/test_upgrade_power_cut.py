"""The power fails in the middle of `make upgrade`: one of the two releases runs at boot, and the next upgrade ends."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.installed import RELEASES, SERVICE, Checkout
from tests.system.test_upgrading import BROKEN, SPOOL
from tests.waiting import until

pytestmark = [pytest.mark.timeout(500), pytest.mark.usefixtures("sampling")]

NOTE = "/opt/homelab-agent/upgrading/old"


def is_building(checkout: Checkout) -> bool:
    made = checkout.machine.run("sh", "-c", f"ls -d {RELEASES}/0.2.0-*/pyvenv.cfg")
    return made.returncode == 0


def has_changed_over(checkout: Checkout) -> bool:
    return checkout.release().startswith("0.3.0-")


def is_proving(checkout: Checkout) -> bool:
    """Whether the new one answers, while it is not proven yet."""
    return checkout.machine.path(NOTE).exists() and version_of(checkout) == "0.4.0"


def version_of(checkout: Checkout) -> str:
    """Return the version of the agent that answers, however it stands; "" where none does."""
    asked = checkout.machine.run("homelab-agent", "status", "--json").stdout
    return str(json.loads(asked)["version"]) if asked else ""


@pytest.mark.parametrize(
    ("version", "moment"), [("0.2.0", is_building), ("0.3.0", has_changed_over), ("0.4.0", is_proving)]
)
def test_the_power_fails_and_the_next_upgrade_comes_to_its_end(
    checkout: Checkout, version: str, moment: Callable[[Checkout], bool]
) -> None:
    machine, before, rows = checkout.machine, checkout.release(), checkout.ticks()
    checkout.bump(version)
    number = version.replace(".", "")
    checkout.write(
        f"homelab_agent/metrics/schema/9{number}_newer.sql", f"CREATE TABLE homelab.newer_{number} (id bigint);\n"
    )
    if moment is is_proving:
        checkout.change(*SPOOL, BROKEN)  # so that it is not proven in a moment
    checkout.bring_wheels()
    machine("sync")  # the checkout is its owner's; what is looked at is what the upgrade does
    machine("systemd-run", "--quiet", "--unit=upgrade", *checkout.command("upgrade"))
    until(lambda: moment(checkout), moment.__name__, seconds=200)
    machine.power_cut()

    machine.boot()
    shown = machine.show(SERVICE)
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("active", "running", "0")
    runs = version_of(checkout)
    assert runs in {before.partition("-")[0], version}
    assert checkout.release().startswith(f"{runs}-")
    until(lambda: checkout.ticks() > rows, "all samples are there, and more arrive", seconds=60)

    if moment is is_proving:
        checkout.change(SPOOL[0], BROKEN, SPOOL[1])
    checkout.made("upgrade")
    assert version_of(checkout) == version
    assert checkout.release().startswith(f"{version}-")
    assert not machine.path(NOTE).exists()
    until(lambda: checkout.ticks() > rows, "samples arrive", seconds=60)
    assert set(machine("ls", RELEASES).split()) == {before, checkout.release()}
