"""The agent, its root half and a real Docker: a set is proposed, taken in, backed up, read back, kept and deleted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from tests.agent import Agent
from tests.backed_up import told
from tests.neighbours.docker import Docker
from tests.processes import children
from tests.waiting import until

ONE = "[backup.keep]\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0\nleast = 1\n"
WRITER = "while :; do date >> /data/log; sleep 0.01; done"


@pytest.fixture
def home(agent: Agent, docker: Docker, open_directory: Path) -> Agent:
    """An agent whose configuration knows this engine; no set yet, and a container that writes."""
    docker("run", "--detach", "--name", "homelab-agent-writer", "--volume", "shop:/data", "busybox", "sh", "-c", WRITER)
    place = open_directory / "copies"
    agent.write(
        f'[backup]\ndocker = "{docker.socket}"\ndirectory = "{place}"\nrecords = "{open_directory / "records"}"\n'
        'verify_schedule = ""\ndrill_schedule = ""\nschedule = "0 1 1 1 *"\n'
    )
    return agent


def asked(agent: Agent, *words: str, code: int = 0) -> str:
    done = agent.run(*words, seconds=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def accepted(agent: Agent) -> str:
    """Take in the one set that is proposed; return its name."""
    [proposed] = json.loads(asked(agent, "backup", "plan", "--json"))["proposed"]
    assert proposed["frozen"] == ["homelab-agent-writer"]
    asked(agent, "backup", "plan", "--accept", proposed["name"])
    return str(proposed["name"])


def test_from_nothing_to_a_copy_that_gives_everything_back(home: Agent, docker: Docker, open_directory: Path) -> None:
    name = accepted(home)
    home.start()
    said = asked(home, "backup", "run", name)
    assert "files read back, crash, still for" in said
    [archive] = json.loads(asked(home, "backup", "list", "--json"))
    assert (archive["verdict"], archive["verified_ok"]) == ("crash", True)
    assert docker.state("homelab-agent-writer")["Status"] == "running"
    size = len(docker("exec", "homelab-agent-writer", "cat", "/data/log"))
    until(lambda: len(docker("exec", "homelab-agent-writer", "cat", "/data/log")) > size, "it writes again")
    [sets, own] = json.loads(asked(home, "backup", "status", "--json"))
    assert (sets["set"], sets["offsite"], sets["trouble"]) == (archive["set"], False, "")
    assert (own["set"], own["newest_at"]) == ("homelab-agent", None)
    facts = home.json("/api/backup")["facts"]
    assert (facts["sets"], facts["done_24h"], facts["offsite"]) == (2, 1, False)
    still = facts["frozen_ms"][name]["homelab-agent-writer"]
    assert f"homelab-agent-writer {still} ms" in asked(home, "backup", "status")
    assert "1 of 2 sets in 24 h, off-site: no, longest still: homelab-agent-writer" in asked(home, "status")
    assert b"homelab_agent_backup_sets_done 1.0" in home.get("/metrics")[1]
    assert home.finding(f"backup.{archive['set']}")["state"] == "ok"
    assert "not a backup yet" in home.finding("backup.place")["detail"]
    file = open_directory / "copies" / f"{archive['id']}.tar.zst"
    assert file.stat().st_mode & 0o777 == 0o600
    back = open_directory / "back"
    assert "all as they were written" in asked(home, "restore", archive["set"], "--to", str(back))
    assert told(back / "volumes" / "shop")["log"]["size"] > 0
    assert "not an empty directory" in asked(home, "restore", archive["set"], "--to", str(back), code=2)
    shutil.rmtree(back)
    asked(home, "backup", "verify")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    file.write_bytes(damaged)
    assert "is damaged" in asked(home, "backup", "verify", code=1)
    assert "damaged, seen" in asked(home, "backup", "list")
    assert "nothing was restored" in asked(home, "restore", archive["set"], "--to", str(back), code=1)
    assert not back.exists()
    file.unlink()
    assert "homelab-agent to archive: " in asked(home, "backup", "run")
    [again] = json.loads(asked(home, "backup", "list", name, "--json"))
    assert home.finding("backup.homelab-agent")["state"] == "ok"
    (open_directory / "records" / "trust").unlink()
    words = ("restore", archive["set"], "--to", str(back))
    assert f"--trust {again['sha256']}" in asked(home, *words, code=2)
    asked(home, *words, "--trust", again["sha256"])


def test_what_fails_at_one_engine_is_told_though_another_has_its_copy(home: Agent, open_directory: Path) -> None:
    name = accepted(home)
    (open_directory / "password").write_text("secret\n")
    (open_directory / "password").chmod(0o600)
    engines = '[[backup.set]]\nengines = ["away", "archive"]'
    away = f'url = "{open_directory / "away"}"\npassword = "file:{open_directory / "password"}"'
    written = home.config.read_text().replace("[[backup.set]]", engines)
    home.config.write_text(f'{written}\n[[backup.repository]]\nname = "away"\n{away}\n')
    home.start()
    assert "to away failed" in asked(home, "backup", "run", name, code=1)
    [archive] = json.loads(asked(home, "backup", "list", "--json"))
    assert archive["engine"] == "archive"
    finding = home.finding(f"backup.{archive['set']}")
    assert (finding["state"], finding["repair"]) == ("failed", "homelab-agent backup init away")
    asked(home, "backup", "init", "away", "--kit-is-kept")
    asked(home, "backup", "run", name)
    assert home.finding(f"backup.{archive['set']}")["state"] == "ok"
    back = ("restore", name, "--engine", "away", "--to", str(open_directory / "back"))
    (open_directory / "records" / "trust").unlink()
    assert "--trust" in asked(home, *back, code=2)
    asked(home, "backup", "verify", name)
    asked(home, *back)


def test_while_one_engine_is_in_trouble_the_others_keep_no_more_than_they_are_to(
    home: Agent, open_directory: Path
) -> None:
    for name in ("password", "things"):
        (open_directory / name).write_text("secret\n")
        (open_directory / name).chmod(0o600)
    away = f'url = "{open_directory / "away"}"\npassword = "file:{open_directory / "password"}"'
    things = f'name = "things"\npaths = ["{open_directory / "things"}"]\nengines = ["away", "archive"]'
    repository = f'[[backup.repository]]\nname = "away"\n{away}'
    home.config.write_text(f"{home.config.read_text()}\n{ONE}[[backup.set]]\n{things}\n{repository}\n")
    home.start()
    assert "to away failed" in asked(home, "backup", "run", "things", code=1)
    [first] = json.loads(asked(home, "backup", "list", "things", "--json"))
    asked(home, "backup", "run", "things", code=1)
    [second] = json.loads(asked(home, "backup", "list", "things", "--json"))
    assert (second["engine"], second["id"] > first["id"]) == ("archive", True)
    assert home.finding("backup.things")["repair"] == "homelab-agent backup init away"


def test_a_command_after_a_copy_that_fails_is_told_and_the_copy_is_one_as_any_other(
    home: Agent, docker: Docker
) -> None:
    label = "--label=homelab-agent.backup.after=sh -c 'echo not me >&2; exit 3'"
    app = ("run", "--detach", "--stop-timeout=0", "--name=app", "--volume=quiet:/data")
    docker(*app, label, "busybox", "sleep", "1000")
    quiet = 'name = "quiet"\nvolumes = ["quiet"]'
    home.config.write_text(f"{home.config.read_text()}\n{ONE}[[backup.set]]\n{quiet}\n")
    home.start()
    said = asked(home, "backup", "run", "quiet", "--json", code=1)
    assert "files read back, crash, still for" in said
    assert "failed; the copy is good, and is kept. (not me)" in said
    [first] = json.loads(asked(home, "backup", "list", "quiet", "--json"))
    assert first["verified_ok"] is True
    assert f"{first['id']} is deleted" in asked(home, "backup", "run", "quiet", "--json", code=1)
    finding = home.finding("backup.quiet")
    assert finding["state"] == "failed"
    assert "not me" in finding["detail"]
    docker("rm", "--force", "app")
    docker(*app, "busybox", "sleep", "1000")
    asked(home, "backup", "run", "quiet")
    assert home.finding("backup.quiet")["state"] == "ok"


def test_a_repository_that_does_not_answer_is_not_asked_for_a_set_that_does_not_go_there(
    home: Agent, open_directory: Path
) -> None:
    name = accepted(home)
    (open_directory / "password").write_text("secret\n")
    (open_directory / "password").chmod(0o600)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.setblocking(False)  # noqa: FBT003 - the socket API
        url = f"rest:http://127.0.0.1:{silent.getsockname()[1]}/"
        away = f'[[backup.repository]]\nname = "away"\nurl = "{url}"\npassword = "file:{open_directory / "password"}"'
        other = f'[[backup.set]]\nname = "other"\npaths = ["{open_directory}"]\nengines = ["away"]'
        home.config.write_text(f"{home.config.read_text()}\n{other}\n{away}\n")
        home.start()
        assert "read back, crash" in asked(home, "backup", "run", name)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_the_doctor_says_what_is_no_backup_yet_and_what_lets_it_be_one(home: Agent, open_directory: Path) -> None:
    accepted(home)
    found = examined(home, code=1)
    assert found["backup.disk"]["state"] == "failed"
    assert "not a backup yet" in found["backup.disk"]["detail"]
    assert "[[backup.repository]]" in found["backup.disk"]["repair"]
    ok = {name for name, one in found.items() if one["state"] == "ok"}
    assert ok >= {"backup.programs", "backup.docker", "backup.records", "backup.directory"}
    assert found["backup.homelab-agent-writer"]["state"] == "not_available"
    (open_directory / "password").write_text("secret\n")
    (open_directory / "password").chmod(0o600)
    with tempfile.TemporaryDirectory(prefix="homelab-agent-", dir="/dev/shm") as elsewhere:
        away = f'url = "{elsewhere}/away"\npassword = "file:{open_directory / "password"}"'
        written = home.config.read_text().replace("[[backup.set]]", '[[backup.set]]\nengines = ["archive", "away"]')
        home.config.write_text(f'{written}\n[[backup.repository]]\nname = "away"\n{away}\n')
        found = examined(home, code=1)
        assert found["backup.disk"]["state"] == "ok"
        assert found["backup.repository:away"]["repair"] == "homelab-agent backup init away"
        assert "backup kit --is-kept away" in found["backup.kit:away"]["repair"]
        asked(home, "backup", "init", "away", "--kit-is-kept")
        found = examined(home)
        assert {found[f"backup.{name}"]["state"] for name in ("repository:away", "kit:away", "restic")} == {"ok"}
        home.start()
        beside = examined(home)
        assert "backup.disk" in beside
        assert beside["backup.homelab-agent-writer"]["detail"] == "there is no copy yet"


def examined(agent: Agent, code: int = 0) -> dict[str, dict[str, str]]:
    done = agent.run("doctor", "backup", "--json", seconds=120)
    assert done.returncode == code, done.stdout + done.stderr
    return {one["check"]: one for one in json.loads(done.stdout)}


def test_what_is_to_be_kept_changes_without_a_restart(home: Agent) -> None:
    name = accepted(home)
    home.start()
    asked(home, "backup", "run", name)
    assert "yearly" in asked(home, "backup", "prune", "--plan")
    home.config.write_text(f"{home.config.read_text()}\n[backup.keep]\nyearly = 0\n")
    asked(home, "reload")
    assert "yearly" not in asked(home, "backup", "prune", "--plan")


def test_an_agent_killed_while_containers_stand_still_leaves_none_of_them_so(
    home: Agent, docker: Docker, open_directory: Path
) -> None:
    docker("exec", "homelab-agent-writer", "dd", "if=/dev/urandom", "of=/data/large", "bs=1M", "count=400")
    name = accepted(home)
    home.start()
    for victims in ("agent", "both"):
        asked(home, "backup", "run", name, "--detach")
        until(lambda: docker.state("homelab-agent-writer")["Paused"], "it stands still", seconds=30)
        halves = children(home.pid)
        home.kill()
        if victims == "both":
            for pid in halves:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            home.start()
        until(lambda: not docker.state("homelab-agent-writer")["Paused"], "it goes on", seconds=30)
        if victims == "agent":
            home.start()
    asked(home, "backup", "verify")
    assert [path.name for path in (open_directory / "copies").rglob("*.partial")] == []
    assert "files read back" in asked(home, "backup", "run", name)
