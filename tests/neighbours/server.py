"""A server as a child of the tests: started when it answers, broken as one likes, and ended by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.agent import until


class Server:
    """A process and what it started, in a session of its own. It dies with the thread that has started it."""

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """`env` is the whole environment, where given."""
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = log
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is that of its session too."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process is there; a frozen one is."""
        return self._process is not None and self._process.poll() is None

    def start(self, ready: Callable[[], object], *, seconds: float = 20.0) -> None:
        """Start it and wait until `ready` is true; raises AssertionError with the end of its log when it is not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )

        def is_ready() -> bool:
            assert self.runs, f"{self.name} ended: {self.tail()}"
            return bool(ready())

        try:
            until(is_ready, f"{self.name} is ready", seconds=seconds)
        except BaseException:
            print(f"--- {self.log}\n{self.tail()}")
            self.close()
            raise

    def freeze(self) -> None:
        """Let it and what it started answer nobody any more; connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash or the kernel does."""
        self._signal(signal.SIGKILL)
        self._wait()

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 20.0) -> int:
        """Ask it to end and wait; return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(seconds)

    def close(self) -> None:
        """End it, whatever state it is in, with all of its session."""
        if self._process is None:
            return
        if self.runs:
            self.thaw()
            with suppress(subprocess.TimeoutExpired):
                self.stop(seconds=5)
        self.kill()

    def tail(self, characters: int = 3000) -> str:
        """Return the end of what it printed."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(20)
