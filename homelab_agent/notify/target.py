"""Who is told what, and when not: a target as a decision, without a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time

from homelab_agent.notify import settings, severity
from homelab_agent.notify.decision import Item
from homelab_agent.notify.severity import Severity


@dataclass(frozen=True, slots=True)
class Target:
    """A target without its address; `quiet` are its quiet hours by the host's clock, None where it has none."""

    name: str
    least: Severity = Severity.WARNING
    components: Sequence[str] = ()
    quiet: tuple[time, time] | None = None

    @classmethod
    def of(cls, section: settings.Target) -> Target:
        """Return what a section of the configuration describes."""
        hours = section.quiet.split("-") if section.quiet else []
        quiet = (time.fromisoformat(hours[0]), time.fromisoformat(hours[1])) if hours else None
        return cls(section.name, severity.named(section.severity), tuple(section.components), quiet)

    @property
    def check(self) -> str:
        """The check that says whether it takes messages."""
        return f"notify.target.{self.name}"

    def wants(self, item: Item) -> bool:
        """Return whether it is told of something; never of its own failure, which it could not hear of."""
        if item.check == self.check or item.severity < self.least:
            return False
        return not self.components or severity.matches(item.check, self.components)

    def is_quiet(self, local: datetime) -> bool:
        """Return whether only what is critical is told at that time of the host; hours may go over midnight."""
        if self.quiet is None:
            return False
        begin, end, now = *self.quiet, local.time()
        return begin <= now < end if begin <= end else now >= begin or now < end
