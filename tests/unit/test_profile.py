"""`[agent] profile`: what it sets, what goes before it, and what a person is told of it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from homelab_agent import config
from homelab_agent.commands import card
from homelab_agent.config import keys, profile, show
from homelab_agent.config.faults import ConfigurationFaulty
from homelab_agent.core.health import Check, Finding, State
from tests.unit.test_config_command import homelab_agent

GUIDE = Path(__file__).parents[2] / "docs/guide.md"
_ROW = re.compile(r"^\| `(?P<key>[a-z_.]+)` \| (?P<default>\d+) s \| (?P<sdcard>\d+) s \|", re.MULTILINE)


def written(directory: Path, text: str, **environ: str) -> config.Loaded[config.Settings]:
    path = directory / "config.toml"
    path.write_text(text)
    return config.load(path, environ)


def in_force(loaded: config.Loaded[config.Settings]) -> dict[str, tuple[object, str]]:
    wanted = {keys.dotted(path) for path in profile.SDCARD.values}
    return {one.key: (one.value, one.origin) for one in show.values(loaded) if one.key in wanted}


def test_the_guide_says_what_the_profile_sets_and_saves(tmp_path: Path) -> None:
    text = GUIDE.read_text()
    told = {row["key"]: (int(row["default"]), int(row["sdcard"])) for row in _ROW.finditer(text)}
    without, with_it = in_force(written(tmp_path, "")), in_force(written(tmp_path, '[agent]\nprofile = "sdcard"\n'))
    assert told == {key: (without[key][0], with_it[key][0]) for key in with_it}
    assert {origin for _, origin in with_it.values()} == {"profile sdcard"}
    assert {origin for _, origin in without.values()} == {"default"}
    assert f"**{profile.SDCARD.written_mb} MB**" in text
    assert f"**{profile.WRITTEN_MB} MB**" in text


def test_what_somebody_has_set_goes_before_it_and_is_told(tmp_path: Path) -> None:
    text = '[agent]\nprofile = "sdcard"\n[metrics]\ninterval = 10\n'
    loaded = written(tmp_path, text, HOMELAB_AGENT__DATABASE__SHIP_EVERY="30")
    found = in_force(loaded)
    assert found["metrics.interval"] == (10, f"{tmp_path}/config.toml:4")
    assert found["database.ship_every"] == (30, "$HOMELAB_AGENT__DATABASE__SHIP_EVERY")
    assert found["metrics.slow_interval"] == (300, "profile sdcard")
    said = card.summary(loaded)
    assert f"metrics.interval ({tmp_path}/config.toml:4)" in said
    assert "slow_interval" not in said


def test_the_environment_can_choose_it(tmp_path: Path) -> None:
    assert in_force(written(tmp_path, "", HOMELAB_AGENT__AGENT__PROFILE="sdcard"))["metrics.interval"][0] == 60


def test_one_that_is_none_is_a_fault_and_so_is_a_section_that_is_no_table(tmp_path: Path) -> None:
    for text in (
        '[agent]\nprofile = "floppy"\n',
        "[agent]\nprofile = 3\n",
        'metrics = 3\n[agent]\nprofile = "sdcard"\n',
    ):
        with pytest.raises(ConfigurationFaulty) as caught:
            written(tmp_path, text)
        assert len(caught.value.faults) == 1, text


def test_a_change_of_it_applies_on_reload_but_for_what_postgresql_is_started_with(tmp_path: Path) -> None:
    before, after = written(tmp_path, ""), written(tmp_path, '[agent]\nprofile = "sdcard"\n')
    changed = config.changes(before.settings, after.settings)
    assert changed.needs_restart == ("database.checkpoint_every",)
    assert set(changed.keys) == {"agent.profile", "metrics.interval", "metrics.slow_interval", "database.ship_every"}


def test_the_sample_leaves_to_a_profile_what_it_sets(tmp_path: Path) -> None:
    text = homelab_agent("config", "sample").stdout
    chosen = text.replace('profile = "none"', 'profile = "sdcard"')
    assert chosen != text
    assert {origin for _, origin in in_force(written(tmp_path, chosen)).values()} == {"profile sdcard"}


def block(root: Path, number: str, name: str, *below: str) -> None:
    """Write a block device as /sys/dev/block has it."""
    (root / "devices" / name / "slaves").mkdir(parents=True)
    (root / number).symlink_to(root / "devices" / name)
    for one in below:
        (root / "devices" / one).mkdir()
        (root / "devices" / name / "slaves" / one).symlink_to(root / "devices" / one)


def asked(check: Check) -> Finding:
    """Return what a check finds."""
    assert check.probe is not None

    async def ask(probe: Callable[[], Awaitable[Finding]]) -> Finding:
        return await probe()

    return asyncio.run(ask(check.probe))


@pytest.mark.parametrize(("below", "is_card"), [((), False), (("mmcblk0p2",), True), (("sda2",), False)])
def test_the_profile_is_suggested_on_a_card_also_below_a_mapped_device(
    tmp_path: Path, below: tuple[str, ...], *, is_card: bool
) -> None:
    device = tmp_path.stat().st_dev
    block(tmp_path / "sys", f"{os.major(device)}:{os.minor(device)}", "dm-0", *below)
    found = asked(card.check(tmp_path / "not/made/yet", written(tmp_path, ""), tmp_path / "sys"))
    assert found.state is State.OK
    assert ("config set agent.profile sdcard" in found.detail) is is_card
    with_it = asked(card.check(tmp_path, written(tmp_path, '[agent]\nprofile = "sdcard"\n'), tmp_path / "sys"))
    assert f"{profile.SDCARD.written_mb} MB" in with_it.detail


def test_doctor_and_config_show_tell_of_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[agent]\nprofile = "sdcard"\nstate = "{tmp_path}/state"\n')
    assert re.search(r"metrics.interval +profile sdcard +60", homelab_agent("--config", path, "config", "show").stdout)
    said = homelab_agent("--config", path, "doctor", "agent").stdout
    assert f"{profile.SDCARD.written_mb} MB" in said
    assert f"{profile.WRITTEN_MB}" in said
