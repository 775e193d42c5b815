from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from homelab_agent import config
from homelab_agent.config import reference, sample
from homelab_agent.core.errors import Exit

Done = subprocess.CompletedProcess[str]


def homelab_agent(*words: str | Path, **environ: str) -> Done:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOMELAB_AGENT")}
    return subprocess.run(
        [sys.executable, "-m", "homelab_agent", *map(str, words)],
        env=inherited | environ,
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('# ours\n[log]\nlevel = "debug"  # for now\n')
    return path


def test_check_passes_a_valid_file(path: Path) -> None:
    done = homelab_agent("--config", path, "config", "check")
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, f"{path}: no faults\n", "")


def test_check_prints_every_fault_and_exits_78(path: Path) -> None:
    path.write_text('[log]\nlevl = "debug"\nformat = "xml"\n')
    done = homelab_agent("--config", path, "config", "check", HOMELAB_AGENT__AGENT__SHUTDOWN_DEADLINE="0")
    assert done.returncode == Exit.CONFIGURATION
    assert done.stdout == ""
    bound = "expected a number from 1 to 600 (10 min), in s"
    assert done.stderr.splitlines() == [
        f'{path}:2: log.levl = "debug": unknown key; nearest: log.level',
        f'{path}:3: log.format = "xml": expected one of auto, journal, terminal, json',
        f"$HOMELAB_AGENT__AGENT__SHUTDOWN_DEADLINE: agent.shutdown_deadline = 0: {bound}",
        "3 faults",
    ]


def test_check_names_a_schedule_that_is_none_with_all_other_faults(path: Path) -> None:
    path.write_text(
        '[log]\nformat = "xml"\n[reading]\nschedule = "0 25 * * *"\nspread = -1.0\n'
        '[secrets]\nsnapshot_schedule = "0 0 31 2 *"\n'
    )
    done = homelab_agent("--config", path, "config", "check")
    assert done.returncode == Exit.CONFIGURATION
    lines = done.stderr.splitlines()
    assert lines[1] == (
        f'{path}:4: reading.schedule = "0 25 * * *": the schedule "0 25 * * *" is none. '
        "('25' is no hour: it goes from 0 to 23)"
    )
    assert lines[2].startswith(f"{path}:5: reading.spread")
    assert lines[3].endswith('the schedule "0 0 31 2 *" is none. (there is no such day)')
    assert lines[4] == "4 faults"


def test_every_command_that_needs_the_configuration_prints_its_faults(path: Path) -> None:
    path.write_text("[log\n")
    done = homelab_agent("--config", path, "doctor")
    assert done.returncode == Exit.CONFIGURATION
    assert done.stderr.splitlines()[-1] == "1 fault"
    assert "Traceback" not in done.stderr


def test_the_file_may_be_named_by_the_environment(path: Path) -> None:
    done = homelab_agent("config", "path", HOMELAB_AGENT_CONFIG=str(path))
    assert done.stdout == f"{path}\n"


def test_show_tells_where_each_value_came_from(path: Path) -> None:
    variables = {"HOMELAB_AGENT__DATABASE__URL": "postgresql://me:hunter2@host/homelab"}
    done = homelab_agent("--config", path, "config", "show", "--json", **variables)
    shown = {one["key"]: (one["value"], one["origin"]) for one in json.loads(done.stdout)}
    assert shown["log.level"] == ("debug", f"{path}:3")
    assert shown["log.format"] == ("auto", "default")
    assert shown["database.url"] == ("postgresql://me:********@host/homelab", "$HOMELAB_AGENT__DATABASE__URL")
    lines = homelab_agent("--config", path, "config", "show", **variables).stdout.splitlines()
    assert lines[0].split() == ["key", "from", "value"]
    assert ["log.level", f"{path}:3", '"debug"'] in [line.split() for line in lines]
    assert "hunter2" not in "".join(lines)


def test_set_changes_one_key_and_keeps_the_comments(path: Path) -> None:
    done = homelab_agent("--config", path, "config", "set", "log.level", "info")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert path.read_text() == '# ours\n[log]\nlevel = "info"  # for now\n'
    homelab_agent("--config", path, "config", "set", "agent.shutdown_deadline", "30")
    assert path.read_text() == '# ours\n[log]\nlevel = "info"  # for now\n\n[agent]\nshutdown_deadline = 30\n'


def test_set_refuses_what_is_not_valid(path: Path) -> None:
    before = path.read_text()
    done = homelab_agent("--config", path, "config", "set", "log.level", "loud")
    assert done.returncode == Exit.CONFIGURATION
    assert done.stderr.splitlines() == [
        'given: log.level = "loud": expected one of debug, info, warning, error',
        "1 fault",
    ]
    assert path.read_text() == before


def test_sample_reference_and_schema_are_printed() -> None:
    assert homelab_agent("config", "sample").stdout == sample.sample(config.Settings)
    assert homelab_agent("config", "reference").stdout == reference.reference(config.Settings)
    assert json.loads(homelab_agent("config", "schema").stdout) == reference.schema(config.Settings)
