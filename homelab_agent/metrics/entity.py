"""What a row is about: the whole host, one core, one disk; known by a number that needs no table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing that is measured.

    `key` tells it from others of its family, and stays where the kernel's names do not (a disk's WWN); of what may be
    there twice the name or the place is part of it (an interface's MAC and name, a filesystem's UUID and mount point).
    `label` is what a person reads. The id is made of both: what changes either goes on as another entity.
    """

    id: int
    family: str
    key: str
    label: str


def identify(host: str, family: str, key: str, label: str) -> int:
    """Return an entity's id: the first 63 bits of BLAKE2b over its four names.

    The same everywhere, so that rows can be replayed, moved and shared between hosts without a look-up; two
    of a million entities meet with a chance of about 1 in 18 million.
    """
    text = f"{host}\0{family}\0{key}\0{label}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def legible(name: str) -> str:
    r"""Return a name as text that PostgreSQL and Prometheus take.

    Linux lets a mount or an interface be called by any bytes; those that are no UTF-8 become `\xe9` and the like.
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


KNOWN_MAX = 5000
"""Containers and units come and go under names that are made up: of so many it is remembered what was made of them."""


class Entities:
    """The entities of one host; who asks often for the same is given the same, as long as there are not many."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._known: dict[tuple[str, str, str], Entity] = {}

    def get(self, family: str, key: str, label: str = "") -> Entity:
        """Return the entity of that name, made legible; without a label it is called like its key."""
        names = (family, key, label or key)
        entity = self._known.get(names)
        if entity is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            shown = (family, legible(key), legible(label or key))
            entity = self._known[names] = Entity(identify(self._host, *shown), *shown)
        return entity
