"""Settings: the rooms' sections side by side, each described in its own `settings.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from homelab_agent import capabilities
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.config import references
from homelab_agent.core.settings import AgentSettings, LogSettings, Section
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.gate.settings import GateSettings
from homelab_agent.gitops.settings import GitopsSettings
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.notify.settings import NotifySettings
from homelab_agent.reading.settings import ReadingSettings
from homelab_agent.secrets import reference
from homelab_agent.secrets.settings import SecretsSettings
from homelab_agent.web.settings import WebSettings


class Settings(Section):
    """All of the configuration. A section that is off until it is there is `... | None = None`."""

    agent: AgentSettings = Field(default_factory=AgentSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    secrets: SecretsSettings = Field(default_factory=SecretsSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    gitops: GitopsSettings | None = None
    gate: GateSettings | None = None
    reading: ReadingSettings | None = None
    backup: BackupSettings | None = None
    notify: NotifySettings | None = None

    @model_validator(mode="after")
    def _can_ask_openbao(self) -> Self:
        asking = {text: keys for text, keys in references.uses(self).items() if text.startswith(f"{reference.SCHEME}:")}
        faults = [f"{', '.join(keys)}: {fault}" for text, keys in asking.items() if (fault := reference.fault(text))]
        if asking and not self.secrets.url:
            named = ", ".join(key for keys in asking.values() for key in keys)
            faults.append(f"[secrets] url says where OpenBao is, and is not set; it is asked for {named}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def enabled(self) -> Iterator[tuple[str, Section]]:
        """Yield the capabilities that are on and their sections, in the order of `capabilities.NAMES`.

        One is on when its section is there, unless the section's own key `enabled` is false.
        """
        for name in capabilities.NAMES:
            section: Section | None = getattr(self, name)
            if section is not None and getattr(section, "enabled", True):
                yield name, section

    def off(self) -> Iterator[tuple[str, str]]:
        """Yield each capability that is off, and how to switch it on."""
        on = {name for name, _ in self.enabled()}
        for name in capabilities.NAMES:
            if name not in on:
                has_switch = getattr(self, name) is not None
                command = f"homelab-agent config set {name}.enabled true"
                yield name, f"to enable it: {command}" if has_switch else f"to enable it, add the section [{name}]"
