"""On which kind of disk the state directory lies, and what is written to it: what the profile is about."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from homelab_agent import config
from homelab_agent.config import keys, profile
from homelab_agent.core.health import Check, Finding

_DEVICES = Path("/sys/dev/block")
_CARD = "mmcblk"
"""What the kernel calls SD cards and eMMC (drivers/mmc/core/block.c)."""


def check(directory: Path, loaded: config.Loaded[config.Settings], devices: Path = _DEVICES) -> Check:
    """Return the check that suggests the profile where the state directory lies on a card."""

    async def disk() -> Finding:
        return await asyncio.to_thread(lambda: Finding.ok(_told(directory, loaded, devices)))

    return Check("agent.disk", disk)


def _told(directory: Path, loaded: config.Loaded[config.Settings], devices: Path) -> str:
    if loaded.settings.agent.profile in profile.PROFILES:
        return summary(loaded)
    there = next(parent for parent in (directory, *directory.parents) if parent.exists())
    card = next((name for name in disks(there.stat().st_dev, devices) if name.startswith(_CARD)), "")
    if not card:
        return f"{written(None)}, on no SD card"
    command = f"homelab-agent config set agent.profile {profile.SDCARD.name}"
    return f"{written(None)}, on {card}, an SD card or eMMC; with `{command}` about {profile.SDCARD.written_mb}"


def summary(loaded: config.Loaded[config.Settings]) -> str:
    """Return what the profile in force does, and which of its keys are set by somebody, so that it does not."""
    chosen = profile.PROFILES[loaded.settings.agent.profile]
    own = [f"{keys.dotted(path)} ({origin})" for path in chosen.values if (origin := _origin(loaded, path))]
    but = f", but for what is set: {', '.join(own)}" if own else ""
    return f"{chosen.origin}: {written(chosen)} instead of {profile.WRITTEN_MB} without{but}"


def written(chosen: profile.Profile | None) -> str:
    """Return how much is written at rest, as was measured."""
    size = profile.WRITTEN_MB if chosen is None else chosen.written_mb
    return f"about {size} MB a day are written at rest"


def disks(device: int, devices: Path = _DEVICES) -> Iterator[str]:
    """Yield the kernel's names of the disks that a device is on: its own, and those below a mapped one."""
    yield from _names((devices / f"{os.major(device)}:{os.minor(device)}").resolve())


def _names(block: Path) -> Iterator[str]:
    yield block.name
    for below in sorted(block.glob("slaves/*")):
        yield from _names(below.resolve())


def _origin(loaded: config.Loaded[config.Settings], path: keys.KeyPath) -> str:
    origin = loaded.source.origin(path)
    return "" if origin.startswith("profile ") else origin
