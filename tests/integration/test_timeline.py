"""`homelab-agent timeline` of real deployments, doors, runs and restarts: the same list, wherever it is read from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.agent import Agent, running
from tests.gate_home import Home
from tests.integration.test_database_down_at_start import taken
from tests.integration.test_gitops_end_to_end import Site
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.github import GitHub
from tests.neighbours.postgres import Postgres
from tests.neighbours.tailnet import Tailnet
from tests.waiting import until

Entry = Mapping[str, Any]


def told(agent: Agent, *words: str) -> dict[str, Any]:
    """Return the timeline as a program reads it."""
    done = agent.run("timeline", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def entries(agent: Agent, *words: str) -> list[Entry]:
    """Return the entries of the timeline, whose causes come first in any case."""
    found: list[Entry] = told(agent, *words)["entries"]
    place = {one["name"]: number for number, one in enumerate(found)}
    for one in found:
        assert all(place[cause] < place[one["name"]] for cause in one["causes"])
        assert one["at"].endswith("Z")
    return found


def of(found: Sequence[Entry], *kinds: str) -> list[Entry]:
    return [one for one in found if one["kind"] in kinds]


@pytest.fixture
def site(agent: Agent, git_remote: GitRemote, github: GitHub, open_directory: Path, postgres: Postgres) -> Site:
    site = Site(agent, git_remote, github, open_directory)
    go = open_directory / "go"
    site.configure(actions=[site.writing("web", "site/**", then=f"while [ ! -e {go} ]; do sleep 0.05; done")])
    text = agent.config.read_text()
    agent.config.write_text(text.replace('url = "embedded"', f'url = "{postgres.url}"'))
    return site


DEPLOYING = ("delivery", "deployment", "action")


@pytest.mark.timeout(180)
def test_a_deployment_that_is_under_way_is_told_as_such(site: Site, agent: Agent, open_directory: Path) -> None:
    agent.start_with_database()
    _, answer = site.push({"site/index.html": "two\n"})
    until(site.noted, "the action is at work")

    under_way = of(entries(agent), *DEPLOYING)
    delivery, deployment, action = (one for one in under_way if one["standing"] == "under way")
    assert [one["kind"] for one in (delivery, deployment, action)] == list(DEPLOYING)
    assert delivery["id"] == answer.delivery.guid
    assert delivery["name"] in deployment["causes"]
    assert deployment["name"] in action["causes"]
    assert deployment["ask"] == f"homelab-agent gitops show {deployment['id']}"
    assert agent.run("gitops", "show", deployment["id"]).returncode == 0
    shown = agent.run("timeline").stdout
    assert f"[gitops show {deployment['id']}]" in shown
    assert shown.count("under way") == 2

    (open_directory / "go").touch()
    assert site.verdict(answer)["verdict"] == "ok"
    assert [one["standing"] for one in of(entries(agent), *DEPLOYING)] == ["done"] * len(under_way)


@pytest.mark.timeout(240)
def test_a_push_its_deployment_and_a_restart_are_one_list_with_and_without_postgresql(
    site: Site, agent: Agent, postgres: Postgres, open_directory: Path
) -> None:
    (open_directory / "go").touch()
    agent.start_with_database()
    _, answer = site.push({"site/index.html": "two\n"})
    assert site.verdict(answer)["verdict"] == "ok"
    (site.path / "site/index.html").write_text("edited here\n")
    _, failing = site.push({"site/index.html": "three\n"})
    assert site.verdict(failing)["verdict"] == "dirty_overlap"
    shipped = "SELECT 1 FROM gitops_verdict WHERE verdict = 'dirty_overlap'"
    until(lambda: agent.sql(shipped), "all of it is in PostgreSQL")
    until(lambda: of(entries(agent), "start"), "the start is, too")
    with_all = told(agent)
    assert "PostgreSQL" in " ".join(with_all["read_from"])
    assert [one["standing"] for one in of(with_all["entries"], "delivery")] == ["done", "failed"]
    assert [one["standing"] for one in of(with_all["entries"], "action")] == ["done"]
    assert len(of(with_all["entries"], "start")) == 1
    assert of(with_all["entries"], "fact")
    shown = agent.run("timeline").stdout.splitlines()
    assert all(any(one["text"] in line for line in shown) for one in with_all["entries"])

    assert agent.stop() == 0
    postgres.stop()
    without = told(agent)
    assert of(without["entries"], *DEPLOYING) == of(with_all["entries"], *DEPLOYING)
    (failed,) = [one for one in of(without["entries"], "run") if "gitops.sync.site" in one["text"]]
    assert failed in with_all["entries"]
    assert not of(without["entries"], "start")
    assert "starts of the agent" in " ".join(without["lacks"])
    assert "PostgreSQL does not answer" in " ".join(without["lacks"])

    agent.start()
    agent.until("database.connection", "failed")
    _, late = site.push({"README": "nothing follows\n"})
    site.verdict(late)
    until(lambda: taken(agent) >= 2, "the first sample, with the start, is in the spool")
    assert agent.stop() == 0
    waiting = entries(agent)
    assert len(of(waiting, "start")) == 1, "it waits in the spool"
    postgres.start()
    agent.start_with_database()
    until(lambda: len(agent.sql("SELECT 1 FROM agent_start")) == 3, "all starts are in PostgreSQL")
    until(lambda: len(agent.sql("SELECT 1 FROM gitops_verdict")) == 3, "so is what waited")
    silences = agent.sql("SELECT 1 FROM silence")
    whole = entries(agent)
    waiting = [one for one in waiting if one["kind"] != "finding"]  # what is news goes by what was found before
    names = [one["name"] for one in waiting]
    known = [{**one, "causes": [name for name in one["causes"] if name in names]} for one in whole]
    assert [one for one in known if one["name"] in names] == waiting
    assert len(of(whole, "start")) == 3
    assert len(of(whole, "silence")) >= len(silences)


def test_a_door_that_is_held_shut_is_told_with_its_reasons(
    tailnet: Tailnet, agent: Agent, open_directory: Path
) -> None:
    home = Home(tailnet, agent, open_directory)
    home.configure()
    agent.start_with_database()
    home.open()
    assert agent.run("gate", "close", "--reason", "moving house").returncode == 0
    home.becomes("closed", "held")
    with_all = of(entries(agent), "gate")
    opened, held, shut = with_all[-3:]
    assert opened["text"].startswith("opened")
    assert "moving house" in held["text"]
    assert shut["text"].startswith("shut after")
    assert {opened["name"], held["name"]} <= set(shut["causes"])
    assert agent.stop() == 0
    assert of(entries(agent), "gate") == with_all


def test_a_window_has_what_was_in_it_and_nothing_else(agent: Agent) -> None:
    agent.start_with_database()
    assert agent.run("jobs", "run", "database.partitions").returncode == 0
    until(lambda: of(entries(agent), "start"), "the start is told")
    later = datetime.now(UTC).isoformat()
    assert not of(entries(agent, "--since", later), "start")
    assert not entries(agent, "--since", "2d", "--until", "1d")
    assert not entries(agent, "--host", "elsewhere")
    late = "Of this host the last 1 s may not be in it yet of: "
    assert [one for one in told(agent)["lacks"] if one.startswith(late) and "starts of the agent" in one]
    assert late in agent.run("timeline").stderr
    assert not told(agent, "--since", "2d", "--until", "1d")["lacks"]
    nothing = agent.run("timeline", "--host", "elsewhere")
    assert nothing.stdout == ""
    assert "Nothing happened since" in nothing.stderr


def test_hosts_that_share_a_database_are_one_list_in_which_each_has_its_name(
    agent: Agent, postgres: Postgres, open_directory: Path
) -> None:
    with running(open_directory / "second") as second:
        for one, host in ((agent, "nas"), (second, "pi")):
            one.write(database=postgres.url)
            one.config.write_text(one.config.read_text().replace('"testhost"', f'"{host}"'))
        agent.start_with_database()
        second.start_with_database()
        for one in (agent, second, agent):
            assert one.run("jobs", "run", "database.partitions").returncode == 0
            assert one.stop() == 0
            one.start_with_database()
        starts = "SELECT host, count(*) AS n FROM agent_start GROUP BY host"
        until(lambda: {one["host"]: one["n"] for one in agent.sql(starts)} == {"nas": 3, "pi": 2}, "all is told")
        found = entries(agent)
        for host, begun in (("nas", 3), ("pi", 2)):
            assert len(of([one for one in found if one["host"] == host], "start")) == begun
            own = entries(agent, "--host", host)
            assert {one["host"] for one in own} == {host}
            assert [one["name"] for one in own if one["kind"] == "start"] == [
                one["name"] for one in found if (one["kind"], one["host"]) == ("start", host)
            ], "in the same order"
        at = [one["at"] for one in of(found, "start")]
        assert at == sorted(at)
        assert [one["host"] for one in of(found, "start")] == ["nas", "pi", "nas", "pi", "nas"]
        shown = agent.run("timeline")
        lines = [line for line in shown.stdout.splitlines() if "  start " in line]
        assert [line[21:].split()[0] for line in lines] == ["nas", "pi", "nas", "pi", "nas"]
        assert "What other hosts have under way" in shown.stderr


def test_wrong_input_and_no_state_are_said_in_one_line(agent: Agent) -> None:
    for words, said in (
        (["--since", "soon"], "neither a length of time"),
        (["--since", "2999-01-01"], "still to come"),
        (["--since", "1h", "--until", "2h"], "--until is after --since"),
    ):
        done = agent.run("timeline", *words)
        assert done.returncode == 2
        assert said in done.stderr
    done = agent.run("timeline")
    assert done.returncode == 69
    assert "Neither PostgreSQL nor the agent's state can be read." in done.stderr
    assert "Traceback" not in done.stderr
