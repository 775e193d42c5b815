"""A server on a port of the loopback interface that is brought up again, whatever a test did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.neighbours.ports import listens
from tests.neighbours.server import Server


class Listener(Server):
    """It is ready when it listens on its port."""

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, port: int, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name, argv, ready=lambda: listens(port), log=log, env=env)
        self.port = port

    def up(self) -> None:
        """Start it where it has ended, and let it go on where it is frozen."""
        if self.runs:
            self.thaw()
        else:
            self.start()

    def restart(self) -> None:
        """End it and start it again."""
        self.close()
        self.up()
