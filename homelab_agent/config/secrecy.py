"""Which values are not for every eye, and how they are shown."""

from __future__ import annotations

import re
from typing import Any

from homelab_agent.config.keys import KeyPath, toml

MASK = "********"
_SECRET = frozenset({"password", "passwords", "passphrase", "token", "tokens", "secret", "secrets"})
_REFERENCE = re.compile(r"(env|file|credential|openbao):")
_IN_URL = re.compile(r"(\w://[^:@/\s]*:)\S*(@)")
_IN_PAIRS = re.compile(r"(?i)((?:password|passwd|token|secret)=)[^&;,\s\"']+")


def is_secret(path: KeyPath) -> bool:
    """Return whether a key's name says that its value is a secret: its last word does, or `..._key`."""
    names = [step for step in path if isinstance(step, str)]
    words = names[-1].lower().split("_") if names else [""]
    return words[-1] in _SECRET or (words[-1] in {"key", "keys"} and len(words) > 1)


def is_reference(text: str) -> bool:
    """Return whether `text` says where a secret is, and is none itself."""
    return _REFERENCE.match(text) is not None


def sounds_secret(path: KeyPath) -> bool:
    """Return whether a key that does not exist may be a misspelt secret's."""
    import difflib

    last = str(path[-1]).lower().split("_")[-1]
    return is_secret(path) or bool(difflib.get_close_matches(last, _SECRET, cutoff=0.7))


def masked(path: KeyPath, value: Any) -> Any:
    """Return `value` as it may be shown: references as they are, secrets and passwords in URLs hidden."""
    match value:
        case str() if is_secret(path) and value and not is_reference(value):
            return MASK
        case str():
            return clean(value)
        case list() | tuple():
            return [masked(path, one) for one in value]
        case dict():
            return {name: masked((*path, name), one) for name, one in value.items()}
    return value


def clean(text: str) -> str:
    """Return `text` without the passwords of the URLs in it."""
    return _IN_PAIRS.sub(rf"\g<1>{MASK}", _IN_URL.sub(rf"\g<1>{MASK}\g<2>", text))


def shown(path: KeyPath, value: Any, *, longest: int = 60) -> str:
    """Return `value` as TOML for a fault's line, masked and cut; "" for a table."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value)):
        return ""
    text = toml(masked(path, value))
    return text if len(text) <= longest else text[: longest - 1] + "…"
