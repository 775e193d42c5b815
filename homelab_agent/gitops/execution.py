"""What follows a move, done: actions and probes that take more than the agent may, and the agent's own restart.

A program is named by the configuration alone, and gets no byte of what was pushed but the files of the working copy.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from homelab_agent.core import privilege, process
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.privilege import Answer, User, VerbRefused
from homelab_agent.core.process_output import OnLine, Stream
from homelab_agent.gitops import owned
from homelab_agent.gitops.owned import Owned
from homelab_agent.gitops.settings import Action, Probe, Repository

UNIT = "homelab-agent.service"
LINES_MAX = 10_000
"""So many lines of an action are told as they come; of more only the last, `TAIL_LINES`, when it has ended."""
TAIL_LINES = 200
TAIL_CHARACTERS = 16 * 1024
PROBE_SECONDS = 20.0
RESTART_SECONDS = 20.0
_HEALTH = "{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}"
_SECRET_NAME = re.compile(r"(password|passphrase|token|secret|key)s?$", re.IGNORECASE)


class NotRestarted(AgentError):
    """The agent's unit {unit} is not there to be restarted."""

    repair = "sudo make install, which makes the agent a service, or `restart_agent = false` for the repository"


@dataclass(frozen=True, slots=True)
class Ended:
    """How one of an action's commands ended: `code` as it exited, or minus the signal that ended it."""

    state: Literal["ok", "failed", "timed_out"]
    code: int


class Narration:
    """What a program prints: told as it comes, up to a bound, and the last of it at the end; secrets are masked."""

    def __init__(self, say: OnLine, redactor: Redactor) -> None:
        self._say = say
        self._redactor = redactor
        self._last: deque[tuple[Stream, str]] = deque(maxlen=TAIL_LINES)
        self._printed = 0

    def __call__(self, stream: Stream, line: str) -> None:
        """Take a line."""
        self._last.append((stream, line))
        self._printed += 1
        if self._printed <= LINES_MAX:
            self._say(stream, self._redactor.mask(line))
        elif self._printed == LINES_MAX + 1:
            self._say("stderr", f"... of more than {LINES_MAX} lines only the last are told, when it has ended")

    def end(self) -> None:
        """Tell the last of what was not told as it came."""
        untold = self._printed - LINES_MAX
        if untold > len(self._last):
            self._say("stderr", f"... {untold - len(self._last)} lines were left out")
        for stream, line in list(self._last)[-untold:] if untold > 0 else ():
            self._say(stream, self._redactor.mask(line))

    def tail(self) -> str:
        """Return the last of it, in whole lines where they are not too long: what is masked later is masked whole."""
        said = self._redactor.mask("\n".join(line for _, line in self._last))
        last = said[-TAIL_CHARACTERS:]
        return last if last == said else last.partition("\n")[2] or last


async def act(repository: Repository, action: Action, say: OnLine) -> Answer:
    """Run an action to its end: `state` (ok, failed, timed_out), exit `code`, `tail` of its output, `seconds`.

    Raises what `owned.opened` and `Owned.inside` raise, `process.ProgramMissing`, `process.ProgramWillNotStart`.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    narration = Narration(say, _redactor(action))
    ended = Ended("ok", 0)
    async with owned.opened(repository) as copy, copy.inside(action.directory) as directory:
        given: process.Given = {
            **owned.child_of(await _who(action, copy), directory, action.environment),
            "on_line": narration,
            "output_max": 0,
            "limits": process.Limits(memory_bytes=action.memory_max or None, open_files=action.open_files),
        }
        for argv in commands(action):
            ended = await _run(argv, begun + action.timeout - loop.time(), given)
            if ended.state != "ok":
                break
    narration.end()
    seconds = round(loop.time() - begun, 3)
    return {"state": ended.state, "code": ended.code, "tail": narration.tail(), "seconds": seconds}


def commands(action: Action) -> list[list[str]]:
    """Return what an action runs, one after the other until one fails."""
    match action.kind:
        case "command":
            return [_here(action.command)]
        case "compose":
            return [["docker", "compose", "up", "--detach", "--quiet-pull"]]
        case "systemctl":
            return [["systemctl", "restart", "--", unit] for unit in action.units]
        case "make":
            return [["make", *(["--", action.target] if action.target else [])]]


async def ask(repository: Repository, probe: Probe) -> Answer:
    """Ask one probe once: whether it `holds`, and `detail` in words. Raises `VerbRefused` for the agent's own kinds."""
    try:
        match probe.kind:
            case "unit":
                return await _ask_unit(probe.target)
            case "container":
                return await _ask_container(probe.target)
            case "command":
                return await _ask_command(repository, probe.command)
            case "http" | "tcp":
                raise VerbRefused(reason=f"the agent itself asks a probe of kind {probe.kind}")
    except VerbRefused:
        raise
    except AgentError as error:
        return {"holds": False, "detail": str(error)}


