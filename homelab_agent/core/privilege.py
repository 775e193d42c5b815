"""What needs more than the agent may: verbs, which the root half does for it.

The process that parses the internet's bytes has no capability and reaches no Docker. What needs root, or another
user, is a closed set of verbs on names that the configuration knows. A capability's verbs are in its `verbs.py`, which
only the root half loads; the capability calls them through `Foundation.privileged`, an implementation of `Privileged`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from homelab_agent.core.arguments import Argument
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.process_output import OnLine

Answer: TypeAlias = Mapping[str, Any]
"""What a verb answers: a JSON object."""

DESCRIPTORS_MAX = 8
GRACE_SECONDS = 30.0
"""How long the half is waited for to end what nobody wants any more: longer than its verbs give their children."""

UNIT_SOCKET = Path("/run/homelab-agent/privileged.sock")
"""Made by homelab-agent-privileged.socket, for the agent's user alone."""


class VerbRefused(AgentError):
    """The root half does not do that: {reason}.

    Nothing was done; a verb that raises it has done nothing yet.
    """

    repair = "give both halves the same version and configuration, then: systemctl restart homelab-agent"
    exit_code = Exit.USAGE


class PrivilegedUnavailable(AgentError):
    """The root half is not available.

    Nothing was done: it cannot be reached, or ended before it began, or may not trust its configuration.
    """

    repair = "{repair}"
    exit_code = Exit.UNREACHABLE

    def __init__(self, *, cause: str | BaseException, repair: str = "homelab-agent doctor") -> None:
        super().__init__(cause=cause, repair=repair)


class VerbFailed(AgentError):
    """{message}

    It was begun, and is over or was ended; the words are those of the error there.
    """  # noqa: D400, D415 - the message is the root half's own

    def __init__(self, *, message: str, cause: str = "", repair: str = "", code: int = Exit.FAILED) -> None:
        super().__init__(message=message, cause=cause)
        self.repair = repair
        self.exit_code = Exit(code) if code in set(Exit) else Exit.FAILED


class VerbCutShort(VerbFailed):
    """{message}

    It was begun, and the root half was ended while it did it, or died: how far it came is not known.
    """  # noqa: D400, D415 - as above


AWAY = (PrivilegedUnavailable, VerbCutShort)
"""Raised where the root half is not there, or is no longer: who asks again when it is there may have better luck."""


class NoSuchUser(AgentError):
    """There is no user {name} on this host."""

    repair = "correct run_as in the configuration"


class NotThatUser(AgentError):
    """The agent may do nothing as the user {name}."""

    repair = "run the agent as {name}, or as a service with its root half"


class Call(Protocol):
    """One call, as a verb sees it.

    The verb is cancelled once when who called goes away, unless it `hold`s; what it then does in `finally` is awaited.
    """

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments, checked."""

    @property
    def descriptors(self) -> Sequence[int]:
        """Descriptors that came with the call, at most `DESCRIPTORS_MAX`; they are closed when it ends."""

    @property
    def say(self) -> OnLine:
        """Sends a line of output to who called; neither blocks nor raises."""

    async def hold(self, answer: Answer) -> None:
        """Give a first answer, and return when who called lets go, dies, or the half is to stop.

        What was done is undone after it, in a `finally`: a lease. It is not cancelled from then on.
        """


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that the root half does. Arguments that are `optional` may be left out."""

    name: str
    run: Callable[[Call], Awaitable[Answer]]
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    def check(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments; raises `VerbRefused` for one too many, one that is missing, one that is not as said."""
        for name in given.keys() - self.arguments.keys():
            raise VerbRefused(reason=f"{self.name} has no argument {name[:40]!r}")
        for name in self.arguments.keys() - self.optional - given.keys():
            raise VerbRefused(reason=f"{self.name} needs {name}")
        checked = {}
        for name, value in given.items():
            try:
                checked[name] = self.arguments[name].check(value)
            except ValueError as error:
                raise VerbRefused(reason=f"{name} of {self.name} must be {error}") from None
        return checked


class Privileged(Protocol):
    """The root half, as a capability asks it.

    Both raise `VerbRefused` or `PrivilegedUnavailable` when nothing was done, and `VerbFailed` with what the root half
    said when it had begun, which is a `VerbCutShort` where it ended before the verb did.
    """

    async def answers(self) -> bool:
        """Return whether it is there to be asked; for who waits until it is. It is started for that where it can be."""

    async def call(
        self,
        verb: str,
        *,
        deadline: float,
        descriptors: Sequence[int] = (),
        on_line: OnLine | None = None,
        **names: object,
    ) -> Answer:
        """Return what a verb answers within `deadline` seconds; it is ended when it takes longer, or we are cancelled.

        That it has ended is then waited for, if not for long. `descriptors` are given to it as copies; `on_line` gets
        each line of its output as it comes.
        """

    def lease(
        self,
        verb: str,
        *,
        deadline: float,
        descriptors: Sequence[int] = (),
        on_line: OnLine | None = None,
        **names: object,
    ) -> AbstractAsyncContextManager[Answer]:
        """Hold what a verb did for as long as the context lasts: the root half undoes it then, or when we die.

        Gives its first answer, which may take `deadline` seconds, as may undoing it. When the root half does not hold
        it any more, what is in the context is cancelled, and the context raises why.
        """


class Unprivileged:
    """No root half at all."""

    async def answers(self) -> bool:
        """Return False."""
        return False

    async def call(
        self,
        verb: str,
        *,
        deadline: float,  # noqa: ARG002 - the protocol's
        descriptors: Sequence[int] = (),  # noqa: ARG002
        on_line: OnLine | None = None,  # noqa: ARG002
        **names: object,  # noqa: ARG002
    ) -> Answer:
        """Raise `PrivilegedUnavailable`."""
        raise PrivilegedUnavailable(cause=f"there is none here for {verb}")

    def lease(
        self,
        verb: str,
        *,
        deadline: float,  # noqa: ARG002
        descriptors: Sequence[int] = (),  # noqa: ARG002
        on_line: OnLine | None = None,  # noqa: ARG002
        **names: object,  # noqa: ARG002
    ) -> AbstractAsyncContextManager[Answer]:
        """Raise `PrivilegedUnavailable`."""
        raise PrivilegedUnavailable(cause=f"there is none here for {verb}")


@dataclass(frozen=True, slots=True)
class User:
    """A user of this host whom a verb may act as, with all the groups that it is in."""

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...]

    @property
    def switch(self) -> tuple[int, int] | None:
        """What a child must be started as (`process.Given.user`, with `groups`); None when it is who we are."""
        return None if self.uid == os.geteuid() else (self.uid, self.gid)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell a child who it is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def user(who: str | int) -> User:
    """Return the user of that name or number whom we may act as; blocking.

    Raises `NoSuchUser`, and `NotThatUser` where we are neither root nor that user.
    """
    found = look_up(who)
    if os.geteuid() not in {0, found.uid}:
        raise NotThatUser(name=found.name)
    return found


def look_up(who: str | int) -> User:
    """Return the user of that name or number, whom we may be unable to act as; blocking. Raises `NoSuchUser`."""
    try:
        entry = pwd.getpwnam(who) if isinstance(who, str) else pwd.getpwuid(who)
    except KeyError:
        raise NoSuchUser(name=who) from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, groups)


def owner(directory: Path) -> int:
    """Return the number of whose a directory is, our own where there is none; blocking.

    Whose the state directory is, as that the agent runs.
    """
    try:
        return directory.stat().st_uid
    except OSError:
        return os.geteuid()
