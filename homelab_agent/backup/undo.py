"""What restores have replaced: kept for a while beside what is there now, and noted in RECORDS/undo/ID.json.

The note is on disk before anything it speaks of is done, so that `heal` can end what a killed restore has begun:

| step | what is on disk | heal |
| --- | --- | --- |
| unpacking | new files beside the old ones | takes them away |
| replacing | some of both stand where they are read | has all as it stood before; a first restore goes away |
| kept | the other side is kept beside | leaves it until it expires |
| removing | some of the other side is gone | takes away the rest |
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from homelab_agent.backup import lingering, swap, undo_note, undo_order
from homelab_agent.backup.restore_errors import (
    AgentRuns,
    AnotherFirst,
    HalfRestored,
    NoteUnreadable,
    NothingToUndo,
    NotNoted,
    NotTakenAway,
    RestoreUnderWay,
)
from homelab_agent.backup.settings import AGENT_SET
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo_beyond import Beyond, Files
from homelab_agent.backup.undo_note import Undo
from homelab_agent.core import journal, lock, statefile
from homelab_agent.core.errors import AgentError, describe

log = journal.logger("backup")


@dataclass(frozen=True, slots=True)
class Healed:
    """What became of a restore that was killed, in words; `half` says why it is neither whole nor taken back still."""

    id: str
    set_name: str
    words: str
    half: Exception | None = None

    def __str__(self) -> str:
        return self.words


class Undos:
    """The notes. All of it blocks, and raises OSError as an AgentError."""

    def __init__(self, records: Path, beyond: Beyond | None = None) -> None:
        self.directory = records / undo_note.DIRECTORY
        self._beyond = beyond or Files()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else restore meanwhile, on this host; the kernel ends it with the process (flock(2)).

        A child that a killed restore was just starting may hold it for a moment longer.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotNoted(directory=self.directory, cause=error) from error
        try:
            lingering.lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Sequence[Healed]]:
        """Be `alone`, and first end what a killed restore has begun; the one of these that does not block."""
        with ExitStack() as held:
            await asyncio.to_thread(held.enter_context, self.alone())
            yield await asyncio.to_thread(self.heal)

    def note(self, undo: Undo) -> Undo:
        """Have it on disk, and return it."""
        try:
            statefile.write_durably(self._path(undo.id), undo_note.text(undo))
        except OSError as error:
            raise NotNoted(directory=self.directory, cause=error) from error
        return undo

    def list(self) -> Sequence[Undo]:
        """Return all that can be read, oldest first; `damaged` has the others."""
        return [found for path in self._paths() if not isinstance(found := self._tried(path), NoteUnreadable)]

    def damaged(self) -> Sequence[NoteUnreadable]:
        """Return what is wrong with the notes that cannot be read."""
        return [found for path in self._paths() if isinstance(found := self._tried(path), NoteUnreadable)]

    def unfinished(self) -> bool:
        """Return whether there may be something to heal."""
        return bool(self.damaged()) or any(one.step != "kept" for one in self.list())

    def set_of(self, undo_id: str) -> str:
        """Return the name of a restore's set; "" where there is none, or it cannot be read."""
        return next((one.set_name for one in self.list() if one.id == undo_id), "")

    def is_half(self, undo_id: str) -> bool:
        """Return whether this is a restore that is neither whole nor taken back, as far as its note tells."""
        path = self._path(undo_id)
        found = self._tried(path) if path.exists() else None
        return isinstance(found, NoteUnreadable) or (found is not None and found.step == "replacing")

    def find(self, undo_id: str) -> Undo:
        """Return one that is kept and may be turned; raises `NothingToUndo`, `NoteUnreadable`, `AnotherFirst`."""
        path = next((one for one in self._paths() if one.stem == undo_id), None)
        undo = None if path is None else self._read(path)
        if undo is None or undo.step != "kept":
            raise NothingToUndo(id=undo_id)
        if (other := undo_order.in_the_way(undo, self.list())) is not None:
            raise AnotherFirst(id=undo_id, other=other.id, at=f"{other.at:%Y-%m-%d %H:%M} UTC")
        return undo

    def turn(self, undo: Undo, side: Side) -> Undo:
        """Make that side stand where it is read; nobody may use it meanwhile. Back at the old one where that fails.

        Raises `Disturbed` and the like, with nothing noted, where what stands there is not what the note says: neither
        side could be brought about then; `HalfRestored` where it cannot be taken back.
        """
        try:
            undo = replace(undo, moves=[swap.seen(one, undo.live) for one in undo.moves])
            swap.check(undo.moves, undo.live)
        except OSError as error:
            raise NotNoted(directory=self.directory, cause=error) from error
        self._beyond.check(undo)
        self.note(replace(undo, step="replacing"))
        try:
            swap.settle(undo.moves, side)
            self._beyond.settle(undo, side)
            return self.note(replace(undo, step="kept", live=side, first=False))
        except AgentError:  # also of the note: who was stopped is not to run on what a heal would take away again
            try:
                self._turn_back(undo)
            except AgentError as error:
                raise HalfRestored.of(undo.id, error, "whoever was stopped for it stays down") from error
            self.note(undo)
            raise

    def discard(self, undo: Undo) -> None:
        """Take away the side that is kept, what was unpacked, and the note; raises `NotTakenAway`."""
        if undo.step != "unpacking":  # of which this is healed, too; and the disk may be full of what was unpacked
            self.note(replace(undo, step="removing"))
        self._beyond.discard(undo)
        try:
            for path in (*undo.staging, *(path for move in undo.moves for path in (move.beside, move.aside))):
                lingering.remove(path)
            lingering.remove_empty(undo.folders)
            self.forget(undo)
        except OSError as error:
            raise NotTakenAway(id=undo.id, cause=error) from error

    def forget(self, undo: Undo) -> None:
        """Take away the note alone: what was made is somebody's now."""
        self._path(undo.id).unlink(missing_ok=True)
        statefile.sync_directory(self.directory)

    def abandon(self, undo_id: str) -> None:
        """Take away a restore that failed before its files stood there; one that came so far is kept.

        Raises nothing: why it failed is what is told. What cannot be taken away is for the next heal.
        """
        try:
            if (path := self._path(undo_id)).exists():
                self._heal(self._read(path))
        except (AgentError, OSError) as error:
            log.warning("backup.restore_not_healed", id=undo_id, cause=describe(error))

    def expire(self, now: datetime, keep: timedelta) -> Sequence[str]:
        """Take away what was kept for longer; return the ids. One that cannot be taken away stays, and is told of.

        Raises `RestoreUnderWay`.
        """
        if not self.directory.is_dir():
            return []
        with self.alone():
            return self._expired(now, keep)

    def _expired(self, now: datetime, keep: timedelta) -> Sequence[str]:
        gone = []
        for path in self._paths():
            try:
                undo = self._read(path)
                if undo.step == "kept" and now - undo.at > keep:
                    self.discard(undo)
                    gone.append(undo.id)
            except (AgentError, OSError) as error:
                log.warning("backup.undo_left", id=path.stem, cause=describe(error))
        return gone

    def heal(self) -> Sequence[Healed]:
        """End what killed restores have begun, and say what was done; before any container is resumed."""
        done = []
        for path in self._paths():
            set_name = ""
            try:
                undo = self._read(path)
                set_name = undo.set_name
                if word := self._heal(undo):
                    done.append(Healed(undo.id, set_name, f"restore {undo.id} of {set_name}: {word}"))
            except (AgentError, OSError) as error:
                words = f"restore {path.stem} is left as it is: {describe(error)}"
                done.append(Healed(path.stem, set_name, words, error if self.is_half(path.stem) else None))
        for one in done:
            log.warning("backup.restore_healed", what=one.words)
        return done

    def heal_left(self) -> Sequence[Healed]:
        """Heal, but for what a living restore does; raises nothing, for whoever waits for it has more to do."""
        if not self.directory.is_dir():
            return []
        try:
            with self.alone():
                return self.heal()
        except RestoreUnderWay:
            return []
        except AgentError as error:
            log.warning("backup.restore_not_healed", cause=describe(error))
            return []

    def _heal(self, undo: Undo) -> str:
        match undo.step:
            case "unpacking":
                self.discard(undo)
                return "cut short while it was unpacked; nothing had been replaced"
            case "replacing":
                _refuse_running(undo)
                self._beyond.while_still(undo, partial(self._turn_back, undo))
                if undo.first:
                    self.discard(undo)
                else:
                    self.note(replace(undo, step="kept"))
                return "cut short while it was replaced; all is as before it"
            case "removing":
                self.discard(undo)
                return "what it had kept is removed"
            case "kept":
                return ""

    def _turn_back(self, undo: Undo) -> None:
        swap.settle(undo.moves, undo.live)
        self._beyond.settle(undo, undo.live)

    def _paths(self) -> Sequence[Path]:
        return sorted(self.directory.glob("*.json"))

    def _path(self, undo_id: str) -> Path:
        return self.directory / f"{undo_id}.json"

    def _tried(self, path: Path) -> Undo | NoteUnreadable:
        try:
            return self._read(path)
        except NoteUnreadable as error:
            return error

    def _read(self, path: Path) -> Undo:
        try:
            return undo_note.read(path.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoteUnreadable(path=path, cause=error) from error


def _refuse_running(undo: Undo) -> None:
    """Leave the agent's own state as it is while an agent has it open."""
    if undo.set_name == AGENT_SET and undo.places:
        directory = undo.places[0].parent
        if holder := lock.holder(directory):
            raise AgentRuns(directory=directory, holder=holder)
