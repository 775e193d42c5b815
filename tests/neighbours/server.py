"""A server as a child of the tests: started when it answers, broken as one likes, and ended by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.processes import await_standstill
from tests.waiting import until

_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
"""The signal of a parent's death comes when the thread ends that has forked: this one lives as long as the tests."""


class Server:
    """A process and what it started, in a session of its own. It dies with the tests."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        ready: Callable[[], object],
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`ready` tells whether it answers; `env` is the whole environment, where given."""
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = log
        self.env = env
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is that of its session too."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process is there; a frozen one is."""
        return self._process is not None and self.code is None

    @property
    def code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start it and do not wait for it."""
        with self.log.open("ab") as log:
            started = _spawner.submit(
                subprocess.Popen,
                ["setpriv", "--pdeathsig", "KILL", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
            self._process = started.result()

    def start(self, *, seconds: float = 20.0) -> Self:
        """Start it and wait until it is ready; raises AssertionError with the end of its log when it is not."""
        self.spawn()

        def is_ready() -> bool:
            assert self.runs, f"{self.name} ended with {self.code}: {self.tail()}"
            return bool(self._ready())

        try:
            until(is_ready, f"{self.name} is ready", seconds=seconds)
        except BaseException:
            print(f"--- {self.log}\n{self.tail()}")
            self.close()
            raise
        return self

    def freeze(self) -> None:
        """Let it and what it started answer nobody any more; connections stay."""
        self._signal(signal.SIGSTOP)
        await_standstill(self._first)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> int:
        """End it at once, as a crash or the kernel does; return its exit code."""
        self._signal(signal.SIGKILL)
        return self._wait(20)

    def send(self, number: int) -> None:
        """Send a signal to the process alone."""
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 30.0) -> int:
        """Ask it to end and wait; return its exit code."""
        self.send(number)
        return self._wait(seconds)

    def close(self, *, seconds: float = 5.0) -> None:
        """End it, whatever state it is in, with all of its session; by force after so many seconds."""
        if self._process is None:
            return
        if self.runs:
            self.thaw()
            with suppress(subprocess.TimeoutExpired):
                self.stop(seconds=seconds)
        self.kill()

    @contextmanager
    def lasting(self) -> Iterator[Self]:
        """Be ended when the context ends; what was said last is printed when that fails."""
        try:
            yield self
        except BaseException:
            print(f"--- {self.name}: {self.log}\n{self.tail()}")
            raise
        finally:
            self.close()

    def tail(self, characters: int = 3000) -> str:
        """Return the end of what it printed."""
        return self.printed()[-characters:]

    def printed(self) -> str:
        """Return all that it printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def _first(self) -> int:
        """The process that does what the server is there for."""
        return self.pid

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _wait(self, seconds: float) -> int:
        assert self._process is not None
        return self._process.wait(seconds)
