"""Commands of containers before and after their set is copied, as their labels say.

`homelab-agent.backup.before` and `.after`, each with `.user`; and those of offen/docker-volume-backup that mean the
same: `docker-volume-backup.archive-pre` and `archive-post`, in older files `exec-pre` and `exec-post`. As there, a
label is split into words as a shell would, and no shell runs it: `sh -c '...'` is for redirections.
https://offen.github.io/docker-volume-backup/how-tos/run-custom-commands.html

What runs afterwards is noted on disk before anything runs. A run that is killed leaves that to `resume`, which does it.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from homelab_agent.backup import docker_errors
from homelab_agent.backup.control import Control
from homelab_agent.backup.frozen import Entry, Frozen, Held, RecordsUnusable
from homelab_agent.backup.inventory import Container
from homelab_agent.core import journal, waiting
from homelab_agent.core.errors import AgentError, describe

When: TypeAlias = Literal["before", "after"]
HOOK_SECONDS = 1800.0
"""How long one may take: a dump may be one."""
LEFT_SECONDS = 240.0
"""How long one may take that a killed run has left: who has all resumed does not wait for half an hour."""
OURS = "homelab-agent.backup."
OFFENS = "docker-volume-backup."
_LABELS: dict[When, Sequence[str]] = {
    "before": (f"{OURS}before", f"{OFFENS}archive-pre", f"{OFFENS}exec-pre"),
    "after": (f"{OURS}after", f"{OFFENS}archive-post", f"{OFFENS}exec-post"),
}
_NOT_OURS = tuple(f"{OFFENS}{step}-{end}" for step in ("process", "copy", "prune") for end in ("pre", "post"))

log = journal.logger("backup")


class HookFailed(AgentError):
    """The command of {container} before its copy ({label}) failed, so nothing was frozen or copied."""

    repair = "run it by hand: docker exec {container} ...; or change its label {label}"


class HookFailedAfter(AgentError):
    """The command of {container} after its copy ({label}) failed; the copy is good, and is kept."""

    repair = "run it by hand: docker exec {container} ...; or change its label {label}"


class HookUnreadable(AgentError):
    """The label {label} of {container} is no command: a quote in it does not end."""

    repair = "change that label"


_OVER = (docker_errors.CommandFailed, docker_errors.CommandTooSlow, HookUnreadable)
"""After these a command is not run once more; after others, as of a Docker that is away, it may not have run at all."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A command that a label of a container names, and as which of its users it is to run ("": its own)."""

    label: str
    command: str
    user: str


def hook(container: Container, when: When) -> Hook | None:
    """Return a container's command, the first of the labels that mean it; None where it has none."""
    for label in _LABELS[when]:
        if command := container.labels.get(label, "").strip():
            return Hook(label, command, container.labels.get(f"{label}.user", ""))
    return None


def notes(containers: Sequence[Container]) -> Sequence[str]:
    """Return what a person is told of the labels of a set's containers."""
    found = []
    for one in containers:
        its = {when: hook(one, when) for when in _LABELS if one.running}
        found += [f"{one.name} runs a command {when} it is copied ({it.label})" for when, it in its.items() if it]
        unknown = [label for label in _NOT_OURS if label in one.labels]
        if unknown:
            found.append(f"{', '.join(unknown)} of {one.name} is not run: no such step is taken here")
    return found


