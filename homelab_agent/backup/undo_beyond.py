"""What a restore changes beside files, as `undo.py` asks for it; `beyond.py` has it done by Docker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from homelab_agent.backup import users
from homelab_agent.backup.restore_errors import DockerNeeded, InUse
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo_note import Undo


class Beyond(Protocol):
    """What a restore changes beside files. It blocks, may be done again after anything, and raises an AgentError."""

    def while_still(self, undo: Undo, work: Callable[[], None]) -> None:
        """Do `work` while nobody uses the places of that restore; raises an AgentError, and nothing is done then."""

    def check(self, undo: Undo) -> None:
        """Raise an AgentError where what stands there is not what the note says; nothing is done."""

    def settle(self, undo: Undo, side: Side) -> None:
        """Make that side stand where it is asked for."""

    def discard(self, undo: Undo) -> None:
        """Take away what is kept, or was made in vain."""


class Files:
    """Is `Beyond` for a restore of files alone, and refuses what only Docker can do."""

    def while_still(self, undo: Undo, work: Callable[[], None]) -> None:
        """Refuse while somebody uses them: a mount keeps what it was made of, whatever changes places."""
        if using := users.processes(undo.places):
            names, places = ", ".join(using[:5]), ", ".join(map(str, undo.places))
            raise InUse(places=places, names=names, repair="end them")
        work()

    def check(self, undo: Undo) -> None:
        """Refuse where there is something."""
        if undo.servers:
            names = ", ".join(one.identity.name for one in undo.servers)
            raise DockerNeeded(id=undo.id, what=f"databases of {names}")

    def settle(self, undo: Undo, side: Side) -> None:  # noqa: ARG002 - it is neither
        """Refuse where there is something."""
        self.check(undo)

    def discard(self, undo: Undo) -> None:
        """Refuse where there is something."""
        self.check(undo)
        if undo.volumes and undo.first:
            raise DockerNeeded(id=undo.id, what=f"the volumes {', '.join(undo.volumes)}")
