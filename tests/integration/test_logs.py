"""`homelab-agent logs`: the events of an agent that is a unit, from the real journal of a machine of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import Agent
from tests.journalled import NOWHERE, UNIT, House, housed


@pytest.fixture
def house(open_directory: Path) -> Iterator[House]:
    with housed(open_directory) as one:
        yield one


@pytest.mark.timeout(180)
def test_an_agents_events_are_shown_as_on_a_terminal_and_followed_through_a_rotation(house: House) -> None:
    house.start()
    everything = house.logs()
    names = [one["event"] for one in everything]
    assert "agent.ready" in names
    assert "systemd.logged" in names, "what systemd says of the unit"
    assert all(one["time"].endswith("Z") for one in everything)
    assert [one["time"] for one in everything] == sorted(one["time"] for one in everything)
    assert {one["component"] for one in house.logs("--component", "agent")} == {"agent"}
    assert {one["event"] for one in house.logs("--event", "agent.rea*")} == {"agent.ready"}
    assert all(one["level"] in {"warning", "error"} for one in house.logs("--level", "warning"))
    shown = house.run("logs", "--component", "agent").stdout
    assert " agent ready state=" in shown

    run = house.run("jobs", "run", "database.partitions", "--detach").stdout.strip()
    with house.following("--run", run, "--json") as lines:
        while (event := json.loads(lines.get(timeout=60)))["event"] != "jobs.run_ended":
            assert event["run_id"] == run
    assert {one["run_id"] for one in house.logs("--run", run)} == {run}

    with house.following("--component", "agent", "--json") as lines:
        assert json.loads(lines.get(timeout=60))["event"] == "agent.ready"
        house.machine("journalctl", "--rotate")
        house.start()
        assert json.loads(lines.get(timeout=60))["event"] == "agent.ready"


@pytest.mark.timeout(180)
def test_without_the_journals_library_events_are_known_by_their_json(house: House) -> None:
    house.agent.write('[log]\nformat = "json"', database=NOWHERE)
    house.start()
    entries = house.machine.journal("_SYSTEMD_UNIT=" + UNIT)
    assert not [one for one in entries if "HOMELAB_EVENT" in one]
    assert [one["event"] for one in house.logs("--event", "agent.ready")] == ["agent.ready"]


@pytest.mark.timeout(180)
def test_what_keeps_the_journal_from_being_read_is_one_line_with_its_repair(house: House) -> None:
    machine = house.machine
    house.start()
    before = house.run("logs", "--since", "1969-07-20", "--component", "agent")
    assert (before.returncode, before.stderr) == (0, "")
    assert "agent ready" in before.stdout
    written = '{"level":[],"component":"a","event":"b","run_id":{}}'
    machine("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "logger", "-t", "homelab-agent", written)
    strange = house.logs("--component", "a")
    assert [(one["event"], one["level"]) for one in strange] == [("b", "info")], "by anybody; and the rest is there"
    none = house.run("logs", "--run", "019ad000-0000-7000-8000-000000000000")
    assert (none.returncode, none.stdout) == (1, "")
    assert "The journal has no event of a run 019ad000" in none.stderr
    assert "homelab-agent jobs history" in none.stderr
    nothing = house.run("logs", "--component", "nobody")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no such event" in nothing.stderr
    for words, said in (
        (["--since", "soon"], "neither a length of time"),
        (["--level", "loud"], "is not one of"),
        (["--follow", "--until", "1h"], "--follow goes on"),
    ):
        wrong = house.run("logs", *words)
        assert wrong.returncode == 2
        assert said in wrong.stderr

    outsider = house.run("logs", before=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert (outsider.returncode, outsider.stdout) == (1, "")
    assert "You may not read the system's journal" in outsider.stderr
    assert "usermod -aG systemd-journal" in outsider.stderr

    drop_in = machine.path("/etc/systemd/journald.conf.d/volatile.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Journal]\nStorage=volatile\n")
    machine.systemctl("restart", "systemd-journald")
    house.start()
    volatile = house.run("logs", "--since", "1000d")
    assert "agent ready" in volatile.stdout
    assert "in memory only" in volatile.stderr
    assert "mkdir -p /var/log/journal" in volatile.stderr

    machine("mv", "/usr/bin/journalctl", "/usr/bin/journalctl.away")
    missing = house.run("logs")
    assert missing.returncode == 69
    assert "There is no systemd journal on this host" in missing.stderr
    machine("mv", "/usr/bin/journalctl.away", "/usr/bin/journalctl")


@pytest.mark.timeout(120)
def test_of_an_agent_that_was_started_by_hand_it_says_where_its_events_are(agent: Agent) -> None:
    agent.write(database=NOWHERE)
    agent.start()
    done = agent.run("logs", "--component", "nobody")
    assert f"tail -f {agent.directory / 'agent.log'}" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
