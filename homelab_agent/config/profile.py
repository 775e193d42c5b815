"""`[agent] profile`: defaults for a kind of host, which go before keys' own and behind what anybody has set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from homelab_agent.config import keys, tidying
from homelab_agent.config.faults import Source
from homelab_agent.config.keys import KeyPath

KEY: KeyPath = ("agent", "profile")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile sets, by key; `written_mb` is what is written in a day at rest then, as was measured."""

    name: str
    written_mb: int
    values: Mapping[KeyPath, int | float]

    @property
    def origin(self) -> str:
        """What `config show` says of a value that the profile has set."""
        return f"profile {self.name}"


WRITTEN_MB = 550
"""Without a profile. `python -m benchmarks written` measures both; docs/guide.md says when and how these were."""

SDCARD = Profile(
    "sdcard",
    230,
    MappingProxyType(
        {
            ("metrics", "interval"): 60,
            ("metrics", "slow_interval"): 300,
            ("database", "ship_every"): 300.0,
            ("database", "checkpoint_every"): 86400.0,
        }
    ),
)
PROFILES = MappingProxyType({SDCARD.name: SDCARD})


def apply(data: dict[str, Any], source: Source) -> None:
    """Set what the profile that `data` names sets, where nobody has; one that is none is for validation to tell."""
    name = keys.value_at(data, KEY)
    profile = PROFILES.get(name) if isinstance(name, str) else None
    if profile is None:
        return
    for path, value in profile.values.items():
        if keys.value_at(data, path) is None:
            tidying.put(data, path, value)
            source.given[path] = profile.origin


def of_key(path: KeyPath) -> Mapping[str, int | float]:
    """Return what the profiles set a key to, by profile."""
    return {name: one.values[path] for name, one in PROFILES.items() if path in one.values}
