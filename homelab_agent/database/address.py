"""Where PostgreSQL is and how to get in; what is shown of it holds no password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.journal.redaction import Redactor

_REFERENCES = ("env:", "file:", "credential:", "openbao:")
_CONNECTION = {"search_path": "homelab, public", "timezone": "UTC", "application_name": "homelab-agent"}


class AddressFaulty(AgentError):
    """`[database] url` is not an address of PostgreSQL."""

    repair = "write it as postgresql://user:password@host:5432/database"
    exit_code = Exit.CONFIGURATION


@dataclass(frozen=True, slots=True)
class Address:
    """`shown` is for people, and for psql; `options` go to `asyncpg.connect`."""

    shown: str
    options: Mapping[str, Any] = field(repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def of_url(cls, url: str) -> Address:
        """Return the address that a URL names; raises `AddressFaulty`, which does not repeat it."""
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, strict_parsing=bool(parts.query))
            _ = parts.port
        except ValueError:
            raise AddressFaulty from None
        if parts.scheme not in {"postgresql", "postgres"}:
            raise AddressFaulty
        user, at, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        kept = urlencode([pair for pair in query if pair[0] != "password"], safe="/")
        shown = urlunsplit(parts._replace(netloc=f"{name}{at}{host}", query=kept))
        options = {"dsn": url, "server_settings": _CONNECTION}
        return cls(shown, options, unquote(password) or dict(query).get("password", ""))

    @classmethod
    def of_socket(cls, directory: Path, port: int, *, role: str, database: str, password: str) -> Address:
        """Return the address of a server that listens in a directory of this host."""
        # Nothing is left to be taken from PGPORT and its like.
        options = {"host": str(directory), "port": port, "user": role, "database": database, "password": password}
        shown = f"postgresql://{role}@/{database}?host={quote(str(directory))}"
        return cls(shown, {**options, "server_settings": _CONNECTION}, password)


def resolve(url: str, redactor: Redactor) -> Address:
    """Return the address that `[database] url` means, which may be a reference to a secret; reads files."""
    if not url.startswith(_REFERENCES):
        return Address.of_url(url)
    from homelab_agent.core import secret

    return Address.of_url(secret.parse(url, redactor).get())