class Hooks:
    """Those of the containers of a set that run; `said` is told of each that ran, and how it ended."""

    def __init__(
        self, control: Control, containers: Sequence[Container], records: Path, said: Callable[[str, str], None]
    ) -> None:
        """`said` takes a container's name and what became of its command; `records` is the root half's directory."""
        self.failed: list[HookFailedAfter] = []
        """What went wrong afterwards."""
        self._control = control
        self._records = records_of(records)
        self._containers = [one for one in containers if one.running and any(hook(one, when) for when in _LABELS)]
        self._said = said
        self._held: list[tuple[Container, Held]] = []

    @asynccontextmanager
    async def around(self) -> AsyncIterator[None]:
        """Run what is to run before, and what is to run afterwards, that also where the context is cancelled or fails.

        Raises `HookFailed` at the first that fails before; afterwards none keeps the others from running.
        """
        try:
            try:
                await self._before()
                yield
            finally:
                await waiting.to_the_end(self._after())
        finally:
            self._records.close()

    async def _before(self) -> None:
        for one in self._containers:
            if hook(one, "after"):
                entry = Entry(one.id, "hooked", one.identity)
                self._held.append((one, await self._records.note(entry)))
        for one in self._containers:
            if (it := hook(one, "before")) is not None:
                try:
                    await _run(self._control, one, it)
                except AgentError as error:
                    cause = docker_errors.last_words(error)
                    raise HookFailed(container=one.name, label=it.label, cause=cause) from error
                self._said(one.name, f"its command before the copy ran ({it.label})")

    async def _after(self) -> None:
        for one, held in self._held:
            it = hook(one, "after")
            assert it is not None  # noqa: S101 - only such are held
            try:
                await _run(self._control, one, it)
            except AgentError as error:
                cause = docker_errors.last_words(error)
                self.failed.append(HookFailedAfter(container=one.name, label=it.label, cause=cause))
                self._said(one.name, f"its command after the copy failed ({it.label}): {cause}")
                if not isinstance(error, _OVER):
                    await self._records.release(held)  # who resumes makes up for it
                    continue
            else:
                self._said(one.name, f"its command after the copy ran ({it.label})")
            try:
                await self._records.remove(held)
            except RecordsUnusable as error:  # it has run; who makes up for what is left runs it once more
                log.warning("backup.entry_left", container=one.name, cause=str(error))
        self._held = []


def records_of(directory: Path) -> Frozen:
    """Return the notes, below the root half's records, of what is to run afterwards."""
    return Frozen(directory / "hooks")


async def run_left(control: Control, records: Frozen) -> Sequence[str]:
    """Run what runs that were killed have left to run afterwards; return the names of those containers.

    Of a container that does not run it waits: at a boot we may be there before Docker has started it.
    """
    left = await records.take()
    done: list[str] = []
    later = []
    try:
        while left:
            held = left[-1]
            try:
                done += await _make_up(control, held.entry)
            except AgentError as error:
                tell = log.info if isinstance(error, docker_errors.ContainerNotSo) else log.warning
                tell("backup.hook_left", container=held.entry.name, cause=describe(error))
                later.append(left.pop())
            else:
                await records.remove(left.pop())
    finally:
        for held in (*later, *left):
            await records.release(held)
    return done


async def _make_up(control: Control, entry: Entry) -> Sequence[str]:
    container = await control.container(entry.container)
    if container is None and entry.identity.name:
        container = await control.find(entry.identity)
    it = hook(container, "after") if container is not None else None
    if container is None or it is None:
        cause = "it has no such label any more" if container is not None else "it is gone"
        log.warning("backup.hook_dropped", container=entry.name, cause=cause)
        return []
    if not container.running:
        raise docker_errors.ContainerNotSo(action="run the command after its copy in", container=container.name)
    try:
        await _run(control, container, it, seconds=LEFT_SECONDS)
    except _OVER as error:
        log.warning("backup.hook_failed", container=container.name, label=it.label, cause=describe(error))
    return [container.name]


async def _run(control: Control, container: Container, it: Hook, *, seconds: float = HOOK_SECONDS) -> None:
    try:
        words = shlex.split(it.command)
    except ValueError as error:
        raise HookUnreadable(container=container.name, label=it.label, cause=error) from error
    async with control.execute(container.id, words, user=it.user, seconds=seconds) as pieces:
        async for _ in pieces:
            pass
    log.info("backup.hook", container=container.name, label=it.label)
