"""An agent that is a unit of a machine, so that its events are in a real journal."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.agent import Agent
from tests.neighbours import machine as machines
from tests.neighbours.machine import Machine

ROOT = Path(__file__).parents[1]
UNIT = "homelab-agent.service"
NOWHERE = "postgresql://127.0.0.1:1/nothing"
SERVICE = """
[Service]
Type=notify
WorkingDirectory={directory}
ExecStart={command}
TimeoutStopSec=30
"""


class House:
    """An agent that is a unit of a machine."""

    def __init__(self, machine: Machine, agent: Agent) -> None:
        self.machine = machine
        self.agent = agent
        agent.write(database=NOWHERE)
        machine.install(UNIT, SERVICE.format(directory=ROOT, command=" ".join(agent.command("run"))))

    def start(self) -> None:
        self.machine.systemctl("restart", UNIT)  # returns once it is ready

    def run(self, *words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return self.machine.run("env", "-C", ROOT, *before, *self.agent.command(*words))

    def logs(self, *words: str) -> list[dict[str, Any]]:
        """Return the events that are shown; all that was logged until now is in the journal."""
        self.machine("journalctl", "--sync")
        done = self.run("logs", "--json", *words)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextmanager
    def following(self, *words: str) -> Iterator[queue.SimpleQueue[str]]:
        """Follow the events; give the lines as they come."""
        words = ("logs", "--follow", *words)
        shell = ("sh", "-c", 'echo $$; exec "$@"', "sh")  # which says what number it has in the machine
        listens = ("env", "--default-signal=INT", "-C", ROOT)  # a shell's background jobs are born deaf to Ctrl-C
        argv = self.machine.inside(*listens, *shell, *self.agent.command(*words))
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            pid = child.stdout.readline().strip()
            reading = threading.Thread(target=_read, args=(child.stdout, lines))
            reading.start()
            try:
                yield lines
            finally:
                self.machine("kill", "-INT", pid)
                assert child.wait(30) == 130
                reading.join(30)


def _read(source: Iterable[str], lines: queue.SimpleQueue[str]) -> None:
    for line in source:
        lines.put(line)


@contextmanager
def housed(directory: Path) -> Iterator[House]:
    """Give one, not started yet, in a machine that is up."""
    with machines.running(shared=[directory, ROOT, Path(sys.prefix)]) as machine:
        yield House(machine, Agent(directory / "agent"))
