"""The section `[database]`."""

from __future__ import annotations

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
        "How long rows are gathered before they are sent; fewer, larger writes spare an SD card. At most so long that "
        "none has to wait on disk first.",
        unit="s",
        reload=True,
        ge=0.1,
        le=45,
    )
