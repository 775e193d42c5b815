"""Settings with every kind of key, to test what reads, writes and describes configurations."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from homelab_agent.core.settings import Level, Section, setting


class Door(Section):
    """The front door."""

    listen: str = setting("127.0.0.1:8085", "Where it opens.", renamed_from="address")
    width: float = setting(1.0, "How wide.", unit="m", gt=0, le=3, reload=True)
    guests: list[str] = setting([], "Who may come.", example=["ann", "bob"], reload=True)
    key_file: Path | None = setting(None, "Where the key lies; empty: under the mat.", example="/etc/key")
    password: str = setting("", "What to say.")
    url: str = setting("", "Where the bell rings.")
    closed: bool = setting(default=False, doc="Whether it is shut.", reload=True)
    level: Level = setting(Level.INFO, "How much is told.")

    @field_validator("listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        if ":" not in value:
            message = "expected ADDRESS:PORT"
            raise ValueError(message)
        return value


class Cellar(Section):
    """What lies below."""

    bytes_max: int = setting(128 * 1024 * 1024, "How much fits.", unit="bytes", ge=1024 * 1024)
    depth: int = setting(2, "How deep.", unit="m", ge=1, le=9, renamed_from="door.depth")
    pin: SecretStr | None = setting(None, "What opens it.", example="1234")


class Book(Section):
    """One book."""

    title: str = setting(..., "What it is called.", min_length=1, example="Ulysses")
    pages: int = setting(100, "How long it is.", ge=1, renamed_from="leaves")


class Library(Section):
    """The books, if there are any."""

    shelf: str = setting(..., "Where they stand.", example="left")
    lamp: bool = setting(default=True, doc="Whether there is light.")
    book: list[Book] = Field(default_factory=list)


class House(Section):
    """Everything under one roof."""

    door: Door = Field(default_factory=Door)
    cellar: Cellar = Field(default_factory=Cellar)
    library: Library | None = None
