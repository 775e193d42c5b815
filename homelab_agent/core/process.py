"""The one way to run a child: nothing of ours reaches it unasked, and nothing of it outlives us unasked.

A child gets an environment made of a list of names, `/` as its directory, no terminal, a session of its own, and
a signal that kills it when the agent dies, however the agent dies. `setpriv` (util-linux) sets that signal and the
user; a shell then makes sure that the agent has not died before that, and becomes the program. Code run between
fork and exec instead (`preexec_fn`) can deadlock in a process with threads, and Python 3.12 and later warn of it.
The kernel sends the signal when the *thread* that forked ends, so children are started on the loop, in the main
thread, and not from an executor.

What is stopped ends with all it has started: first its process group, SIGTERM then SIGKILL, all of it with the same
time between; then whatever still carries the mark that is put into its environment, so also a daemon that has left
the group. Not found are a process that has emptied its environment and one of another user where we are not root;
under systemd the unit's control group ends those with the agent. When the agent is killed the signal ends the program
itself, and what the program has started is left to the control group. It is lost, too, when the program is set-user-ID
(prctl(2)). A program that ends by itself may leave a daemon behind in a session of its own (as `pg_ctl start` does),
but nothing in its group.

The agent's root half alone is started elsewhere (`privileged/child.py`): it gives back what it holds before it ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

from homelab_agent.core import process_table
from homelab_agent.core.errors import AgentError
from homelab_agent.core.process_output import OnLine, Output

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL, unless the caller knows better."""
KILLED_SECONDS = 5.0
"""How long the kernel may take to end what is killed."""
OUTPUT_MAX = 1024 * 1024
KEPT = ("PATH", "LANG", "TZ")
"""Variables that a child inherits unless the caller names others."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
T = TypeVar("T")
U = TypeVar("U")
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit; unset PWD OLDPWD SHLVL; exec "$@"'
"""Run by sh, whose own variables are not the child's; the agent's process id is its `$0`."""
_MARK = "HOMELAB_AGENT_CHILD"
_HELD_OPEN_SECONDS = 1.0
"""How long output is awaited that something holds open after its program has ended."""
_LOOK_SECONDS = 0.02


class ProgramMissing(AgentError):
    """The program {program} is not installed."""

    repair = "install {program}, in one of {path}"


class ProgramWillNotStart(AgentError):
    """The program {program} cannot be started."""


class DeadlinePassed(AgentError):
    """{program} did not end within {seconds:g} s and was stopped.

    `completed` holds what it said until then.
    """

    def __init__(self, *, program: str, seconds: float, completed: Completed) -> None:
        self.completed = completed
        last = completed.stderr.strip().splitlines()[-1:]
        super().__init__(program=program, seconds=seconds, cause=b"".join(last).decode(errors="replace"))


class ProgramWillNotEnd(AgentError):
    """{program} (process {pid}) does not end although it was killed; it waits for a device or a network share."""

    repair = "ps -o pid,stat,wchan:30,args -p {pid}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use at most (setrlimit(2)); None leaves the agent's own bound."""

    cpu_seconds: int | None = None
    memory_bytes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    processes: int | None = None

    def words(self) -> list[str]:
        """Return the arguments of prlimit(1)."""
        bounds = {
            "cpu": self.cpu_seconds,
            "as": self.memory_bytes,
            "fsize": self.file_bytes,
            "nofile": self.open_files,
            "nproc": self.processes,
        }
        return [f"--{name}={bound}" for name, bound in bounds.items() if bound is not None]


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Completed:
    """How a child ended: `code` as it exited, or minus the signal that ended it; the last bytes of its output.

    `truncated` says that there was more than `output_max` on one of the two.
    """

    code: int
    stdout: bytes
    stderr: bytes
    truncated: bool


class Given(TypedDict, total=False):
    """What a child can be given; each key may be left out."""

    env: Mapping[str, str]
    """Its environment, beside those of our own variables that `keep` names."""
    keep: Sequence[str]
    """Names of variables that it inherits; `KEPT` unless given."""
    cwd: Path | None
    """Its working directory; `/` unless given."""
    stdin: bytes
    """All that it can read from its standard input."""
    output_max: int
    """How many bytes are kept of each of its two outputs: the last ones."""
    on_line: OnLine | None
    """Called with each line of its output as it comes."""
    user: tuple[int, int] | None
    """The user and group id that it runs as; only root can give them."""
    groups: Sequence[int]
    """The supplementary groups that it then has; none unless given."""
    limits: Limits
    """What it may use at most."""
    descriptors: Sequence[int]
    """Descriptors that are open in it under the same numbers (see `readable`)."""


