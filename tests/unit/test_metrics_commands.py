"""`metrics sample` needs nothing but the host."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from homelab_agent.core.console import Console
from homelab_agent.core.health import State
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.metrics import doctor
from homelab_agent.metrics.commands import commands
from homelab_agent.metrics.settings import MetricsSettings

HAS_SYSTEMD = Path("/run/systemd/system").is_dir()


@pytest.fixture
def console() -> Console:
    return Console(lambda: SimpleNamespace(metrics=MetricsSettings()), Path, Path)


def test_a_sample_as_a_table_has_rates(console: Console) -> None:
    done = CliRunner().invoke(commands, ["sample"], obj=console)
    assert done.exit_code == 0
    for word in ("busy_pct", "rx_bytes_per_s", "available_bytes", "collector", "ok"):
        assert word in done.output
    assert ("The host has no systemd." in done.output) is not HAS_SYSTEMD


def test_a_sample_as_json_has_the_families_asked_for(console: Console) -> None:
    done = CliRunner().invoke(commands, ["sample", "--json", "--families", "cpu,memory"], obj=console)
    found = json.loads(done.output)
    assert set(found["families"]) == {"cpu", "memory"}
    assert found["families"]["cpu"][0]["busy_pct"] is not None
    assert found["collectors"]["cpu"]["status"] == "ok"


def test_an_unknown_family_is_a_fault_of_usage(console: Console) -> None:
    done = CliRunner().invoke(commands, ["sample", "--families", "weather"], obj=console)
    assert done.exit_code == 2
    assert "filesystem" in done.output


@pytest.mark.parametrize("family", ["forecast", "smart", "probe"])
def test_what_only_a_running_agent_asks_is_not_silently_nothing(console: Console, family: str) -> None:
    done = CliRunner().invoke(commands, ["sample", "--families", family], obj=console)
    assert done.exit_code == 2
    assert f"TABLE {family};" in done.output


def test_a_family_that_is_not_here_has_its_reason(console: Console) -> None:
    done = CliRunner().invoke(commands, ["sample", "--families", "memory,throttling"], obj=console)
    assert done.exit_code == 0
    assert "used_pct" in done.output
    assert "The host has no" in done.output or "under_voltage" in done.output  # of a Raspberry Pi


async def test_the_doctor_asks_every_collector(tmp_path: Path) -> None:
    check, units = doctor.checks(MetricsSettings(), tmp_path, Secrets(Redactor()))
    assert check.probe is not None
    finding = await check.probe()
    assert finding.state is State.OK
    assert "things measured" in finding.detail
    assert units.probe is not None
    stand = await units.probe()
    if HAS_SYSTEMD:
        assert stand.state in {State.OK, State.DEGRADED}
    else:
        assert (stand.state, stand.detail) == (State.NOT_AVAILABLE, "The host has no systemd.")
