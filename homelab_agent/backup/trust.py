"""Which archives the root half has written, or read back, itself: a line for each in a file that only root changes.

What is not in it, a catalogue made anew from what lies there included, is restored only with the hash named. A line
says how an archive came to be trusted: this half wrote it, read it back from where only a key lets one write, or a
person named its hash. One without that, from before it was said, was written here.

A line goes with the archive that we delete. That an engine does not list one is no reason: its disk may be away.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from homelab_agent.backup.pipes import write_all
from homelab_agent.backup.point import Archive
from homelab_agent.backup.settings import ARCHIVE
from homelab_agent.backup.wire import Trouble
from homelab_agent.core import statefile
from homelab_agent.core.errors import AgentError

How: TypeAlias = Literal["wrote", "read back", "named"]
_NAME = "trust"
_MODE = 0o600


class TrustNotNoted(AgentError):
    """The copy {id} is there, and it cannot be noted in {file} that this host trusts it."""

    repair = (
        "make room: df {directory}; then: homelab-agent backup {again}; until then restore it with --trust {sha256}"
    )


class TrustNotAdopted(AgentError):
    """Which copies the lost host trusted cannot be noted in {file}."""

    repair = (
        "make room: df {directory}; until they are, restore each with --trust SHA256, which a restore without tells"
    )


class TrustNotDropped(AgentError):
    """It cannot be dropped from {file} that the copy {id}, which is deleted, was trusted; it does no harm there."""

    repair = "df {directory}"


class TrustUnreadable(AgentError):
    """It cannot be read from {file} which copies this host trusts."""

    repair = "ls -l {file}; journalctl -k -p err"


class Trust:
    """The file in the root half's own directory; blocking."""

    def __init__(self, records: Path) -> None:
        self._file = records / _NAME

    def note(self, archive: Archive, at: datetime, how: How = "wrote") -> None:
        """Have it on disk that this archive is trusted; raises `TrustNotNoted`."""
        line = {
            "sha256": archive.sha256,
            "engine": archive.engine,
            "id": archive.id,
            "set": archive.set_name,
            "at": at.isoformat(),
            "how": how,
        }
        try:
            self._append([line])
        except OSError as error:
            again = f"{'run' if archive.engine == ARCHIVE else 'verify'} {archive.set_name}"
            told = {"id": archive.id, "sha256": archive.sha256, "again": again}
            raise TrustNotNoted(file=self._file, directory=self._file.parent, cause=error, **told) from error

    def adopt(self, text: str) -> None:
        """Trust what another such file says, as the person does who has it restored; what is known already stays.

        Raises `TrustNotAdopted`.
        """
        known = self._known()
        lines = [line for line in map(_read, text.splitlines()) if line and line["sha256"] not in known]
        try:
            if lines:
                self._append([{**line, "how": "named"} for line in lines])
        except OSError as error:
            raise TrustNotAdopted(file=self._file, directory=self._file.parent, cause=error) from error

    def forget(self, archive: Archive) -> None:
        """Drop what is noted of an archive that we have deleted; raises `TrustNotDropped`, and all is as it was."""
        gone = (archive.engine, archive.sha256)
        if not self._file.exists():
            return
        try:
            with self._alone():
                lines = self._lines()
                kept = [line for line in lines if (line.get("engine"), line["sha256"]) != gone]
                if len(kept) < len(lines):
                    text = "".join(f"{json.dumps(line)}\n" for line in kept)
                    statefile.write_durably(self._file, text, mode=_MODE)
        except OSError as error:
            raise TrustNotDropped(file=self._file, directory=self._file.parent, id=archive.id, cause=error) from error

    def how(self, sha256: str) -> How | None:
        """Return how the archive of this hash came to be trusted, by the strongest there is; None where it is not.

        Raises `TrustUnreadable`.
        """
        found = self._known().get(sha256, ())
        return next((how for how in get_args(How) if how in found), None)

    def _known(self) -> Mapping[str, Sequence[str]]:
        known: dict[str, list[str]] = {}
        try:
            lines = self._lines()
        except OSError as error:
            raise TrustUnreadable(file=self._file, cause=error) from error
        for line in lines:
            known.setdefault(line["sha256"], []).append(str(line.get("how", "wrote")))
        return known

    def _lines(self) -> Sequence[Mapping[str, Any]]:
        try:
            text = self._file.read_text(errors="replace")
        except FileNotFoundError:
            return []
        return list(filter(None, map(_read, text.splitlines())))

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                for line in lines:
                    write_all(descriptor, f"\n{json.dumps(line)}\n".encode())  # a line before it may be torn
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            statefile.sync_directory(self._file.parent)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nobody else write meanwhile (flock(2)): what is appended to a file that is replaced would be lost."""
        descriptor = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


async def note_written(records: Path, archive: Archive, at: datetime) -> Sequence[Trouble]:
    """Note a copy that has just been written; return what went wrong with that, for the copy counts all the same."""
    try:
        await asyncio.to_thread(Trust(records).note, archive, at)
    except TrustNotNoted as error:
        return [Trouble.of(error)]
    return []


def _read(line: str) -> Mapping[str, Any] | None:
    """Return what a line says, None where it is torn or none of ours."""
    try:
        said = json.loads(line)
        return said if isinstance(said["sha256"], str) else None
    except (ValueError, KeyError, TypeError):
        return None
