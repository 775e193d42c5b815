"""The section `[secrets]`: where OpenBao is, how the agent logs in there, and how long a value outlives an outage."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from homelab_agent.core import cron
from homelab_agent.core.settings import Section, setting

APPROLE = ("auto", "inline", "approle")
"""The ways to log in that need a role."""


class SecretsSettings(Section):
    """OpenBao, where a key such as `password = "openbao:secret/homelab/postgres#password"` is read.

    Off while `url` is empty; `env:NAME`, `file:PATH` and `credential:NAME` need nothing of this.
    """

    url: str = setting(
        "",
        "Where OpenBao listens: https://host:8200, http:// on this host only, or unix:/path for its unix socket.",
        example="unix:/run/openbao/openbao.sock",
        pattern=r"^(https://[^\s/@]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?|unix:/\S+)?/?$",
    )
    ca: Path | None = setting(
        None, "Certificates (PEM) that vouch for it; empty: the system's.", example="/etc/homelab-agent/openbao-ca.pem"
    )
    namespace: str = setting("", "Its namespace.", pattern=r"^[^\s]*$")
    login: str = setting(
        "auto",
        "auto: inline where the server has it (2.4), else approle; token where `token` is set. inline sends the role "
        "with each request, so that nothing has to be renewed; approle logs in and renews; token takes what is given.",
        pattern="^(auto|inline|approle|token)$",
    )
    approle: str = setting("approle", "Where AppRole is mounted.", pattern=r"^[^\s/][^\s]*$")
    role_id: str = setting("", "The role's id.", example="homelab-agent")
    secret_id: str = setting(
        "",
        "Reference to the role's secret id (file:PATH, credential:NAME, env:NAME).",
        example="credential:openbao-secret-id",
        secret=True,
    )
    wrapped: bool = setting(
        default=False,
        doc="Whether `secret_id` is a wrapping token: it is unwrapped once, and kept in the state directory.",
    )
    token: str = setting(
        "",
        "Reference to a token, instead of a role; it is read again when it is refused.",
        example="file:/etc/homelab-agent/openbao-token",
        secret=True,
    )
    timeout: float = setting(3.0, "How long one request may take.", unit="s", gt=0, le=60)
    poll: float = setting(60.0, "How often it is asked for new versions.", unit="s", reload=True, ge=1, le=3600)
    max_stale: float = setting(
        86400.0,
        "How long the last known values are used while it cannot be asked; they are kept in memory alone.",
        unit="s",
        reload=True,
        ge=60,
    )
    snapshot_dir: Path | None = setting(
        None,
        "Where snapshots of OpenBao's own storage are put; empty: none are taken.",
        example="/var/lib/homelab-agent/openbao-snapshots",
    )
    snapshot_schedule: str = setting("40 0 * * *", "When they are taken, as cron has it.")
    snapshot_keep: int = setting(14, "How many are kept.", ge=1, le=1000)

    @property
    def way(self) -> str:
        """Return the way to log in: `token`, or `inline`, `approle`, or `auto` between these two."""
        return "token" if self.login == "auto" and self.token else self.login

    @field_validator("snapshot_schedule")
    @classmethod
    def _is_a_schedule(cls, value: str) -> str:
        return cron.check(value)

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if not self.url:
            return self
        if self.way == "token" and not self.token:
            message = 'login = "token" needs the key token'
            raise ValueError(message)
        if self.way in APPROLE and not (self.role_id and self.secret_id):
            message = "a role needs the keys role_id and secret_id (homelab-agent secrets bootstrap makes both)"
            raise ValueError(message)
        for key in ("secret_id", "token"):
            if getattr(self, key).startswith("openbao:"):
                message = f"{key} is what OpenBao is asked with: it cannot be read from there"
                raise ValueError(message)
        return self
