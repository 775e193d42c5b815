"""`make install` on a bare Debian without a network: it runs, is confined to what is its own, and stays as it is."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.installed import CONFIG, HERE, SERVICE, STATE, Checkout
from tests.neighbours import python3_systemd
from tests.neighbours.machine import Machine

pytestmark = pytest.mark.timeout(400)  # the first one installs, on whatever else this host does

TOKEN = "/etc/homelab-agent/credentials/api-token"


def test_it_is_ready_enabled_and_says_what_is_next(checkout: Checkout, installed: Machine) -> None:
    shown = installed.show(SERVICE)
    assert (shown["ActiveState"], shown["UnitFileState"], shown["User"]) == ("active", "enabled", "homelab-agent")
    assert shown["NRestarts"] == "0"
    assert checkout.asked("/api/health/live")[0] == 200
    for line in ("http://127.0.0.1:8085/", "ssh -L 8085:127.0.0.1:8085", "make logs", "sudo make upgrade"):
        assert line in checkout.said
    assert "It starts fresh" in checkout.said


def test_the_link_that_it_prints_logs_in(checkout: Checkout) -> None:
    link = re.search(r"http://127\.0\.0\.1:8085(/\S+)", checkout.said.partition("log in (once)")[2])
    assert link is not None
    assert checkout.asked(link[1])[0] == 200


def test_the_program_is_roots_and_nobody_else_may_change_it(installed: Machine) -> None:
    others = installed("find", "/opt/homelab-agent", "!", "-user", "root", "-o", "-perm", "/022", "!", "-type", "l")
    assert others == ""
    assert installed("stat", "--format=%U:%G %a", CONFIG) == "root:homelab-agent 640"
    assert installed("stat", "--format=%U:%G %a", STATE) == "homelab-agent:homelab-agent 700"
    assert installed("stat", "--format=%U %a", "/etc/homelab-agent/credentials") == "root 700"
    assert installed("stat", "--format=%U %a", TOKEN) == "root 600"
    assert installed("readlink", "--canonicalize", "/usr/local/bin/homelab-agent").startswith("/opt/homelab-agent/")


def test_the_wheels_were_made_by_a_user_who_is_no_more(installed: Machine) -> None:
    owner = int(installed("stat", "--format=%u", "/var/cache/private/homelab-agent-build"))
    assert 61184 <= owner <= 65519, "one of systemd's dynamic users (systemd.exec(5))"
    assert installed.run("getent", "passwd", str(owner)).returncode != 0


def test_the_token_is_the_agents_and_only_by_its_unit(checkout: Checkout, installed: Machine) -> None:
    token = installed("cat", TOKEN)
    probe = "/api/health/probe"
    assert checkout.asked(probe, method="POST")[0] == 401
    assert checkout.asked(probe, method="POST", token=token)[0] == 200
    assert checkout.asked(probe, method="POST", token=token[:-1])[0] == 401
    as_agent = ("setpriv", "--reuid=homelab-agent", "--regid=homelab-agent", "--clear-groups")
    assert installed.run(*as_agent, "cat", TOKEN).returncode != 0


def test_installed_again_nothing_changes(checkout: Checkout, installed: Machine) -> None:
    before = (installed("cat", CONFIG), installed("cat", TOKEN), checkout.process(), checkout.release())
    said = checkout.made("install")
    assert "Nothing has changed" in said
    assert (installed("cat", CONFIG), installed("cat", TOKEN), checkout.process(), checkout.release()) == before


def test_what_was_edited_stays_and_the_sample_lies_beside_it(checkout: Checkout, installed: Machine) -> None:
    installed("homelab-agent", "config", "set", "metrics.interval", "5")
    mine = installed("cat", CONFIG)
    installed.path(f"{CONFIG}.sample").write_text("old")
    checkout.made("install")
    assert installed("cat", CONFIG) == mine
    assert installed("cat", f"{CONFIG}.sample") == installed("homelab-agent", "config", "sample")
    assert installed("stat", "--format=%U:%G %a", CONFIG) == "root:homelab-agent 640"


def test_a_file_among_the_credentials_becomes_one(checkout: Checkout, installed: Machine) -> None:
    installed.path("/etc/homelab-agent/credentials/smtp").write_text("hunter2\n")
    before = checkout.process()
    said = checkout.made("install")
    assert "Restarting it, for these have changed: credentials.conf" in said
    assert checkout.process() != before
    assert installed("cat", f"/run/credentials/{SERVICE}/smtp") == "hunter2"


def test_where_the_configuration_listens_the_socket_does(checkout: Checkout, installed: Machine) -> None:
    installed("homelab-agent", "config", "set", "web.listen", "127.0.0.1:9000")
    checkout.made("install")
    listens = installed.systemctl("show", "--property=Listen", "homelab-agent.socket").splitlines()
    assert listens == ["Listen=127.0.0.1:9000 (Stream)", "Listen=/run/homelab-agent/agent.sock (Stream)"]
    assert checkout.agent("status", "--json")["state"] != "failed"
    installed("homelab-agent", "config", "set", "web.listen", "127.0.0.1:8085")
    checkout.made("install")
    assert checkout.asked("/api/health/live")[0] == 200


def test_where_the_configuration_has_the_records_it_is_looked_for_what_is_to_resume(
    checkout: Checkout, installed: Machine
) -> None:
    unit = "homelab-agent-resume.service"
    resumed = ("systemctl", "show", "--value", "--property=ConditionResult", unit)
    installed("homelab-agent", "config", "set", "backup.records", "/srv/50% of it")
    installed("mkdir", "--parents", "/srv/50% of it/undo/one")
    assert "put /usr/local/lib/systemd/system/homelab-agent-resume.service.d/records.conf" in checkout.made("install")
    installed.run("systemctl", "start", unit)
    assert installed(*resumed) == "yes"
    installed("rm", "-r", "/srv/50% of it")
    installed.run("systemctl", "restart", unit)
    assert installed(*resumed) == "no"
    installed("homelab-agent", "config", "set", "backup.records", "/var/lib/homelab-agent-backup")
    assert "removed /usr/local/lib/systemd/system/homelab-agent-resume.service.d/records.conf" in checkout.made(
        "install"
    )


def test_a_checkout_may_be_called_anything(checkout: Checkout, installed: Machine) -> None:
    strange = "/srv/it's my lab & home"
    installed("cp", "-R", HERE, strange)
    done = installed.run("make", "-C", strange, "install", seconds=120)
    assert "Nothing has changed" in done.stdout, done.stderr


def test_without_systemds_library_there_are_json_lines_and_with_it_fields(
    checkout: Checkout, installed: Machine
) -> None:
    assert "apt-get install -y python3-systemd && make install" in checkout.said
    (line,) = installed.journal(f"--unit={SERVICE}", "--grep=agent.ready", "--lines=1")
    assert json.loads(line["MESSAGE"])["event"] == "agent.ready"
    assert "HOMELAB_EVENT" not in line
    shutil.copy(python3_systemd.package(), installed.path("/root/python3-systemd.deb"))
    installed("dpkg", "--install", "/root/python3-systemd.deb")
    said = checkout.made("install")
    assert "took systemd's journal library from /usr/lib/python3/dist-packages/systemd" in said
    (line,) = installed.journal("HOMELAB_EVENT=agent.ready", "--lines=1")
    assert line["_SYSTEMD_UNIT"] == SERVICE
    assert "Nothing has changed" in checkout.made("install")


def test_status_logs_and_restart(checkout: Checkout) -> None:
    before = checkout.process()
    assert "homelab-agent is ready again." in checkout.made("restart")
    assert checkout.process() != before
    assert "active (running)" in checkout.made("status")
    assert "agent.ready" in checkout.made("logs", TAIL="20")


def test_who_is_not_root_is_told_the_command(checkout: Checkout, installed: Machine) -> None:
    for target in ("install", "upgrade", "uninstall", "restart"):
        somebody = ("setpriv", "--reuid=4000", "--regid=4000", "--clear-groups")
        done = installed.run(*somebody, "make", "-C", HERE, target)
        assert done.returncode != 0
        assert f"Run: sudo make {target}" in done.stderr.splitlines()[0]


def test_without_systemd_it_says_how_it_runs(installed: Machine) -> None:
    hidden = f"mount -t tmpfs none /run/systemd && exec make -C {HERE} install"
    done = installed.run("unshare", "--mount", "--propagation", "private", "sh", "-c", hidden)
    assert done.returncode != 0
    assert "systemd does not run here" in done.stderr.splitlines()[0]
    assert "make run" in done.stderr.splitlines()[0]


def test_a_python_that_does_not_fit_is_refused(checkout: Checkout, installed: Machine) -> None:
    old = installed.path("/usr/local/bin/python3.9")  # answers what a Python of that version answers
    old.write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\n')
    old.chmod(0o755)
    said = checkout.refused("install", PYTHON="/usr/local/bin/python3.9")
    assert said.splitlines()[0].endswith("PYTHON=/usr/local/bin/python3.9 is not. Run: make install PYTHON=python3")


def test_a_faulty_configuration_is_told_before_anything_is_done(checkout: Checkout, installed: Machine) -> None:
    good, process = installed("cat", CONFIG), checkout.process()
    installed.path(CONFIG).write_text(f"{good}\n[metrics]\n")
    said = checkout.refused("install")
    assert CONFIG in said
    assert checkout.process() == process
    installed.path(CONFIG).write_text(f"{good}\n")


def test_a_python_that_an_upgrade_took_away_is_told_at_boot_and_mended(checkout: Checkout, installed: Machine) -> None:
    python = installed("readlink", "--canonicalize", "/usr/bin/python3")
    installed("mv", python, f"{python}.away")
    installed.reboot(state="degraded")
    shown = installed.show(SERVICE)
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("failed", "exit-code", "78")
    assert shown["NRestarts"] == "0"
    told = [line["MESSAGE"] for line in installed.journal("--boot", f"--unit={SERVICE}", "--priority=crit")]
    assert any(f"cd {HERE} && sudo make install" in line for line in told), told
    installed("mv", f"{python}.away", python)
    checkout.made("install")
    assert installed.show(SERVICE)["ActiveState"] == "active"
