"""Secrets are references, resolved late, held in memory, and never shown.

`env:NAME` is a variable, `file:PATH` a file that only its owner can read, `credential:NAME` one of systemd's
credentials. Other schemes are added by whoever calls: a mapping of names to sources.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TypeAlias

from homelab_agent.core import systemd
from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.journal.redaction import Redactor

Source: TypeAlias = Callable[[str], str]
"""Reads what a reference names after its scheme; may block, runs in a thread of its own, raises AgentError."""
Step: TypeAlias = Callable[[str], Awaitable[None]]
"""A trial, which raises when the new value does not work, or an adoption of it."""

BYTES_MAX = 64 * 1024
OVERLAP_SECONDS = 300.0
"""How long a value that was replaced is still accepted, unless the caller knows better."""


class ReferenceFaulty(AgentError):
    """A secret is given as a reference, not as its value: one of {schemes}."""

    repair = "write the value into a file, chmod 600, and set the key to file:PATH"


class SecretMissing(AgentError):
    """The secret {reference} is not there."""

    repair = "{repair}"


class SecretUnreadable(AgentError):
    """The secret {reference} cannot be read."""

    repair = "{repair}"


class SecretExposed(AgentError):
    """The file of the secret {reference} can be read or written by others than its owner."""

    repair = "chmod 600 {path}"


class SecretOfAnother(AgentError):
    """The file of the secret {reference} belongs to another user (uid {owner})."""

    repair = "chown {user} {path}"


class SecretRefused(AgentError):
    """The new value of the secret {reference} does not work; the old one stays."""


class AdoptionIncomplete(AgentError):
    """The new value of the secret {reference} works, but not everything took it over."""

    repair = "systemctl restart homelab-agent"


@dataclass(frozen=True, slots=True)
class _Former:
    value: str
    until: float


class Secret:
    """One secret; made by `parse`. Printed, formatted or logged it shows its reference, never its value."""

    __slots__ = (
        "_clock",
        "_former",
        "_overlap",
        "_read",
        "_redactor",
        "_reference",
        "_rotating",
        "_users",
        "_value",
    )

    def __init__(
        self, reference: str, read: Callable[[], str], redactor: Redactor, *, overlap: float, clock: Clock
    ) -> None:
        self._reference = reference
        self._read = read
        self._redactor = redactor
        self._overlap = overlap
        self._clock = clock
        self._value: str | None = None
        self._former: _Former | None = None
        self._users: list[tuple[Step, Step]] = []
        self._rotating = asyncio.Lock()

    @property
    def reference(self) -> str:
        """Where the value comes from."""
        return self._reference

    def get(self) -> str:
        """Return the value.

        The first call reads it and may block: on the event loop, `await refresh()` first. Raises `SecretMissing`,
        `SecretUnreadable`, `SecretExposed` or `SecretOfAnother`.
        """
        if self._value is None:
            self._value = self._fresh()
        return self._value

    def accepted(self) -> tuple[str, ...]:
        """Return every value that is to be accepted from others: the present one, and for a while its forerunner."""
        former = self._former
        overlapping = former is not None and self._clock.read().monotonic < former.until
        return (self.get(), former.value) if former is not None and overlapping else (self.get(),)

    def on_change(self, trial: Step, adopt: Step) -> Callable[[], None]:
        """Take part in each change: first all trials must pass, then all adopt. Returns what ends it."""
        user = (trial, adopt)
        self._users.append(user)
        return lambda: self._users.remove(user)

    async def refresh(self) -> bool:
        """Read the value again and change over if it is another; return whether it was.

        Raises what `get` raises, `SecretRefused` when a trial fails (the old value stays), and `AdoptionIncomplete`
        when one adoption fails (the others are done, the new value holds).
        """
        async with self._rotating:
            new = await _in_a_thread(self._fresh)
            if new == self._value:
                return False
            if self._value is not None:
                await self._try(new)
                self._former = _Former(self._value, self._clock.read().monotonic + self._overlap)
            self._value = new
            await self._adopt(new)
            return True

    def _fresh(self) -> str:
        value = self._read()
        self._redactor.add(value)
        return value

    async def _try(self, new: str) -> None:
        for trial, _ in tuple(self._users):
            try:
                await trial(new)
            except Exception as error:
                raise SecretRefused(reference=self._reference, cause=self._masked(error)) from error

    async def _adopt(self, new: str) -> None:
        failed = []
        for _, adopt in tuple(self._users):
            try:
                await adopt(new)
            except Exception as error:  # noqa: BLE001 - one that fails must not keep the next from adopting
                failed.append(self._masked(error))
        if failed:
            raise AdoptionIncomplete(reference=self._reference, cause="; ".join(failed))

    def _masked(self, error: Exception) -> str:
        return self._redactor.mask(describe(error))

    def __repr__(self) -> str:
        return f"Secret({self._reference})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> NoReturn:
        message = "a secret is neither copied nor stored"
        raise TypeError(message)


def parse(
    reference: str,
    redactor: Redactor,
    sources: Mapping[str, Source] | None = None,
    *,
    overlap: float = OVERLAP_SECONDS,
    clock: Clock | None = None,
) -> Secret:
    """Return the secret that `reference` names, not read yet; its values will be masked by `redactor`.

    `sources` are all schemes that are understood (`SOURCES` and more), `overlap` is in seconds. Raises
    `ReferenceFaulty`, which does not repeat what was given: it may be the secret itself.
    """
    known = SOURCES if sources is None else sources
    scheme, _, name = reference.partition(":")
    if scheme not in known or not name:
        raise ReferenceFaulty(schemes=", ".join(f"{each}:" for each in known))
    source = known[scheme]
    return Secret(reference, lambda: source(name), redactor, overlap=overlap, clock=clock or SystemClock())


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SecretMissing(reference=f"env:{name}", repair=f"set {name} in the agent's environment")
    return value


def files_of(reader: int) -> Source:
    """Return the source of files that the user of that number is to read, for who is root and asks on its behalf.

    Whether the directories above let that user through is not asked.
    """
    return lambda name: _from_file(name, reader)


def _from_file(name: str, reader: int | None = None) -> str:
    reference, path = f"file:{name}", Path(name)
    status, data = _read(path, reference, repair=f"write the value into {path}, chmod 600 {path}")
    ourselves = os.geteuid()
    user = ourselves if reader is None else reader
    if status.st_uid not in ({0, user} if user == ourselves else {user}):  # what only root can read, nobody else can
        raise SecretOfAnother(reference=reference, owner=status.st_uid, user=user, path=path)
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise SecretExposed(reference=reference, path=path)
    return _value(data, reference, repair=f"write the value into {path}")


def _from_credentials(name: str) -> str:
    reference = f"credential:{name}"
    repair = f"LoadCredential={name}:PATH in the agent's unit (systemctl edit homelab-agent)"
    directory = systemd.credentials_directory()
    if directory is None or "/" in name or name in {".", ".."}:
        raise SecretMissing(reference=reference, repair=repair, cause="" if directory else "no credentials were given")
    _, data = _read(directory / name, reference, repair=repair)
    return _value(data, reference, repair=repair)


SOURCES: Mapping[str, Source] = MappingProxyType(
    {"env": _from_environment, "file": _from_file, "credential": _from_credentials}
)
"""The schemes that need nothing but the host."""


def _read(path: Path, reference: str, *, repair: str) -> tuple[os.stat_result, bytes]:
    """Return the status and the content of one and the same regular file, however its name is moved meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise SecretMissing(reference=reference, cause=error, repair=repair) from error
    except OSError as error:
        raise SecretUnreadable(
            reference=reference, cause=error, repair=f"chown {os.geteuid()} {path}; chmod 600 {path}"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretUnreadable(reference=reference, cause="it is not a regular file", repair=repair)
        return status, os.read(descriptor, BYTES_MAX + 1)
    except OSError as error:
        raise SecretUnreadable(reference=reference, cause=error, repair=f"cat {path} > /dev/null") from error
    finally:
        os.close(descriptor)


def _value(data: bytes, reference: str, *, repair: str) -> str:
    if len(data) > BYTES_MAX:
        raise SecretUnreadable(reference=reference, cause=f"it is longer than {BYTES_MAX} bytes", repair=repair)
    try:
        value = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnreadable(reference=reference, cause="it is not text in UTF-8", repair=repair) from None
    if not value:
        raise SecretMissing(reference=reference, cause="it is empty", repair=repair)
    return value


async def _in_a_thread(read: Callable[[], str]) -> str:
    """Run `read` beside the loop, in a thread that a file on a dead share may hold for ever without harm."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def settle(value: str, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)

    def work() -> None:
        try:
            value, error = read(), None
        except BaseException as caught:  # noqa: BLE001 - it is raised where it is awaited
            value, error = "", caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name="secret", daemon=True).start()
    return await answer
