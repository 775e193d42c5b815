"""What `homelab-agent doctor backup` asks, as root, with or without an agent; no container is touched."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from homelab_agent.backup import catalogue, disks, engines, kit, proposal, undo_doctor
from homelab_agent.backup.catalogue import Entry
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.inventory import Inventory
from homelab_agent.backup.opening import secrets_of
from homelab_agent.backup.restic import program
from homelab_agent.backup.settings import AGENT_SET, ARCHIVE, BackupSettings, Repository
from homelab_agent.core import process, statefile
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.secret import Secrets

_SECONDS = 30.0
_REPOSITORY_SECONDS = 180.0
_STALE = timedelta(hours=36)
_UNREAD = timedelta(days=8)
_EXPANDS_HOLES = (0, 15)
_PACKAGES: Mapping[str, str] = {"tar": "tar", "zstd": "zstd", "nice": "coreutils", "ionice": "util-linux"}
_ROOT = "sudo homelab-agent doctor backup"


def checks(settings: BackupSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return the checks that need no agent; `directory` is its state directory."""
    ages = [
        Check(f"backup.{one.name}", partial(_ages, directory, one.name), deadline=_SECONDS) for one in settings.covered
    ]
    return [*beside(settings, directory, secrets), *ages]


def beside(settings: BackupSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return those that a running agent does not ask itself."""
    found = [Check("backup.programs", _programs, deadline=_SECONDS)]
    if settings.repository:
        found.append(Check("backup.restic", _restic, deadline=_SECONDS))
    if os.geteuid() != 0:
        return [*found, Check("backup.root", _not_root)]
    found += [
        Check("backup.docker", partial(_docker, settings), deadline=_SECONDS),
        Check("backup.records", partial(_in_thread, _records, settings), deadline=_SECONDS),
        Check("backup.undo", partial(undo_doctor.kept, settings), deadline=_SECONDS),
        Check("backup.directory", partial(_in_thread, _directory_takes, settings), deadline=_SECONDS),
        Check("backup.disk", partial(_disk, settings, directory), deadline=_SECONDS),
    ]
    for one in settings.repository:
        opens = partial(_opens, settings, one, secrets)
        found.append(Check(f"backup.repository:{one.name}", opens, deadline=_REPOSITORY_SECONDS))
        found.append(Check(f"backup.kit:{one.name}", partial(_in_thread, _kit, settings, one.name)))
    return found


async def _in_thread(probe: Callable[..., Finding], *given: object) -> Finding:
    return await asyncio.to_thread(probe, *given)


async def _not_root() -> Finding:
    return Finding(State.NOT_AVAILABLE, "Docker, the copies and what is noted of them are root's alone", _ROOT)


async def _programs() -> Finding:
    """Say whether there is what archives are written with, and what `restore.sh` needs."""
    lacking = [name for name in _PACKAGES if await asyncio.to_thread(process.find, name) is None]
    repair = f"apt install {' '.join(sorted({_PACKAGES[name] for name in lacking}))}"
    if set(lacking) - {"zstd"}:
        return Finding.failed(f"archives cannot be written: {', '.join(lacking)} is missing", repair)
    said = (await process.run(["tar", "--version"], deadline=_SECONDS)).stdout.decode().partition("\n")[0]
    if "GNU tar" not in said:
        return Finding.failed(
            f"tar is not GNU tar ({said}), which alone keeps holes, ACLs and attributes", "apt install tar"
        )
    if lacking:
        return Finding.degraded(f"{said}; zstd is missing, which restore.sh needs", repair)
    return Finding.ok(f"{said}, and zstd for restore.sh")


async def _restic() -> Finding:
    try:
        version = await program.installed()
    except process.ProgramMissing as error:
        return Finding.failed(str(error), "apt install restic")
    said = f"restic {version[0]}.{version[1]}"
    return Finding.ok(said if version >= _EXPANDS_HOLES else f"{said}, which fills the holes of what it restores")


async def _docker(settings: BackupSettings) -> Finding:
    """Say whether Docker answers, and is one whose volumes are read from here."""
    try:
        async with Docker(settings.docker) as docker:
            found = await docker.inventory()
    except AgentError as error:
        return Finding.of(error)
    if found.refused:
        return Finding.failed(found.refused, "paths = [...] instead of volumes, or let Docker run as root on this host")
    running = sum(one.running for one in found.containers)
    return Finding.ok(f"Docker {found.version}: {running} containers run, {len(found.volumes)} volumes")


def _records(settings: BackupSettings) -> Finding:
    """Say whether what the root half notes outlives a power cut, and is there at boot."""
    place = settings.records
    if why := disks.trouble(place):
        return Finding.failed(f"{place} is no place for what was frozen: {why}", "[backup] records = a local directory")
    there = disks.nearest(place)
    status = there.stat()
    if there == place and (status.st_uid != 0 or status.st_mode & 0o022):
        return Finding.failed(
            f"others than root may change what is noted in {place}", f"chown root: {place}; chmod 700 {place}"
        )
    return Finding.ok(f"{place}, on a disk of this host{'' if there == place else '; made with the first run'}")


def _directory_takes(settings: BackupSettings) -> Finding:
    """Say whether archives can be written where they go."""
    if not any(ARCHIVE in one.engines for one in settings.covered):
        return Finding(State.DISABLED, "no set goes to `archive`")
    place, there = settings.directory, disks.nearest(settings.directory)
    if not there.is_dir() or os.statvfs(there).f_flag & os.ST_RDONLY or not os.access(there, os.W_OK | os.X_OK):
        return Finding.failed(f"{there} cannot be written to", f"findmnt -T {there}; or [backup] directory = another")
    free = os.statvfs(there).f_bavail * os.statvfs(there).f_frsize
    return Finding.ok(f"{place}: {free / 1e9:.1f} GB free")


async def _disk(settings: BackupSettings, directory: Path) -> Finding:
    """Say whether each set has a copy that is not lost together with it."""
    try:
        async with Docker(settings.docker) as docker:
            inventory = await docker.inventory()
    except AgentError as error:
        return Finding(State.NOT_AVAILABLE, f"where the sets are is not known: {error}", error.repair)
    try:
        alone = await asyncio.to_thread(_alone, settings, directory, inventory)
    except OSError as error:
        return Finding.failed(f"on which disks things are cannot be told: {describe(error)}", "findmnt; lsblk")
    if not alone:
        return Finding.ok("every set has a copy on another disk than its own")
    said = "; ".join(f"{name} and all its copies are on {disk}" for name, disk in alone.items())
    repair = (
        f"a [[backup.repository]] elsewhere, beside `{ARCHIVE}` in the set's `engines`; or another [backup] directory"
    )
    return Finding.failed(f"not a backup yet: {said}", repair)


def _alone(settings: BackupSettings, directory: Path, inventory: Inventory) -> Mapping[str, str]:
    """Return the sets that one disk's end takes, with all their copies, and the names of such disks."""
    places = {one.name: proposal.plan(one, inventory).places for one in settings.set}
    found = {}
    for one in settings.covered:
        of_set = frozenset[str]().union(*map(disks.disks, places.get(one.name, [directory])))
        copies = _copies(settings, one.engines)
        shared = [of_set & disks.disks(place) for place in copies if place is not None]
        if len(shared) == len(copies) and all(shared):
            found[one.name] = ", ".join(sorted(frozenset[str]().union(*shared)))
    return found


def _copies(settings: BackupSettings, names: Sequence[str]) -> Sequence[Path | None]:
    """Return where copies are on this host; None for elsewhere."""
    urls = {one.name: Path(one.url.removeprefix("local:")) for one in settings.repository}
    places = [settings.directory if name == ARCHIVE else urls[name] for name in names]
    return [place if place.is_absolute() else None for place in places]


async def _opens(settings: BackupSettings, repository: Repository, secrets: Secrets) -> Finding:
    """Say whether a repository opens with its password, and what it has."""
    try:
        given = await secrets_of(repository, secrets.find)
        archives = await engines.repository(settings, repository, given).list()
    except AgentError as error:
        return Finding.of(error)
    newest = f", the newest of {archives[-1].at:%Y-%m-%d %H:%M} UTC" if archives else ""
    return Finding.ok(f"it opens with its password: {len(archives)} archives{newest}")


def _kit(settings: BackupSettings, name: str) -> Finding:
    """Say whether somebody keeps what opens a repository without this machine."""
    since = kit.kept(settings.records).get(name)
    if since is None:
        said = f"nobody has said that what opens {name} is kept elsewhere: with this machine its password is lost"
        repair = f"homelab-agent backup kit --with-secrets, onto paper; then: homelab-agent backup kit --is-kept {name}"
        return Finding.degraded(said, repair)
    return Finding.ok(f"what opens {name} is kept elsewhere, somebody said on {since[:10]}")


async def _ages(directory: Path, name: str) -> Finding:
    """Say how old the newest copy of a set is, and when one was last read back and restored."""
    try:
        entries = [one for one in await asyncio.to_thread(_entries, directory) if one.set_name == name]
    except AgentError as error:
        return Finding(State.NOT_AVAILABLE, f"what the agent knows of copies cannot be read: {error}", error.repair)
    good = [one for one in entries if one.verdict != "dirty" and one.verified_ok is not False]
    if not good:
        return Finding.degraded("there is no copy yet", f"homelab-agent backup run {name}")
    now = SystemClock().read().wall
    read = max((one.verified_at for one in good if one.verified_at), default=None)
    proven = max((one.proven_at for one in good if one.proven_at), default=None)
    said = f"newest copy {_day(good[-1].at)}, read back {_day(read)}"
    said += "" if name == AGENT_SET else f", restored to prove it {_day(proven)}"
    if now - good[-1].at > _STALE:
        return Finding.degraded(said, f"homelab-agent backup run {name}")
    if read is None or now - read > _UNREAD:
        return Finding.degraded(said, f"homelab-agent backup verify {name}")
    return Finding.ok(said)


def _entries(directory: Path) -> Sequence[Entry]:
    with closing(statefile.read_only(directory)) as connection:
        try:
            return catalogue.there(connection)
        except sqlite3.Error as error:
            raise statefile.unavailable(directory, error, done="read") from error


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"
