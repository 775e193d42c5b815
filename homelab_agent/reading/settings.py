"""The section `[reading]`: when what was read is fetched, and from where."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from homelab_agent.core import cron
from homelab_agent.core.settings import Section, check_unique, setting

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"


class ReadingSource(Section):
    """One place where what was read is collected."""

    name: str = setting(..., "What commands, log and rows call it.", pattern=NAME, example="atlas")
    kind: Literal["mongodb", "miniflux", "feed"] = setting(
        "mongodb",
        "mongodb: the documents of a collection, each marked once it is stored. miniflux: what was read there. feed: "
        "the entries of a feed (RSS, Atom, JSON Feed).",
    )
    url: str = setting(
        ...,
        "Its address, or a reference to a secret that holds it.",
        example="mongodb+srv://reader@cluster0.example.mongodb.net",
        min_length=1,
        secret=True,
    )
    password: str = setting(
        "",
        "Reference to the password of the address's user; for miniflux to its API key.",
        example="file:/etc/homelab-agent/atlas-password",
        secret=True,
    )
    rate: float = setting(1.0, "Requests to it in a second, for miniflux and feed.", unit="requests/s", gt=0, le=100)
    database: str = setting("reading-analytics", "Its database.", min_length=1, max_length=63)
    collection: str = setting("articles", "The collection in it.", min_length=1, max_length=200)
    on_reject: Literal["mark", "leave"] = setting(
        "mark",
        "What happens at the source to a document that cannot be stored. mark: its status becomes rejected. leave: it "
        "stays as it is, and later runs pass over it.",
    )


class ReadingSettings(Section):
    """The reading sync: documents of reading sources become rows of `reading_analytics`, with a proof that all did."""

    schedule: str = setting(
        "0 0,12 * * *", "When: five cron fields, or as `every 6 hours`. A missed slot is made up for.", min_length=1
    )
    spread: float = setting(
        1800.0,
        "Each slot is later by up to so much, on one host always the same, so that a fleet does not come all at once.",
        unit="s",
        ge=0,
        le=6 * 3600,
    )
    deadline: float = setting(
        6 * 3600.0,
        "How long one run may take; at the latest it stops a minute before the next slot, whose run goes on.",
        unit="s",
        gt=0,
        le=86400,
    )
    patience: float = setting(
        300.0,
        "How long an outage of a source or of PostgreSQL in the middle of a run is waited for.",
        unit="s",
        ge=0,
        le=3600,
    )
    batch: int = setting(500, "Documents that are stored in one transaction.", ge=1, le=5000)
    document_max_bytes: int = setting(
        4 * 1024 * 1024, "A larger document is rejected.", unit="bytes", ge=1024, le=64 * 1024 * 1024
    )
    source: list[ReadingSource] = setting([], "The sources.", max_length=32)

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, value: str) -> str:
        return cron.check(value)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        check_unique([source.name for source in self.source], "reading sources")
        return self
