"""A working copy as the root half works in it: held open, and worked in by who owns what is open.

Whoever owns a directory above it can put another in its place at any moment. So it is opened once; that directory's
owner is who git and actions run as, and they enter it by its descriptor, never by its name.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core import privilege, process
from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import User
from homelab_agent.gitops import way
from homelab_agent.gitops.settings import Repository

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class NoWorkingCopy(AgentError):
    """There is no directory {directory} that can be entered."""

    repair = "git clone the repository to {directory}, or correct `directory` of [[gitops.repository]]"


class LeadsOutside(AgentError):
    """The directory {directory} does not lie in the working copy."""

    repair = "correct `directory` of [[gitops.repository.action]]"


@dataclass(frozen=True, slots=True)
class Owned:
    """A working copy: `descriptor` is open, `path` is where it really is, and `user` is who works in it."""

    descriptor: int
    path: Path
    user: User

    def given(self, environment: Mapping[str, str]) -> process.Given:
        """Return what makes a child its user's, at its top."""
        return child_of(self.user, self.descriptor, environment)

    @asynccontextmanager
    async def inside(self, directory: str) -> AsyncIterator[int]:
        """Open one of its directories, "" for its top.

        Raises `NoWorkingCopy` where there is none, and `LeadsOutside` where a symbolic link leads out of it.
        """
        descriptor = await asyncio.to_thread(self._enter, directory)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _enter(self, directory: str) -> int:
        wanted = self.path / directory
        try:
            descriptor = os.open(directory or ".", _DIRECTORY, dir_fd=self.descriptor)
        except OSError as error:
            raise NoWorkingCopy(directory=wanted, cause=error) from error
        if _where(descriptor).is_relative_to(_where(self.descriptor)):
            return descriptor
        os.close(descriptor)
        raise LeadsOutside(directory=wanted)


@asynccontextmanager
async def opened(repository: Repository) -> AsyncIterator[Owned]:
    """Open a repository's working copy.

    Raises `NoWorkingCopy`, `privilege.NoSuchUser` or `privilege.NotThatUser` where its user is not to be had, and
    `way.NotItsOwners` where others may decide which directory it is.
    """
    copy = await asyncio.to_thread(_open, repository)
    try:
        yield copy
    finally:
        os.close(copy.descriptor)


def child_of(user: User, directory: int, environment: Mapping[str, str]) -> process.Given:
    """Return what makes a child that user's, in a directory that is open here."""
    return {
        "user": user.switch,
        "groups": user.groups,
        "env": {**user.environment, **environment},
        "cwd": Path(f"/proc/self/fd/{directory}"),
    }


def typed(commands: Sequence[str], directory: Path, user: str) -> str:
    """Return what a person types to run shell commands in a directory, as a user; "" where they are that one already.

    A command that begins with sudo says itself whom it runs as.
    """
    if not commands:
        return ""
    script = "; ".join([f"cd {shlex.quote(str(directory))}", *commands])
    if not user or any(command.startswith("sudo ") for command in commands):
        return script
    return f"sudo -u {shlex.quote(user)} sh -c {shlex.quote(script)}"


def _open(repository: Repository) -> Owned:
    try:
        descriptor = os.open(repository.directory, _DIRECTORY)
    except OSError as error:
        raise NoWorkingCopy(directory=repository.directory, cause=error) from error
    try:
        user = privilege.user(repository.run_as or os.fstat(descriptor).st_uid)
        if os.geteuid() == 0 and not repository.run_as:  # who is nobody else can become nobody else
            way.check(repository.directory, descriptor, user)
    except OSError as error:
        os.close(descriptor)
        raise NoWorkingCopy(directory=repository.directory, cause=error) from error
    except AgentError:
        os.close(descriptor)
        raise
    return Owned(descriptor, _where(descriptor), user)


def _where(descriptor: int) -> Path:
    """Return where the kernel knows an open directory to be, whatever led there (proc(5), /proc/PID/fd)."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()
