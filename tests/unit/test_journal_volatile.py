"""Whether journald writes to memory or to the disk, as its files show it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homelab_agent.core.journal import journalctl


@pytest.mark.parametrize(
    ("memory", "disk", "is_volatile"),
    [
        (None, None, False),
        (None, 1, False),
        (1, None, True),
        (2, 1, True),  # Storage=volatile, and what was written before it
        (1, 2, False),  # Storage=persistent, and what was written before it: journald leaves it there
    ],
)
def test_it_writes_where_it_has_written_last(
    memory: int | None, disk: int | None, *, is_volatile: bool, tmp_path: Path
) -> None:
    for name, written in (("memory", memory), ("disk", disk)):
        place = tmp_path / name / "72107a7ad755479e96a1e163ab2d4eff"
        place.mkdir(parents=True)
        if written is not None:
            (place / "system.journal").touch()
            os.utime(place / "system.journal", (written, written))
    assert journalctl.is_volatile(tmp_path / "memory", tmp_path / "disk") is is_volatile


def test_without_any_it_does_not(tmp_path: Path) -> None:
    assert not journalctl.is_volatile(tmp_path / "nothing", tmp_path)
