"""The set of the agent's own: state.db, its embedded database, its configuration, and what the root half trusts.

No container stands still for it. What is in the agent's directory is written by the agent's own commands, run as its
user: so root follows no link there, and takes part in no lock. state.db comes first: what was shipped from it until the
database is dumped is in both then, and is known again.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import homelab_agent
from homelab_agent.backup import pipes, trust, wire
from homelab_agent.backup.layout import Place
from homelab_agent.backup.point import Engine, Point, Said, Source
from homelab_agent.backup.settings import AGENT_SET, ARCHIVE, BackupSettings
from homelab_agent.core import privilege, process
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.whereabouts import Whereabouts

STATE = f"dumps/{AGENT_SET}/state.sqlite"
DATABASE = f"dumps/{AGENT_SET}/homelab.pgdump"
"""The members, named as those of containers are."""
TRUST = "trust"
"""The key of `about` that says which member is the root half's file of what it trusts."""

_GRACE_SECONDS = 10.0


class CommandFailed(AgentError):
    """`homelab-agent {words}` failed."""

    repair = "see the cause, and: homelab-agent doctor"

    @classmethod
    def of(cls, words: Sequence[str], done: process.Completed) -> CommandFailed:
        """Return it for a command that has ended so."""
        said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        return cls(words=" ".join(words), cause="; ".join(said[:3])[:500] or f"exit code {done.code}")


@dataclass(frozen=True, slots=True)
class OwnDump:
    """Implements `point.Dump`: what one of the agent's own commands writes; `about` says how it is read again."""

    member: str
    words: Sequence[str]
    where: Whereabouts = field(repr=False)
    about: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give it piece by piece; raises `CommandFailed` where the command fails, also after its output."""
        source, child = await pipes.begun(
            lambda sink: begun(self.where, self.words, sink, pipes.TO_DESCRIPTOR), reads=False
        )
        try:
            yield pipes.pieces_of(source)
            done = await child.wait()
        except BaseException:
            await child.stop(_GRACE_SECONDS)
            raise
        finally:
            os.close(source)
        if done.code:
            raise CommandFailed.of(self.words, done)


async def as_agent(where: Whereabouts) -> process.Given:
    """Return what a command of the agent's is given, so that it is run as its user and finds what that finds."""
    user = await asyncio.to_thread(lambda: privilege.user(privilege.owner(where.directory)))
    return {
        "env": {**user.environment, "STATE_DIRECTORY": str(where.directory)},
        "keep": (*process.KEPT, *where.variables),
        "user": user.switch,
        "groups": user.groups,
    }


async def begun(where: Whereabouts, words: Sequence[str], descriptor: int, redirection: str) -> process.Child:
    """Start one of the agent's commands as its user, with a pipe's end as its input or output (`pipes`)."""
    given = await as_agent(where)
    if user := given["user"]:
        os.fchown(descriptor, *user)  # it is opened by its name there
    given["descriptors"] = (descriptor,)
    return await process.start(["sh", "-c", redirection, str(descriptor), *where.command, *words], **given)


@dataclass(frozen=True, slots=True)
class OwnPlan:
    """What the set has at an engine; `bytes` without the database's dump, whose size is not known before."""

    sources: Sequence[Source]
    dumps: Sequence[OwnDump]
    bytes: int
    notes: Sequence[str]


