"""The section `[database]`."""

from __future__ import annotations

from pydantic import model_validator

from homelab_agent.core.settings import Section, setting

EMBEDDED = "embedded"


class DatabaseSettings(Section):
    """PostgreSQL, in which every fact ends up."""

    url: str = setting(
        EMBEDDED,
        "embedded: a PostgreSQL of the agent's own, in its state directory; or the address of another, "
        "postgresql://user@host/database; or a reference to a secret that holds such an address "
        "(env:NAME, file:PATH, credential:NAME, openbao:PATH#KEY).",
        example="file:/etc/homelab-agent/database-url",
        secret=True,
        min_length=1,
    )
    password: str = setting(
        "",
        "Reference to the password of the user in `url`, where that holds none (env:NAME, file:PATH, credential:NAME, "
        "openbao:PATH#KEY). A new one is tried first, then taken over without a query that fails.",
        example="openbao:secret/homelab/postgres#password",
        secret=True,
    )
    ship_every: float = setting(
        30.0,
        "How long rows are gathered before they are sent; fewer, larger writes spare an SD card. Samples wait in "
        "memory for 50 s, or for 20 s more than this where that is longer, until they are put on disk: so much a power "
        "cut takes.",
        unit="s",
        reload=True,
        ge=0.1,
        le=900,
    )
    checkpoint_every: float = setting(
        3600.0,
        "How often the embedded PostgreSQL brings its tables up to date on disk, beside the log of changes that it "
        "keeps for that long: fewer times, fewer writes, and a start after a power cut that takes some seconds longer.",
        unit="s",
        ge=300,
        le=86400,
    )
    keep_samples: int = setting(
        30,
        "How long samples are kept as they were taken. What they came to by minute, hour and day is kept longer.",
        unit="days",
        ge=10,
        le=36500,
    )
    keep_minutes: int = setting(
        60,
        "How long what samples came to by the minute is kept; not shorter than the samples.",
        unit="days",
        ge=10,
        le=36500,
    )
    keep_hours: int = setting(
        730,
        "How long what they came to by the hour is kept, and what checks found; not shorter than the minutes. Days are "
        "kept for ever.",
        unit="days",
        ge=10,
        le=36500,
    )
    columnstore_after: int = setting(
        8,
        "With TimescaleDB: from which age on samples are compressed; later than one may be late "
        "([agent] spool_max_age).",
        unit="days",
        ge=1,
        le=3650,
    )

    @model_validator(mode="after")
    def _coarser_is_kept_longer(self) -> DatabaseSettings:
        if not self.columnstore_after + 2 <= self.keep_samples <= self.keep_minutes <= self.keep_hours:
            message = (
                "what is coarser is kept longer: columnstore_after + 2 <= keep_samples <= keep_minutes <= keep_hours"
            )
            raise ValueError(message)
        return self
