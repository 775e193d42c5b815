"""All secrets that the configuration names, one for each reference, whoever asks for it."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret.errors import ReferenceFaulty
from homelab_agent.core.secret.group import Change, Group
from homelab_agent.core.secret.origin import Origin
from homelab_agent.core.secret.secret import Held, Secret
from homelab_agent.core.secret.sources import ORIGINS, Local

OVERLAP_SECONDS = 300.0
"""How long a value that was replaced is still accepted."""

_LITERAL = "literal"
_LITERAL_SHOWN = "a value in the configuration"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one secret stands: its reference, version ("" where there is none), when it was read, and by which keys.

    `read_at` is None while nobody has asked for it yet.
    """

    reference: str
    version: str
    read_at: datetime | None
    used_by: Sequence[str]


class Secrets:
    """Makes a `Secret` of each reference; its values are masked by `redactor` from the moment they are read."""

    def __init__(
        self,
        redactor: Redactor,
        clock: Clock | None = None,
        *,
        origins: Mapping[str, Origin] = ORIGINS,
        uses: Mapping[str, Sequence[str]] | None = None,
        overlap: float = OVERLAP_SECONDS,
    ) -> None:
        """Take `uses`, the keys of the configuration in which each reference stands; `overlap` is in seconds."""
        self.on_change: Callable[[Change], Awaitable[None]] = _tell_nobody
        self._redactor = redactor
        self._clock = clock or SystemClock()
        self._origins = dict(origins)
        self.uses: Mapping[str, Sequence[str]] = dict(uses or {})
        self._overlap = overlap
        self._held: dict[str, tuple[Held, Group]] = {}
        self._groups: dict[tuple[str, str], Group] = {}

    def add_origin(self, scheme: str, origin: Origin) -> None:
        """Have `origin` read the references of one more scheme."""
        self._origins[scheme] = origin

    def find(self, reference: str) -> Secret:
        """Return the secret of a reference, not read yet; a text that is none is the value itself.

        Raises `ReferenceFaulty`, which does not repeat what was given: it may be the secret itself.
        """
        found = self._held.get(reference)
        if found is None:
            found = self._held[reference] = self._new(reference)
        held, group = found
        return Secret(held, group.refresh, self._clock, is_literal=not self._scheme(reference))

    @property
    def variables(self) -> Sequence[str]:
        """Return the variables of our environment that hold secrets by the configuration."""
        return [text.removeprefix("env:") for text in self.uses if text.startswith("env:")]

    def hide(self, value: str) -> None:
        """Have a value masked that is part of a secret, or comes of one."""
        self._redactor.add(value)

    def standings(self) -> Sequence[Standing]:
        """Return how each secret stands, those too that the configuration names and nobody has asked for yet."""
        stands = {}
        for reference in {**self.uses, **self._held}:
            held, _ = self._held.get(reference, (None, None))
            shown = reference if self._scheme(reference) else _LITERAL_SHOWN
            version = held.reading.version if held is not None and held.reading is not None else ""
            read_at = held.read_at if held is not None else None
            stands[reference] = Standing(shown, version, read_at, self.uses.get(reference, ()))
        return list(stands.values())

    async def refresh(self, scheme: str) -> Mapping[str, AgentError]:
        """Read again what was asked for of one scheme; return what went wrong, by the references that it is about.

        Each group is read once, and what could not be read so far is tried by itself.
        """
        first: dict[object, tuple[Held, Group]] = {}
        for held, group in self._held.values():
            if self._scheme(held.reference) == scheme:
                first.setdefault(group if held.reading is not None else held.reference, (held, group))
        troubles: dict[str, AgentError] = {}

        async def one(held: Held, group: Group) -> None:
            try:
                await group.refresh(held)
            except AgentError as error:
                together = [each.reference for each in group.members if each.reading is not None]
                troubles.update(dict.fromkeys(together if held.reading is not None else [held.reference], error))

        await asyncio.gather(*(one(held, group) for held, group in first.values()))
        return troubles

    async def _tell(self, change: Change) -> None:
        await self.on_change(change)

    def _scheme(self, reference: str) -> str:
        """Return the reference's scheme, "" if it is none."""
        scheme, colon, name = reference.partition(":")
        return scheme if colon and name and scheme in self._origins else ""

    def _new(self, reference: str) -> tuple[Held, Group]:
        scheme = self._scheme(reference)
        if scheme:
            name, origin, shown = reference.removeprefix(f"{scheme}:"), self._origins[scheme], reference
        elif not reference or self._is_meant_as_reference(reference):
            raise ReferenceFaulty(schemes=", ".join(f"{each}:" for each in self._origins))
        else:
            self._redactor.add(reference)
            name, origin, shown = reference, Local(lambda name: name), _LITERAL_SHOWN
        held = Held(shown, name, origin.group(name), origin, self._redactor)
        key = (scheme or _LITERAL, held.group)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(self._clock, overlap=self._overlap, tell=self._tell)
        group.members.append(held)
        return held, group

    def _is_meant_as_reference(self, text: str) -> bool:
        """Whether it looks like a reference, so that it is not sent anywhere as a value."""
        scheme, colon, _ = text.partition(":")
        return bool(colon) and bool(difflib.get_close_matches(scheme.lower(), (*self._origins, "openbao"), cutoff=0.7))


async def _tell_nobody(_: Change) -> None:
    """Nobody wants to hear of a change."""