def plan(settings: BackupSettings, where: Whereabouts, engine: str = "") -> OwnPlan:
    """Return it, for any engine without one; blocking. What holds secrets goes nowhere but to who encrypts."""
    notes: list[str] = []
    files = [where.configuration] if where.configuration is not None else []
    files += [settings.records / "trust"] if (settings.records / "trust").exists() else []
    if engine != ARCHIVE:
        files += [path for path in where.secret_files if _may_be_read(path, notes)]
    if where.secret_files and engine in {"", ARCHIVE}:
        names = ", ".join(map(str, where.secret_files))
        notes.append(f"not in its archives, which are not encrypted: {names}")
    if where.secrets_elsewhere:
        notes.append(f"the configuration's secrets of {', '.join(sorted(where.secrets_elsewhere))} are not in it")
    dumps = [_state(where)] if (where.directory / "state.db").exists() else []
    if not where.has_embedded:
        notes.append("its database is elsewhere ([database] url), and not its own to dump")
    elif (where.directory / "postgres").exists():
        dumps.append(_database(where))
    else:
        notes.append("it has no embedded database yet")
    sources = [Source(Place(path.resolve()).member, path.resolve()) for path in dict.fromkeys(files)]
    measured = [*(source.path for source in sources), where.directory / "state.db"]
    return OwnPlan(sources, dumps, sum(path.stat().st_size for path in measured if path.exists()), notes)


def told(settings: BackupSettings, where: Whereabouts) -> Mapping[str, Any]:
    """Return the plan as a program is told, as of every set (`alone.told`); blocking."""
    found = plan(settings, where)
    return {
        "name": AGENT_SET,
        "mode": "dump",
        "how": "none",
        "verdict": "dump",
        "members": [source.member for source in found.sources],
        "dumps": [one.about["what"] for one in found.dumps],
        "frozen": [],
        "freeze_seconds": 0.0,
        "bytes": found.bytes,
        "refusals": [],
        "notes": list(found.notes),
        "entry": {},
    }


async def take(settings: BackupSettings, where: Whereabouts, engine: Engine, say: Said) -> wire.Done:
    """Take a copy, and return what counts now; raises what its parts raise, and nothing counts then."""
    clock = SystemClock()
    found = await asyncio.to_thread(plan, settings, where, engine.name)
    await engine.room(AGENT_SET, found.bytes)
    point = Point(AGENT_SET, clock.read().wall, "dump", found.sources, found.dumps, _about(settings, where, found))
    copied = await engine.copy(point, say)
    archive = await engine.finish(copied, point, say)
    troubles = await trust.note_written(settings.records, archive, clock.read().wall)
    return wire.Done(archive, notes=found.notes, troubles=troubles)


def _state(where: Whereabouts) -> OwnDump:
    about = {"container": "", "kind": "sqlite", "what": "state.db", "path": str(where.directory / "state.db")}
    return OwnDump(STATE, ("state", "dump"), where, about)


def _database(where: Whereabouts) -> OwnDump:
    about = {"container": "", "kind": "postgres", "what": "homelab", "load": "homelab-agent db load"}
    return OwnDump(DATABASE, ("db", "dump"), where, about)


def _about(settings: BackupSettings, where: Whereabouts, found: OwnPlan) -> Mapping[str, Any]:
    trusted = [source.member for source in found.sources if source.path == (settings.records / "trust").resolve()]
    return {
        "host": os.uname().nodename,
        "agent": homelab_agent.__version__,
        "mode": "dump",
        "how": "none",
        "state": str(where.directory),
        "dumps": {one.member: one.about for one in found.dumps},
        **({TRUST: trusted[0]} if trusted else {}),
    }


def _may_be_read(path: Path, notes: list[str]) -> bool:
    """Return whether a file is what its name says: nobody but root, or us, can put a link in its place."""
    try:
        chain = [one.lstat() for one in (path, *path.parents)]
    except OSError as error:
        notes.append(f"{path} is not in it: {describe(error)}")
        return False
    is_safe = stat.S_ISREG(chain[0].st_mode) and all(map(_keeps, chain[1:], chain))
    if not is_safe:
        notes.append(f"{path} is not in it: others than root may put another file there")
    return is_safe


def _keeps(directory: os.stat_result, entry: os.stat_result) -> bool:
    """Return whether nobody but root or us can change what an entry of a directory is."""
    ours = {0, os.geteuid()}
    if not stat.S_ISDIR(directory.st_mode) or directory.st_uid not in ours:
        return False
    is_shared = directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not is_shared or bool(directory.st_mode & stat.S_ISVTX and entry.st_uid in ours)
