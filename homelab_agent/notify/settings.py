"""The section `[notify]`: who is told what, and who misses the agent when it is silent."""

from __future__ import annotations

import re
from functools import partial
from typing import Literal, Self

from pydantic import field_validator, model_validator

from homelab_agent.core import settings
from homelab_agent.core.settings import NAME, Section, check_unique

setting = partial(settings.setting, reload=True)
"""Every key of this section applies on reload."""

_REFERENCE = re.compile(r"(env|file|credential|openbao):\S+")
_QUIET = r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$"


def _is_reference(value: str) -> str:
    """Return the value; such an address is a secret itself, and does not stand in a file that others read."""
    if value and not _REFERENCE.fullmatch(value):
        message = "it is a reference to a secret: file:PATH, env:NAME, credential:NAME or openbao:PATH#KEY"
        raise ValueError(message)
    return value


class Target(Section):
    """Somewhere messages go: a phone, a mailbox, a chat, a webhook."""

    name: str = setting(..., "What commands, checks and the log call it.", pattern=NAME, example="phone")
    url: str = setting(
        ...,
        "Reference to a secret that holds its Apprise URL, such as ntfys://TOKEN@ntfy.example.net/alerts or "
        "mailtos://USER:PASSWORD@example.net?to=me@example.net.",
        example="file:/etc/homelab-agent/notify-phone",
        secret=True,
    )
    severity: Literal["warning", "failed", "critical"] = setting(
        "warning", "The least that it is told: what is degraded (warning), what is failed, or only what is critical."
    )
    components: list[str] = setting(
        [],
        "Checks that it is told of, as `homelab-agent doctor` names them: a name has those below it, shell globs work. "
        "Empty: all.",
        example=["backup", "job.backup.*"],
    )
    quiet: str = setting(
        "",
        "Hours by this host's clock in which it is told nothing but what is critical; the rest comes when they end.",
        example="22:30-07:00",
        pattern=_QUIET,
    )

    _url_is_reference = field_validator("url")(_is_reference)

    @field_validator("quiet")
    @classmethod
    def _hours_have_an_end(cls, value: str) -> str:
        begin, _, end = value.partition("-")
        if value and begin == end:
            message = 'its quiet hours end when they begin: all day is `severity = "critical"`, never is ""'
            raise ValueError(message)
        return value


class JobHeartbeat(Section):
    """A job whose runs are told to a monitor that misses them."""

    job: str = setting(..., "The job, as `homelab-agent jobs list` names it.", min_length=1, example="backup.run")
    url: str = setting(
        ...,
        "Reference to a secret that holds the address of its own check there.",
        example="file:/etc/homelab-agent/heartbeat-backup",
        secret=True,
    )

    _url_is_reference = field_validator("url")(_is_reference)


class HeartbeatSettings(Section):
    """Somebody else who misses the agent: it calls there while it does its work, and silence is what alarms."""

    kind: Literal["healthchecks", "uptime-kuma"] = setting(
        "healthchecks",
        "healthchecks: as Healthchecks.io has it: the address, /start, /fail. uptime-kuma: a monitor of the type Push.",
    )
    url: str = setting(
        "",
        "Reference to a secret that holds the address to call for the agent itself; empty: only jobs are told.",
        example="file:/etc/homelab-agent/heartbeat",
        secret=True,
    )
    every: float = setting(
        60.0, "How often it calls for the agent; there, allow at least twice as long.", unit="s", ge=1, le=86400
    )
    timeout: float = setting(10.0, "How long one call may take.", unit="s", gt=0, le=60)
    job: list[JobHeartbeat] = setting([], "Jobs whose runs are told.", max_length=64)

    _url_is_reference = field_validator("url")(_is_reference)

    @model_validator(mode="after")
    def _jobs_are_unique(self) -> Self:
        check_unique([one.job for one in self.job], "heartbeats of jobs")
        return self


class NotifySettings(Section):
    """What needs a person is told to `[[notify.target]]`s, and `[notify.heartbeat]` has silence noticed."""

    grace: float = setting(
        120.0,
        "How long a check must be failed before that is told, and well again before that is.",
        unit="s",
        ge=0,
        le=7 * 86400,
    )
    grace_degraded: float = setting(
        900.0, "How long a check must be degraded before that is told.", unit="s", ge=0, le=7 * 86400
    )
    group: float = setting(
        15.0, "What comes up within so long is one message; what is critical waits for nothing.", unit="s", ge=0, le=600
    )
    digest: int = setting(8, "A message with more than so many things in it is a digest of them.", ge=1, le=100)
    give_up: float = setting(
        86400.0,
        "How long a target that does not take a message is tried again before that message is given up.",
        unit="s",
        gt=0,
        le=30 * 86400,
    )
    critical: list[str] = setting(
        ["state", "event_loop", "task", "metrics.disks", "metrics.space"],
        "Checks whose failure is critical: it is told in quiet hours, too.",
    )
    serious: list[str] = setting(
        ["backup", "gate.key", "gitops", "job", "metrics.units"],
        "Checks that are told of as failed when they are degraded: a copy that is overdue or not proven, a node key "
        "that ends before long, a deployment, a job, a unit that failed.",
    )
    page: str = setting(
        "",
        "Address of the status page in messages; empty: its name in the tailnet where the gate knows it, else no link.",
        example="https://nas.tailnet.ts.net",
        pattern=r"^(https?://\S+)?$",
    )
    target: list[Target] = setting([], "The targets.", max_length=16)
    heartbeat: HeartbeatSettings | None = setting(None, "Who misses the agent.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        check_unique([one.name for one in self.target], "targets")
        return self
