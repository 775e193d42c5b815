"""What this host is made of, with the date of each change: what somebody asks who looks for what was different."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.metrics import block
from homelab_agent.metrics.collectors import mounts
from homelab_agent.metrics.entity import legible
from homelab_agent.metrics.host import Host, NotAvailable, number, text
from homelab_agent.metrics.instants import may_stamp
from homelab_agent.metrics.settings import MetricsSettings

LOOK_SECONDS = 600.0
RESTING_MAX = 1000
"""Of so many containers that do not run it is remembered which image they ran; of more, of none."""
UNSET_SECONDS = 1.0
"""How often it is asked whether the clock is set."""

Known: TypeAlias = Mapping[tuple[str, str], str]
"""A fact's value by its name (`kernel`, `disk`) and key (which disk; "" for the host as a whole)."""

log = journal.logger("metrics")


class Facts:
    """Notes what has changed since it looked last, which may be before the last start."""

    def __init__(
        self,
        host: Host,
        settings: MetricsSettings,
        clock: Clock,
        state: State,
        spool: Spool,
        images: Callable[[], Mapping[str, str]] = dict,
        *,
        synchronised: Callable[[], bool],
    ) -> None:
        """`images` says which image each container runs that is known now, `synchronised` whether the clock is kept."""
        self._images = images
        self._synchronised = synchronised
        self._host = host
        self._settings = settings
        self._clock = clock
        self._state = state
        self._spool = spool

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings; what they show or leave out counts from the next look."""
        self._settings = settings

    async def watch(self) -> None:
        """Look now and then, until cancelled; what cannot be noted now is noted by a later look.

        Before the clock is set it does not look: what a start has changed would bear a time of the past for ever.
        """
        while not may_stamp(self._clock.read(), synchronised=self._synchronised()):
            await self._clock.sleep(about(self._clock.read(), UNSET_SECONDS))
        while True:
            try:
                await self.look()
            except AgentError as error:  # the check "state" says so, too
                log.debug("metrics.facts_not_noted", cause=str(error))
            await self._clock.sleep(about(self._clock.read(), LOOK_SECONDS))

    async def look(self) -> None:
        """Note what is now, where that is news; raises `StateUnavailable`."""
        images = {("image", legible(key)): legible(value) for key, value in self._images().items()}
        now = dict(await asyncio.to_thread(read, self._host, self._settings)) | images
        at = self._clock.read().wall
        changes: list[tuple[tuple[str, str], str | None, str | None]] = []
        is_first = False

        def work(connection: sqlite3.Connection) -> Sequence[Row]:
            nonlocal is_first
            query = "SELECT name, key, value FROM metrics_fact"
            before = {(name, key): value for name, key, value in connection.execute(query)}
            is_first = not before
            # A container that does not run now, or has no name yet, has what it had.
            resting = {fact for fact in before.keys() - now.keys() if fact[0] == "image"}
            forgotten = resting if len(resting) > RESTING_MAX else set()  # names that Docker makes up come and go
            changes[:] = [
                (fact, before.get(fact), now.get(fact))
                for fact in sorted((before.keys() | now.keys()) - resting)
                if before.get(fact) != now.get(fact)
            ]
            gone = [*(fact for fact, _, value in changes if value is None), *forgotten]
            connection.executemany("DELETE FROM metrics_fact WHERE name = ? AND key = ?", gone)
            new = [(*fact, value) for fact, _, value in changes if value is not None]
            connection.executemany("INSERT OR REPLACE INTO metrics_fact VALUES (?, ?, ?)", new)
            return [
                Row(
                    "fact",
                    ("host", "name", "key", "since"),
                    {"host": self._host.name, "name": name, "key": key, "since": at, "value": value, "was": was},
                    at,
                )
                for (name, key), was, value in changes
            ]

        await self._spool.promise(work)
        for (name, key), was, value in [] if is_first else changes:
            log.info("metrics.changed", fact=name, of=key, was=was, now=value)


def read(host: Host, settings: MetricsSettings) -> Known:
    """Return what is so now. Blocking; what the host does not tell is left out."""
    release = _release(host.path("/etc/os-release"))
    dmi, model = host.path("/sys/class/dmi/id"), text(host.path("/proc/device-tree/model")).rstrip("\0")
    vendor, product = text(dmi / "sys_vendor"), text(dmi / "product_name")
    versions = (text(dmi / file) for file in ("bios_vendor", "bios_version", "bios_date"))
    found: dict[tuple[str, str], str] = {
        ("os", ""): f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".strip(),
        ("kernel", ""): text(host.path("/proc/sys/kernel/osrelease")),
        ("machine", ""): model or f"{vendor} {product}".strip(),
        ("firmware", ""): " ".join(filter(None, versions)),
    }
    found |= {("disk", key): value for key, value in _disks(host, settings).items()}
    found |= {("network", key): value for key, value in _cards(host.path("/sys/class/net")).items()}
    found |= {("mount", key): value for key, value in _mounts(host, settings).items()}
    return {(name, legible(key)): legible(value) for (name, key), value in found.items() if value}


def _release(path: Path) -> Mapping[str, str]:
    """Return the variables of os-release(5)."""
    pairs = (line.partition("=") for line in text(path).splitlines())
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _disks(host: Host, settings: MetricsSettings) -> Mapping[str, str]:
    """Return each disk's model and bytes; where it is plugged in is no fact about it."""
    found = {}
    for name, key in block.keys(host, block.names(host), settings).items():
        directory = block.directory(host, name)
        size = (number(directory / "size") or 0) * block.SECTOR_BYTES
        if size:  # a card reader without a card is none
            found[key] = f"{text(directory / 'device/model')} {size} bytes".strip()
    return found


def _cards(directory: Path) -> Mapping[str, str]:
    """Return what each network card is called; interfaces that no device is behind come and go all day."""
    return {
        address: path.name
        for path in _listed(directory)
        if (path / "device").exists() and (address := text(path / "address"))
    }


def _mounts(host: Host, settings: MetricsSettings) -> Mapping[str, str]:
    """Return what is mounted at each place to show, by UUID: which of sda and sdb it is changes with each boot."""
    try:
        listed = mounts.listed(host)
    except NotAvailable:
        return {}
    known, dev = mounts.uuids(host.path("/dev/disk/by-uuid")), host.path("/dev")
    shown = mounts.choose(mounts.parse(listed), settings)
    return {one.point: f"{one.type} {mounts.identity(one, known, dev)}" for one in shown}


def _listed(directory: Path) -> Sequence[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return ()
