"""Where PostgreSQL is and how to get in; what is shown of it holds no password."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.secret import Secret, Secrets
from homelab_agent.database.settings import DatabaseSettings

_REFERENCES = ("env:", "file:", "credential:", "openbao:")
_CONNECTION = {
    "search_path": "homelab, public",
    "timezone": "UTC",
    "application_name": "homelab-agent",
    # A host that is lost says no farewell: within half a minute the server ends its sessions, and what they hold.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


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
    def of_url(cls, url: str, password: str = "") -> Address:
        """Return the address that a URL names, with a password that it need not hold itself.

        Raises `AddressFaulty`, which does not repeat it.
        """
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, strict_parsing=bool(parts.query))
            _ = parts.port
        except ValueError:
            raise AddressFaulty from None
        if parts.scheme not in {"postgresql", "postgres"}:
            raise AddressFaulty
        user, at, host = parts.netloc.rpartition("@")
        name, _, own = user.partition(":")
        password = password or unquote(own) or dict(query).get("password", "")
        kept = urlencode([pair for pair in query if pair[0] != "password"], safe="/")
        shown = urlunsplit(parts._replace(netloc=f"{name}{at}{host}", query=kept))
        options: dict[str, Any] = {"dsn": url, "server_settings": _CONNECTION}
        return cls(shown, {**options, "password": password} if password else options, password)

    @classmethod
    def of_socket(cls, directory: Path, port: int, *, role: str, database: str, password: str) -> Address:
        """Return the address of a server that listens in a directory of this host."""
        # Nothing is left to be taken from PGPORT and its like.
        options = {"host": str(directory), "port": port, "user": role, "database": database, "password": password}
        shown = f"postgresql://{role}@/{database}?host={quote(str(directory))}"
        return cls(shown, {**options, "server_settings": _CONNECTION}, password)


class Elsewhere:
    """PostgreSQL that is not of our own: where it is and how to get in, as the configuration and its secrets say."""

    def __init__(self, settings: DatabaseSettings, secrets: Secrets) -> None:
        """Find the secrets, and read none yet; raises `ReferenceFaulty`."""
        self._settings = settings
        self._secrets = {
            text: secrets.find(text)
            for text in (settings.url, settings.password)
            if text and (text == settings.password or text.startswith(_REFERENCES))
        }

    @property
    def secrets(self) -> Sequence[Secret]:
        """Return the secrets that the address is made of."""
        return list(self._secrets.values())

    def address(self) -> Address:
        """Return the address; may block, raises what `Secret.get` raises, and `AddressFaulty`."""
        return self._made_of({text: each.get() for text, each in self._secrets.items()})

    def proposed(self) -> Address:
        """Return the address that is on trial while a secret's new value is."""
        return self._made_of({text: each.proposed() for text, each in self._secrets.items()})

    def _made_of(self, values: Mapping[str, str]) -> Address:
        url, password = self._settings.url, self._settings.password
        return Address.of_url(values.get(url, url), values.get(password, ""))
