"""A secret id that comes wrapped: unwrapped once, and kept, for it can be had only once.

A wrapping token is good for one use (https://openbao.org/docs/concepts/response-wrapping/), so whoever finds it spent
knows that somebody else has what was in it. Both files are the agent's alone (0600):

    openbao-secret-id       the secret id, and the digest of the token that it came in
    openbao-secret-id.new   it is being unwrapped, or that was cut short
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from homelab_agent.core import journal, statefile
from homelab_agent.core.secret import Secret, SecretMissing
from homelab_agent.secrets.errors import SecretIdNotKept, WrappingTokenForeign, WrappingTokenSpent
from homelab_agent.secrets.transport import Answered, Transport

NAME = "openbao-secret-id"

_ROOM_BYTES = 4096
"""Taken before a token is unwrapped: what comes out of it must not meet a full disk."""

log = journal.logger("secrets")


@dataclass(frozen=True, slots=True)
class _Kept:
    secret_id: str = field(repr=False)
    came_in: str

    @classmethod
    def read(cls, path: Path) -> _Kept | None:
        """Return what is kept at `path`, None where there is nothing whole; raises `SecretIdNotKept`.

        Whoever was killed before the file was cut to its length has left the rest of its room, NUL bytes.
        """
        try:
            return cls(**json.loads(path.read_text().rstrip("\0")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        except OSError as error:
            raise SecretIdNotKept(directory=path.parent, cause=error) from error


class Wrapping:
    """The secret id of a role at `approle`, which comes in the wrapping token `token` and is kept in `directory`."""

    def __init__(self, transport: Transport, token: Secret, directory: Path, *, approle: str) -> None:
        self._transport = transport
        self._token = token
        self._directory = directory
        self._approle = approle.strip("/")
        self._path, self._new = directory / NAME, directory / f"{NAME}.new"

    def secret_id(self, *, again: bool = False) -> str:
        """Return the secret id; a token that was not seen yet is unwrapped. `again`: its reference is read again first.

        Where the reference is gone, as it may be once it was used, what is kept goes on being good. Raises
        `WrappingTokenSpent`, `WrappingTokenForeign`, `SecretIdNotKept`, `CannotAsk`, and what the reference raises.
        """
        kept = _Kept.read(self._path)
        try:
            token = self._token.reread() if again else self._token.get()
        except SecretMissing:
            if kept is None:
                raise
            return kept.secret_id
        digest = hashlib.sha256(token.encode()).hexdigest()
        if kept is None or kept.came_in != digest:
            try:
                with self._locked():
                    kept = self._settled(digest) or self._unwrapped(token, digest)
            except OSError as error:
                raise SecretIdNotKept(directory=self._directory, cause=error) from error
        return kept.secret_id

    def _settled(self, digest: str) -> _Kept | None:
        """Return what another process has unwrapped meanwhile, or one that was cut short after it."""
        if (left := _Kept.read(self._new)) is not None and left.came_in == digest:
            self._publish()
        kept = _Kept.read(self._path)
        return kept if kept is not None and kept.came_in == digest else None

    def _unwrapped(self, token: str, digest: str) -> _Kept:
        self._look_at(token)
        descriptor = self._reserve()
        try:
            kept = _Kept(self._unwrap(token), digest)
            data = json.dumps(asdict(kept)).encode()
            os.write(descriptor, data)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._publish()
        log.info("secrets.unwrapped", reference=self._token.reference)
        return kept

    def _look_at(self, token: str) -> None:
        """See where the token comes from, which does not use it up."""
        client = self._transport.client()
        try:
            told = client.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})["data"]
        except Answered as refusal:
            raise self._spent(refusal) from None
        finally:
            client.adapter.close()
        made_at = str(told["creation_path"])
        if not re.fullmatch(rf"auth/{re.escape(self._approle)}/role/[^/]+/secret-id", made_at):
            raise WrappingTokenForeign(reference=self._token.reference, approle=self._approle, creation_path=made_at)

    def _unwrap(self, token: str) -> str:
        client = self._transport.client(token=token, attempts=1)  # what breaks off may have been done
        try:
            return str(client.sys.unwrap()["data"]["secret_id"])
        except Answered as refusal:
            error = self._spent(refusal)
            self._new.unlink()
            raise error from None
        finally:
            client.adapter.close()

    def _spent(self, refusal: Answered) -> WrappingTokenSpent:
        ours = "an earlier try of ours was cut short, and has perhaps used it up" if self._new.exists() else ""
        cause = "; ".join(filter(None, (refusal.errors, ours)))
        return WrappingTokenSpent(reference=self._token.reference, approle=self._approle, cause=cause)

    def _reserve(self) -> int:
        """Return the open file that the secret id is written to."""
        descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
            if os.geteuid() == 0:  # `doctor` may be the first to ask, and the agent has to read it
                owner = self._directory.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            statefile.sync_directory(self._directory)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _publish(self) -> None:
        self._new.rename(self._path)
        statefile.sync_directory(self._directory)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out: two that unwrap at once would take each other for a thief."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
