"""How git gets in at a private remote, with what neither its owner's other programs nor `ps` may see.

The half reads keys, host keys and the token, which the working copy's owner may be unable to, and hands git descriptors
of copies in memory. git's children inherit them, so GIT_ASKPASS reads the token under the number it is told. ssh closes
what it inherits; it opens what its parent has, git, as the same user may (proc(5)).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core import process
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.privilege import User, VerbRefused
from homelab_agent.gitops.settings import Repository

ASKPASS = Path(__file__).with_name("askpass.sh")
TOKEN_MAX = 4096
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_DESCRIPTOR = re.compile(r"/(?:proc/(?:\d+|self)|dev)/fd/(\d+)")


class Unreadable(AgentError):
    """The file {path} cannot be read."""

    repair = "correct `{key}` of [[gitops.repository]]"


@dataclass(frozen=True, slots=True)
class Access:
    """What git is given: variables and descriptors. `signers` is the file of allowed signers, "" where any may."""

    environment: Mapping[str, str]
    descriptors: tuple[int, ...]
    signers: str
    names: Mapping[int, str]
    redactor: Redactor

    def words(self, said: str) -> str:
        """Return what git said as anybody may read it: the token masked, a file by its name."""
        return _DESCRIPTOR.sub(lambda found: self.names.get(int(found[1]), found[0]), self.redactor.mask(said))


@asynccontextmanager
async def granted(repository: Repository, user: User, given: Sequence[int]) -> AsyncIterator[Access]:
    """Make ready what a repository's settings name, and the token in the first descriptor that was given, for a user.

    Raises `Unreadable`, and `VerbRefused` for a token that is none.
    """
    with ExitStack() as stack:
        yield await asyncio.to_thread(_Grant(stack, user).make, repository, given)


class _Grant:
    """Collects descriptors, which the stack closes."""

    def __init__(self, stack: ExitStack, user: User) -> None:
        self._stack = stack
        self._user = user
        self._names: dict[int, str] = {}
        self._descriptors: list[int] = []

    def make(self, repository: Repository, given: Sequence[int]) -> Access:
        """Read it all; blocking."""
        redactor = Redactor()
        environment = {"GIT_ASKPASS": ""}  # nor what the working copy's settings name
        if given:
            token = _token(given[0])
            redactor.add(token.decode())
            askpass = self._keep(os.open(ASKPASS, os.O_RDONLY | os.O_CLOEXEC), str(ASKPASS))
            environment = {"GIT_ASKPASS": f"/dev/fd/{askpass}", "GITOPS_TOKEN": str(self._hand(token, "token"))}
        environment["GIT_SSH_COMMAND"] = " ".join(self._ssh(repository))
        environment["GIT_SSH_VARIANT"] = "ssh"
        signers = self._file("allowed_signers", repository.allowed_signers)
        return Access(environment, tuple(self._descriptors), signers and f"/dev/fd/{signers}", self._names, redactor)

    def _ssh(self, repository: Repository) -> list[str]:
        """Return the command for ssh_config(5)'s client: it asks nobody, and believes no key that is not known.

        A shell reads it, which is git's child as ssh is: $PPID is git. Without a deploy key the user's own keys and
        settings count.
        """
        words = ["ssh", "-o BatchMode=yes", "-o StrictHostKeyChecking=yes", "-o UpdateHostKeys=no"]
        if key := self._file("deploy_key", repository.deploy_key):
            words += ["-F none", f"-i /proc/$PPID/fd/{key}", "-o IdentitiesOnly=yes", "-o IdentityAgent=none"]
        if hosts := self._file("known_hosts", repository.known_hosts):
            words += [f"-o UserKnownHostsFile=/proc/$PPID/fd/{hosts}", "-o GlobalKnownHostsFile=none"]
        return words

    def _file(self, key: str, path: str) -> str:
        """Return the number under which git has a file's content, "" where none is named."""
        if not path:
            return ""
        try:
            return str(self._hand(Path(path).read_bytes(), path))
        except OSError as error:
            raise Unreadable(path=path, key=key, cause=error) from error

    def _hand(self, data: bytes, name: str) -> int:
        """Keep a copy that the user, and nobody else, can open: ssh wants a key to be so."""
        descriptor = self._keep(process.readable(data), name)
        os.fchmod(descriptor, 0o400)
        if self._user.switch is not None:
            os.fchown(descriptor, self._user.uid, self._user.gid)
        return descriptor

    def _keep(self, descriptor: int, name: str) -> int:
        self._stack.callback(os.close, descriptor)
        self._names[descriptor] = name
        self._descriptors.append(descriptor)
        return descriptor


def _token(descriptor: int) -> bytes:
    """Read the token that came with a call."""
    try:
        token = os.pread(descriptor, TOKEN_MAX + 1, 0).strip()
    except OSError as error:
        raise VerbRefused(reason=f"the token cannot be read: {error.strerror}") from error
    if len(token) > TOKEN_MAX or not _TOKEN.fullmatch(token):
        raise VerbRefused(reason="the token is not one word of printable ASCII")
    return token
