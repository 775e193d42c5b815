"""Which keys of the configuration hold secrets, and who reads these for a command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from homelab_agent import config, places
from homelab_agent.config import secrecy
from homelab_agent.core import privilege, secret
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.settings import Section
from homelab_agent.secrets import service as secrets_service


def uses(settings: config.Settings) -> Mapping[str, Sequence[str]]:
    """Return for each reference the keys that it stands in, as `gitops.repository.blog.token`.

    A value that stands there itself is among them, too, but for an address that holds none.
    """
    found: dict[str, list[str]] = {}
    for key, text in _values(settings, ""):
        found.setdefault(text, []).append(key)
    return found


def outside(settings: config.Settings) -> Secrets:
    """Return what reads the secrets as the agent does, for who is not the agent: files as those of its user."""
    directory = places.state_directory(settings.agent)
    files = secret.Local(secret.files_of(privilege.owner(directory)))
    found = Secrets(Redactor(), origins={**secret.ORIGINS, "file": files}, uses=uses(settings))
    secrets_service.add_openbao(settings.secrets, found, directory)
    return found


def _values(section: Section, path: str) -> Iterator[tuple[str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("secret") and _holds_secret(path + name, value):
            yield path + name, value
        elif isinstance(value, Section):
            yield from _values(value, f"{path}{name}.")
        elif isinstance(value, list):
            for number, one in enumerate(value):
                if isinstance(one, Section):
                    yield from _values(one, f"{path}{name}.{getattr(one, 'name', number)}.")


def _holds_secret(key: str, text: str) -> bool:
    """Whether what stands in that key is a reference, a secret itself, or an address with a password."""
    if "://" in text:
        return urlsplit(text).password is not None
    return bool(text) and (secrecy.is_reference(text) or secrecy.is_secret((key.rpartition(".")[2],)))