async def restart_agent() -> Answer:
    """Have systemd restart the agent, and do not wait for it. Raises `NotRestarted`."""
    done = await process.run(["systemctl", "restart", "--no-block", "--", UNIT], deadline=RESTART_SECONDS)
    if done.code != 0:
        raise NotRestarted(unit=UNIT, cause=_last_line(done))
    return {}


async def _run(argv: Sequence[str], deadline: float, given: process.Given) -> Ended:
    try:
        done = await process.run(argv, deadline=max(0.0, deadline), **given)
    except process.DeadlinePassed as error:
        return Ended("timed_out", error.completed.code)
    return Ended("ok" if done.code == 0 else "failed", done.code)


async def _ask_unit(unit: str) -> Answer:
    done = await process.run(["systemctl", "is-active", "--", unit], deadline=PROBE_SECONDS)
    state = done.stdout.decode(errors="replace").strip()
    return {"holds": done.code == 0, "detail": f"it is {state}" if state else _last_line(done)}


async def _ask_container(container: str) -> Answer:
    argv = ["docker", "inspect", "--type", "container", "--format", _HEALTH, "--", container]
    done = await process.run(argv, deadline=PROBE_SECONDS)
    if done.code != 0:
        return {"holds": False, "detail": _last_line(done)}
    status, _, health = done.stdout.decode(errors="replace").strip().partition(" ")
    words = f"it is {status}, {health}" if health else f"it is {status}"
    return {"holds": status == "running" and health != "unhealthy", "detail": words}


async def _ask_command(repository: Repository, command: Sequence[str]) -> Answer:
    async with owned.opened(repository) as copy:
        done = await process.run(_here(command), deadline=PROBE_SECONDS, **copy.given({}))
    said = _last_line(done)
    return {"holds": done.code == 0, "detail": f"it ended with {done.code}" + (f": {said}" if said else "")}


def runs_as(action: Action) -> str:
    """Return the name of the user whom an action runs as; "" for the working copy's."""
    return action.run_as or ("root" if action.kind == "systemctl" else "")


async def _who(action: Action, copy: Owned) -> User:
    """Return whom an action runs as; raises `privilege.NoSuchUser`, `privilege.NotThatUser`."""
    if name := runs_as(action):
        return await asyncio.to_thread(privilege.user, name)
    return copy.user


def _here(command: Sequence[str]) -> list[str]:
    """Return a command whose program is, where it has a relative path, that of the directory it runs in."""
    is_relative = "/" in command[0] and not command[0].startswith("/")
    return ["sh", "-c", 'exec "$@"', "sh", *command] if is_relative else list(command)


def _redactor(action: Action) -> Redactor:
    """Return what masks the values of those variables that are secrets by their name."""
    redactor = Redactor()
    for name, value in action.environment.items():
        if _SECRET_NAME.search(name):
            redactor.add(value)
    return redactor


def _last_line(done: process.Completed) -> str:
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    return said.splitlines()[-1][:TAIL_LINES] if said else ""
