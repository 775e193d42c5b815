"""What PostgreSQL's own file says of how a server ended, and what `pg_controldata` says of the same file."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from homelab_agent.backup import pg_control
from tests.neighbours.postgres import Postgres

_SAYS = Path("/usr/lib/postgresql/15/bin/pg_controldata")
_WORDS = {"it was at work": "in production", "": "shut down", "it was shut down in recovery": "shut down in recovery"}


def test_only_a_server_that_was_shut_down_is_said_to_have_ended_in_order(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    data = Path(any_postgres.psql("SHOW data_directory"))
    file = data / pg_control.FILE
    assert pg_control.state(file) == "it was at work"
    any_postgres.stop(signal.SIGKILL)
    assert pg_control.state(file) == "it was at work"
    any_postgres.start()
    any_postgres.stop()
    assert pg_control.state(file) == ""
    content = file.read_bytes()
    for place in (0, 8, 16, 100, 200):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "pg_control").write_bytes(damaged)
        assert pg_control.state(tmp_path / "pg_control") == "it is damaged"
    (tmp_path / "link").symlink_to(file)
    assert "cannot be read" in pg_control.state(tmp_path / "link")


def test_it_says_what_pg_controldata_says(postgres_debian: Postgres) -> None:
    data = Path(postgres_debian.psql("SHOW data_directory"))
    for deed in (
        lambda: None,
        postgres_debian.stop,
        postgres_debian.start,
        lambda: postgres_debian.stop(signal.SIGKILL),
    ):
        deed()
        said = subprocess.run([_SAYS, data], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
        assert "CRC" not in said
        [state] = [
            line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("Database cluster state")
        ]
        assert _WORDS[pg_control.state(data / pg_control.FILE)] == state
