"""One secret: resolved late, held in memory, never shown, and changed over by all that use it or by none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn, TypeAlias

from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret.errors import SecretStale
from homelab_agent.core.secret.origin import Origin, Reading

Step: TypeAlias = Callable[[str], Awaitable[None]]
"""A trial, which raises when the new value does not work, or an adoption of it."""


@dataclass(frozen=True, slots=True)
class _Former:
    value: str
    until: float


@dataclass(slots=True)
class Held:
    """What is known of one reference, and who uses it: for `group.Group`; others see a `Secret`.

    `read_at` is when the value was last read, or known to be the newest, on the wall clock; `proposed` is what is on
    trial, while the trials of its group last; `adopted` says whether everything that uses the value has taken it over.
    """

    reference: str
    name: str
    group: str
    origin: Origin
    redactor: Redactor
    reading: Reading | None = None
    read_at: datetime | None = None
    proposed: str | None = None
    adopted: bool = False
    former: _Former | None = None
    users: list[tuple[Step, Step]] = field(default_factory=list)

    def is_other(self, new: Reading) -> bool:
        """Return whether there is a value already, and another one than `new`."""
        return self.reading is not None and self.reading.value != new.value

    def take(self, new: Reading, at: datetime, *, accept_old_until: float) -> None:
        """Hold `new` from now on, and accept a value that it replaces until that moment (monotonic seconds)."""
        if self.reading is not None and self.is_other(new):
            self.former = _Former(self.reading.value, accept_old_until)
        self.reading, self.read_at = new, at

    async def try_out(self, new: str) -> str:
        """Ask every user whether `new` works; return what the first said that it does not work for, else ""."""
        for trial, _ in tuple(self.users):
            try:
                await trial(new)
            except Exception as error:  # noqa: BLE001 - whatever it is, the value does not work
                return self._said(error)
        return ""

    async def adopt(self, new: str) -> list[str]:
        """Have every user take over `new`; return what those said that could not."""
        failed: list[str] = []
        for _, adopt in tuple(self.users):
            try:
                await adopt(new)
            except Exception as error:  # noqa: BLE001 - one that fails must not keep the next from adopting
                failed.append(self._said(error))
        self.adopted = not failed
        return failed

    def _said(self, error: Exception) -> str:
        return self.redactor.mask(describe(error))


class Secret:
    """One secret, of `Secrets.find`. Printed, formatted or logged it shows its reference, never its value."""

    __slots__ = ("_clock", "_held", "_refresh", "is_literal")

    def __init__(
        self, held: Held, refresh: Callable[[Held], Awaitable[bool]], clock: Clock, *, is_literal: bool
    ) -> None:
        """`is_literal` says that the value stands in the configuration itself."""
        self.is_literal = is_literal
        self._held = held
        self._refresh = refresh
        self._clock = clock

    @property
    def reference(self) -> str:
        """Where the value comes from."""
        return self._held.reference

    def get(self) -> str:
        """Return the value.

        The first call reads it and may block: on the event loop, `await refresh()` first. Raises what its origin
        raises, `SecretMissing` or `SecretUnreadable` among others, and `SecretStale`.
        """
        held = self._held
        value = self.reread() if held.reading is None else held.reading.value
        until = held.origin.good_until(held.group)
        if until is not None and self._clock.read().monotonic > until:
            raise SecretStale(reference=held.reference)
        return value

    async def latest(self) -> str:
        """Return the newest value that can be had: read again, else what is held, for as long as it may be used.

        Raises what reading it raised where there is none.
        """
        try:
            await self.refresh()
        except AgentError:
            if self._held.reading is None:
                raise
        return self.get()

    def proposed(self) -> str:
        """Return the value for a trial: what is on trial with all others of its group, else the present one."""
        return self._held.proposed or self.get()

    def reread(self) -> str:
        """Read the value again and return it; for a thread, and for the only one that uses it: nobody is asked."""
        now = self._clock.read()
        (reading,) = self._held.origin.read([self._held.name], now.monotonic)
        self._held.redactor.add(reading.value)
        self._held.take(reading, now.wall, accept_old_until=now.monotonic)
        self._held.adopted = True
        return reading.value

    def accepted(self) -> tuple[str, ...]:
        """Return every value that is to be accepted from others: the present one, and for a while its forerunner."""
        former = self._held.former
        overlapping = former is not None and self._clock.read().monotonic < former.until
        return (self.get(), former.value) if former is not None and overlapping else (self.get(),)

    def on_change(self, trial: Step, adopt: Step) -> Callable[[], None]:
        """Take part in each change: first all trials must pass, then all adopt. Returns what ends it."""
        user = (trial, adopt)
        self._held.users.append(user)
        return lambda: self._held.users.remove(user)

    async def refresh(self) -> bool:
        """Read the value again and change over if it is another; return whether it was.

        Those of its group that were read before are read and changed over with it. Raises what `get` raises,
        `SecretRefused` when a trial fails (all old values stay), and `AdoptionIncomplete` when one adoption fails
        (the others are done, the new values hold).
        """
        return await self._refresh(self._held)

    def __repr__(self) -> str:
        return f"Secret({self.reference})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> NoReturn:
        message = "a secret is neither copied nor stored"
        raise TypeError(message)
