"""Whom the embedded server runs as: PostgreSQL refuses to run as root, so root gives it a user of its own."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError

NAME = "homelab-postgres"


class NoServerAccount(AgentError):
    """PostgreSQL does not run as root, and the system user {name} for it could not be made."""

    repair = "make a system user {name} that cannot log in, or run the agent as an ordinary user, or set [database] url"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this system."""

    name: str
    uid: int
    gid: int

    @property
    def switch(self) -> tuple[int, int] | None:
        """What a child must be started as; None when it is who we are."""
        return None if self.uid == os.geteuid() else (self.uid, self.gid)

    def own(self, path: Path) -> None:
        """Give one file or directory to this user; never follows a symbolic link. What we have made is ours already.

        To ask for that all the same is refused in the service's sandbox, which knows no chown(2).
        """
        if self.switch is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def may_pass(self, directory: Path) -> bool:
        """Return whether the mode of `directory` lets this user through."""
        found = directory.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & 0o100)
        return bool(found.st_mode & (0o010 if found.st_gid == self.gid else 0o001))


def ourselves() -> Account:
    """Return the user that this process runs as."""
    return Account("", os.geteuid(), os.getegid())


def find() -> Account | None:
    """Return whom the server runs as: ourselves, or for root the user made for it; None when there is none yet."""
    if os.geteuid() != 0:
        return ourselves()
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


async def make() -> None:
    """Make the server's own system user: no log-in, no home, no password.

    Raises `NoServerAccount` where `useradd` is missing or refuses.
    """
    words = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
    argv = ["useradd", *words, "--shell", "/usr/sbin/nologin", NAME]
    try:
        done = await process.run(argv, deadline=30, output_max=4096)
    except process.ProgramMissing as error:
        raise NoServerAccount(name=NAME, cause=error) from error
    if done.code != 0:
        raise NoServerAccount(name=NAME, cause=done.stderr.decode(errors="replace").strip())
