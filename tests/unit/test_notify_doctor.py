"""What the doctor says of notifications without an agent: whether anybody is told while OpenBao is sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Finding
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.notify import doctor
from homelab_agent.notify.settings import NotifySettings

BAO, FILE = "openbao:secret/homelab/notify#phone", "file:/etc/homelab-agent/notify-phone"


async def sealed(directory: Path, *urls: str) -> Finding | None:
    """Return what is said of targets with these addresses; None for nothing."""
    targets = [{"name": f"one{number}", "url": url} for number, url in enumerate(urls)]
    settings = NotifySettings.model_validate({"target": targets, "heartbeat": {"url": BAO}})
    checks = {one.name: one for one in doctor.checks(settings, directory, Secrets(Redactor(), SystemClock()))}
    probe = checks["notify.sealed"].probe if "notify.sealed" in checks else None
    return await probe() if probe is not None else None


@pytest.mark.parametrize("urls", [[BAO], [BAO, "openbao:secret/homelab/mail#url"]])
async def test_who_keeps_every_address_in_openbao_is_told_that_nobody_hears_of_it_when_it_is_sealed(
    tmp_path: Path, urls: list[str]
) -> None:
    finding = await sealed(tmp_path, *urls)
    assert finding is not None
    assert finding.state == "degraded"
    assert "nobody is told after a start while OpenBao is sealed" in finding.detail
    assert "file:" in finding.repair


@pytest.mark.parametrize("other", [FILE, "credential:notify-phone", "env:NOTIFY_PHONE"])
async def test_one_address_that_is_read_without_it_is_enough(tmp_path: Path, other: str) -> None:
    assert await sealed(tmp_path, other) is None
    finding = await sealed(tmp_path, BAO, other)
    assert finding is not None
    assert finding.state == "ok"
    assert "one1" in finding.detail


async def test_without_a_target_there_is_nothing_to_say_of_it(tmp_path: Path) -> None:
    assert await sealed(tmp_path) is None
