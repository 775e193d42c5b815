"""`make upgrade`: to a release that is well, back by itself from one that is not, and on where it was cut short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.installed import CONFIG, RELEASES, SERVICE, Checkout
from tests.neighbours.machine import Machine
from tests.waiting import until

pytestmark = [pytest.mark.timeout(500), pytest.mark.usefixtures("sampling")]

MIGRATION = "homelab_agent/metrics/schema/9001_newer.sql"
TABLE = "CREATE TABLE homelab.newer (id bigint);\n"
SPOOL = ("homelab_agent/core/spool/spool.py", 'return [Check("spool", self._probe)]')
BROKEN = """\
async def broken() -> Finding:
            return Finding.failed("this release is broken")

        return [Check("spool", broken)]"""
SPARING = {"HEALTH_SECONDS": "15"}


@pytest.fixture
def newer(checkout: Checkout) -> Iterator[Checkout]:
    """The checkout, to be changed; afterwards it is as it was, but the release that the test has left is in use."""
    yield checkout
    checkout.reset()


def releases(checkout: Checkout) -> set[str]:
    return set(checkout.machine("ls", RELEASES).split())


def test_upgraded_to_what_is_there_nothing_changes(checkout: Checkout, installed: Machine) -> None:
    before = (checkout.release(), checkout.process(), installed("cat", CONFIG))
    said = checkout.made("upgrade")
    assert "is in use already" in said
    assert (checkout.release(), checkout.process(), installed("cat", CONFIG)) == before


def test_an_upgrade_that_succeeds_keeps_all_data_and_the_release_before(newer: Checkout) -> None:
    before, rows = newer.release(), newer.ticks()
    newer.bump("0.2.0")
    newer.write(MIGRATION, TABLE)
    said = newer.made("upgrade")
    assert newer.release().startswith("0.2.0-")
    assert newer.agent("status", "--json")["version"] == "0.2.0"
    assert "9001_newer.sql" in said.partition("What it will do to the database:")[2]
    assert newer.ticks() >= rows
    assert newer.sql("SELECT count(*) FROM newer") == "0"
    assert releases(newer) == {before, newer.release()}


def test_a_release_that_is_not_well_is_left_again(newer: Checkout) -> None:
    before, rows = newer.release(), newer.ticks()
    newer.bump("0.4.0")
    newer.write("homelab_agent/metrics/schema/9002_broken.sql", TABLE.replace("newer", "broken"))
    newer.change(*SPOOL, BROKEN)
    said = newer.refused("upgrade", **SPARING)
    assert "spool: this release is broken" in said
    assert f"{before} runs again" in said
    assert newer.release() == before
    assert newer.agent("status", "--json")["version"] != "0.4.0"
    until(lambda: newer.ticks() > rows, "samples arrive beside all that were there", seconds=60)
    assert newer.sql("SELECT count(*) FROM broken") == "0", "it runs on the schema of the newer one"
    assert newer.agent("status", "--json")["state"] != "failed"


def test_a_release_that_does_not_come_up_is_left_again(newer: Checkout) -> None:
    before = newer.release()
    newer.change("homelab_agent/commands/run.py", "redactor = Redactor()", "raise SystemExit(1)")
    said = newer.refused("upgrade", **SPARING)
    assert f"{before} runs again" in said
    assert newer.release() == before
    assert newer.machine.show(SERVICE)["ActiveState"] == "active"


def test_a_release_whose_files_cannot_be_put_is_left_again(newer: Checkout) -> None:
    before, rows = newer.release(), newer.ticks()
    newer.change("deploy/systemd/homelab-agent.tmpfiles.conf", "0755 root root", "0755 nobody-of-that-name root")
    said = newer.refused("upgrade", **SPARING)
    assert f"{before} runs again" in said
    assert newer.release() == before
    until(lambda: newer.ticks() > rows, "samples arrive", seconds=60)


def test_a_configuration_that_the_new_release_does_not_take_changes_nothing(newer: Checkout) -> None:
    before, process = newer.release(), newer.process()
    newer.change("homelab_agent/core/settings.py", "    shutdown_deadline: float", "    stop_deadline: float")
    said = newer.refused("upgrade")
    assert "agent.shutdown_deadline" in said
    assert f"{before} goes on running" in said
    assert (newer.release(), newer.process()) == (before, process)


def test_killed_in_the_middle_it_goes_on(newer: Checkout) -> None:
    machine, before, rows = newer.machine, newer.release(), newer.ticks()
    newer.bump("0.5.0")
    newer.bring_wheels()
    machine("systemd-run", "--quiet", "--unit=upgrade", *newer.command("upgrade"))
    until(lambda: newer.release() != before, "it has changed over", seconds=200)
    machine("systemctl", "kill", "--signal=SIGKILL", "upgrade.service")
    until(lambda: machine.show("upgrade.service")["ActiveState"] in {"failed", "inactive"}, "it is dead")
    said = newer.made("upgrade")
    assert f"An upgrade from {before} was cut short" in said
    assert newer.agent("status", "--json")["version"] == "0.5.0"
    assert newer.ticks() >= rows
    assert releases(newer) == {before, newer.release()}, "what was there before these is gone"
    assert machine.run("test", "-e", "/opt/homelab-agent/upgrading").returncode == 1
    machine("mkdir", f"{RELEASES}/0.0.1-older")  # as one that was killed before it was away
    newer.made("install")
    assert releases(newer) == {before, newer.release()}
