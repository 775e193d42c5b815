"""A checkout's configuration becomes the service's: its own state and token, all else as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent import config
from homelab_agent.installing import fitting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text((ROOT / "config.toml").read_text())
    return path


def test_the_sample_gets_the_token_and_keeps_its_comments(file: Path) -> None:
    before = file.read_text().splitlines()
    fitting.fit(file)
    after = file.read_text().splitlines()
    assert config.load(file).settings.web.api_token == "credential:api-token"
    assert [line for line in before if line not in after] == ['# api_token = "credential:api-token"']
    fitting.fit(file)
    assert file.read_text().splitlines() == after


def test_the_state_of_make_run_is_not_the_services(file: Path) -> None:
    file.write_text(file.read_text().replace('# state = "/var/lib/homelab-agent"', 'state = "/home/anna/state"'))
    fitting.fit(file)
    assert config.load(file).settings.agent.state == Path("/var/lib/homelab-agent")


def test_a_token_that_was_chosen_stays(file: Path) -> None:
    chosen = 'api_token = "file:/etc/homelab-agent/mine"'
    file.write_text(file.read_text().replace('# api_token = "credential:api-token"', chosen))
    fitting.fit(file)
    assert chosen in file.read_text()


def test_secrets_that_the_service_cannot_have_are_named(file: Path) -> None:
    file.write_text(
        '[database]\nurl = "postgresql://me@host/db"\npassword = "env:DATABASE_PASSWORD"\n'
        '[web]\napi_token = "file:/home/anna/token"\n'
    )
    first, second = sorted(fitting.notes(file))
    assert "database.password: the service has no variable DATABASE_PASSWORD" in first
    assert "web.api_token: /home/anna/token is to be readable by the agent alone" in second


def test_the_socket_listens_where_the_configuration_says() -> None:
    assert fitting.socket_drop_in("127.0.0.1:8085") == ""
    lines = fitting.socket_drop_in("192.168.1.10:9000").splitlines()
    assert lines[1:] == [
        "[Socket]",
        "ListenStream=",  # what the unit says is none any more
        "ListenStream=192.168.1.10:9000",
        "ListenStream=/run/homelab-agent/agent.sock",
        "# At boot the address may come after the socket.",
        "FreeBind=yes",
    ]


def test_what_resumes_looks_where_the_configuration_has_the_records() -> None:
    unit = (ROOT / "deploy/systemd/homelab-agent-resume.service").read_text().splitlines()
    looks = [line for line in unit if line.startswith("Condition")]
    assert fitting.resume_drop_in(fitting.RECORDS) == ""
    head, section, *lines = fitting.resume_drop_in(Path("/srv/50% of it")).splitlines()
    assert (head[0], section) == ("#", "[Unit]")
    assert lines == [line.replace(str(fitting.RECORDS), "/srv/50%% of it") for line in looks]