class Child:
    """A program that runs; made by `start`."""

    def __init__(self, program: str, mark: str, transport: asyncio.SubprocessTransport, output: Output) -> None:
        self.program = program
        self.pid = transport.get_pid()
        self._mark = mark
        self._transport = transport
        self._output = output
        self._stopped = False
        self._awaits_group = False
        self._ended = asyncio.create_task(self._end(), name=f"child {program} {self.pid}")

    @property
    def running(self) -> bool:
        """Whether the program itself has not ended yet."""
        return not self._output.exited.is_set()

    async def wait(self) -> Completed:
        """Return when the program has ended."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone; nothing happens when it has ended."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, grace: float = GRACE_SECONDS) -> Completed:
        """End the program and all it has started; after `grace` seconds, or when cancelled, by force.

        What it has started may end in order, too: a git that is killed leaves its locks. Raises `ProgramWillNotEnd`
        when the kernel does not let it go.
        """
        self._stopped = True
        self._signal_group(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self._signal_group(signal.SIGKILL)
        except asyncio.CancelledError:
            self._signal_group(signal.SIGKILL)
            raise
        try:
            async with asyncio.timeout(KILLED_SECONDS):
                return await self.wait()
        except TimeoutError:
            raise ProgramWillNotEnd(program=self.program, pid=self.pid) from None

    def _signal_group(self, number: signal.Signals) -> None:
        if self.running or self._awaits_group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _until_group_has_ended(self) -> None:
        """Return when nothing of the group runs any more; that it ends, `stop` sees to."""
        self._awaits_group = True
        while True:
            if not await _in_table(process_table.has_group, self.pid):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._awaits_group = False

    async def _end(self) -> Completed:
        await self._output.exited.wait()
        if self._stopped:
            await self._until_group_has_ended()
        # Members that are left keep the group's number from being given out again.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._stopped:
            await _in_table(process_table.end_all_with, f"{_MARK}={self._mark}")
        with suppress(TimeoutError):
            async with asyncio.timeout(_HELD_OPEN_SECONDS):
                await self._output.closed.wait()
        self._transport.close()
        stdout, stderr = self._output.stdout, self._output.stderr
        return Completed(
            code=self._transport.get_returncode() or 0,
            stdout=stdout.bytes(),
            stderr=stderr.bytes(),
            truncated=stdout.truncated or stderr.truncated,
        )


async def run(
    argv: Sequence[str | Path], *, deadline: float, grace: float = GRACE_SECONDS, **given: Unpack[Given]
) -> Completed:
    """Run a program to its end, with what `start` can be given.

    Raises `DeadlinePassed` when it takes longer than `deadline` seconds. It is stopped then, and when we are
    cancelled, with `grace` seconds between SIGTERM and SIGKILL.
    """
    child = await start(argv, **given)
    try:
        async with asyncio.timeout(deadline):
            return await child.wait()
    except TimeoutError:
        completed = await child.stop(grace)
        raise DeadlinePassed(program=child.program, seconds=deadline, completed=completed) from None
    except asyncio.CancelledError:
        await child.stop(grace)
        raise


async def start(argv: Sequence[str | Path], **given: Unpack[Given]) -> Child:
    """Start a program and return while it runs. Raises `ProgramMissing`, `ProgramWillNotStart`."""
    words = [os.fspath(word) for word in argv]
    kept = {name: os.environ[name] for name in given.get("keep", KEPT) if name in os.environ}
    environment = {"PATH": _PATH, **kept, **given.get("env", {})}
    loop = asyncio.get_running_loop()
    programs = await loop.run_in_executor(_files(), _find, ["setpriv", "sh", "prlimit", words[0]], environment["PATH"])
    command = [*_wrapped(programs, given), programs[words[0]]]
    mark = uuid.uuid4().hex
    source = readable(given.get("stdin", b""))
    try:
        transport, output = await loop.subprocess_exec(
            lambda: Output(given.get("output_max", OUTPUT_MAX), given.get("on_line")),
            *command,
            *words[1:],
            stdin=source,
            cwd=given.get("cwd") or "/",
            env={**environment, _MARK: mark},
            start_new_session=True,
            pass_fds=tuple(given.get("descriptors", ())),
        )
    except OSError as error:
        raise ProgramWillNotStart(program=words[0], cause=error) from error
    finally:
        os.close(source)
    return Child(Path(words[0]).name, mark, transport, output)


def find(program: str, path: str = "") -> str | None:
    """Return where the program is that a child would be, with that PATH or ours; None if there is none. Blocking."""
    known = path or os.environ.get("PATH", _PATH)
    return shutil.which(program, path=known) or shutil.which(program, path=_PATH)


def readable(data: bytes) -> int:
    """Return a descriptor that `data` is read from, in memory; whoever calls closes it.

    The way to hand a token to a child, which reads `/dev/fd/N`: it is neither among the arguments nor in the
    environment nor on a disk.
    """
    descriptor = os.memfd_create("handed to a child")
    os.set_blocking(descriptor, False)  # memory never does; this says so
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _wrapped(programs: Mapping[str, str], given: Given) -> list[str]:
    words = [programs["setpriv"], "--pdeathsig", "KILL"]
    if (user := given.get("user")) is not None:
        groups = ",".join(map(str, given.get("groups", ())))
        words += [f"--reuid={user[0]}", f"--regid={user[1]}", f"--groups={groups}" if groups else "--clear-groups"]
    words += ["--", programs["sh"], "-c", _UNLESS_ORPHANED, str(os.getpid())]
    bounds = given.get("limits", NO_LIMITS).words()
    return [*words, *([programs["prlimit"], *bounds, "--"] if bounds else [])]


def _find(names: Sequence[str], path: str) -> dict[str, str]:
    found = {name: find(name, path) for name in names}
    for name, where in found.items():
        if where is None:
            raise ProgramMissing(program=name, path=path)
    return {name: where for name, where in found.items() if where is not None}


async def _in_table(look: Callable[[T], U], of: T) -> U:
    """Look into the table of processes, beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(_files(), look, of)


@cache
def _files() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="process")
