"""Which keys of the configuration hold secrets: as references, or the secret itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from homelab_agent.config import secrecy
from homelab_agent.core.settings import Section


def uses(settings: Section) -> Mapping[str, Sequence[str]]:
    """Return for each reference the keys that it stands in, as `gitops.repository.blog.token`.

    A secret that stands in the configuration itself is among them.
    """
    found: dict[str, list[str]] = {}
    for key, text in _values(settings, ""):
        found.setdefault(text, []).append(key)
    return found


def _values(section: Section, path: str) -> Iterator[tuple[str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("secret") and _is_secret(name, value):
            yield path + name, value
        elif isinstance(value, Section):
            yield from _values(value, f"{path}{name}.")
        elif isinstance(value, list):
            for number, one in enumerate(value):
                if isinstance(one, Section):
                    yield from _values(one, f"{path}{name}.{getattr(one, 'name', number)}.")


def _is_secret(name: str, text: str) -> bool:
    """Whether it is a reference, a secret itself, or an address with a password."""
    if "://" in text:
        return urlsplit(text).password is not None
    return bool(text) and (secrecy.is_reference(text) or secrecy.is_secret((name,)))
