"""Recorded /proc and /sys trees: what a host would say, as files of a test."""

from __future__ import annotations

from pathlib import Path

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Families


class Recorded:
    """A host whose files the test writes and whose monotonic clock stands where the test puts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        self.host = Host("recorded", root, monotonic=lambda: self.now)

    def write(self, path: str, content: str) -> None:
        """Write a file in place, as the kernel changes one."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("r+" if target.exists() else "w") as file:
            file.truncate()
            file.write(content)

    def link(self, path: str, to: str) -> None:
        """Make a symbolic link."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(to)


def values(families: Families, family: str, label: str = "total") -> dict[str, Scalar]:
    """Return the values of the one entity of that label."""
    [found] = [reading.values for reading in families[family] if reading.entity.label == label]
    return found
