"""What follows `openbao:` in a reference: `secret/homelab/postgres#password`, or with `@3` one version of it."""

from __future__ import annotations

from dataclasses import dataclass

from homelab_agent.core.errors import AgentError, Exit

SCHEME = "openbao"


class ReferenceFaulty(AgentError):
    """A reference to OpenBao is openbao:MOUNT/PATH#KEY, or with a version openbao:MOUNT/PATH#KEY@3; {fault}.

    What was given is not repeated: it may be the secret itself.
    """

    repair = "openbao:secret/homelab/postgres#password"
    exit_code = Exit.CONFIGURATION


@dataclass(frozen=True, slots=True)
class Reference:
    """One key of one secret; `version` is None for whichever is the current one.

    `path` begins with the mount. Where the mount ends, only the server knows: one may have several elements, as
    `team/a`.
    """

    path: str
    key: str
    version: int | None = None

    def __str__(self) -> str:
        return f"{self.path}#{self.key}" if self.version is None else f"{self.path}#{self.key}@{self.version}"


def parse(name: str) -> Reference:
    """Return what `name` refers to; raises `ReferenceFaulty`."""
    path, hash_, rest = name.partition("#")
    key, at, number = rest.partition("@")
    if not hash_ or not key:
        raise ReferenceFaulty(fault="here no #KEY follows the path")
    if "#" in rest:
        raise ReferenceFaulty(fault="here are two #")
    if not name.isprintable() or name != name.strip():
        raise ReferenceFaulty(fault="here is a character that cannot be seen")
    elements = path.split("/")
    if len(elements) < 2 or not {"", ".", ".."}.isdisjoint(elements):
        raise ReferenceFaulty(fault="here the path is not two names or more with a / between them")
    if at and not (number.isascii() and number.isdigit() and number[0] != "0" and len(number) <= 9):
        raise ReferenceFaulty(fault="here the version is not a number from 1 up")
    return Reference(path, key, int(number) if at else None)


def fault(text: str) -> str:
    """Return what is wrong with a reference, its scheme included; "" if nothing."""
    try:
        parse(text.removeprefix(f"{SCHEME}:"))
    except ReferenceFaulty as error:
        return str(error)
    return ""
