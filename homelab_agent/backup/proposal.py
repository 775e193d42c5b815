"""What a set of the configuration means on this host, and which sets there could be; pure.

Nothing here asks Docker or reads a file: `docker.py` has given the inventory, `sizes.py` measured the sources.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from homelab_agent.backup import databases, hooks, layout
from homelab_agent.backup.dumping import PlannedDump, Replaced, dumps_of
from homelab_agent.backup.inspected import is_bind
from homelab_agent.backup.inventory import Container, Inventory
from homelab_agent.backup.layout import Layout, Place
from homelab_agent.backup.point import Source, Verdict
from homelab_agent.backup.settings import AGENT_SET, CHECKS, UNDO, BackupSet, BackupSettings
from homelab_agent.backup.sizes import Size
from homelab_agent.core.errors import AgentError

BYTES_PER_SECOND = 300e6
"""What tar and zstd read on a small host, measured with a cold cache."""
UNUSED = "unused-volumes"
"""The proposed set of volumes that no container mounts."""
How: TypeAlias = Literal["pause", "stop", "none"]
_PROXIES = re.compile(r"traefik|caddy|haproxy|envoy|swag|nginx-proxy(-manager)?|npmplus|cloudflared|zoraxy|pomerium")
_HOUSE = re.compile(
    r"home-?assistant|openhab|node-red|zigbee2mqtt|zwave-?js(-ui|2mqtt)|(eclipse-)?mosquitto|iobroker|fhem|domoticz"
    r"|esphome|homebridge|deconz|scrypted|emqx|matter-server|python-matter-server"
)
_NAMES = re.compile(r"pihole|pi-hole|adguardhome|unbound|technitium|dns-server|bind9|blocky|coredns|dnsmasq")


class SetRefused(AgentError):
    """The set {name} is not backed up as it is configured."""

    repair = "{repair}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a set is not backed up as it is, and what would let it be."""

    cause: str
    repair: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A set as it stands on this host now.

    `to_freeze` is in the order of stopping, and resumed in reverse; `how` says what is done to them. `bytes` is 0, and
    with it `freeze_seconds`, where nothing was measured. With a refusal nothing is to be done at all. `containers` are
    those of the set, `places` all that it covers, whether it is copied or dumped.
    """

    wanted: BackupSet
    sources: Sequence[Source] = ()
    dumps: Sequence[PlannedDump] = ()
    to_freeze: Sequence[Container] = ()
    how: How = "none"
    verdict: Verdict = "cold"
    bytes: int = 0
    freeze_seconds: float = 0.0
    refusals: Sequence[Refusal] = ()
    notes: Sequence[str] = ()
    containers: Sequence[Container] = field(default=(), repr=False)
    places: Sequence[Path] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The set's."""
        return self.wanted.name

    @property
    def mode(self) -> str:
        """As it is configured."""
        return self.wanted.mode

    def check(self) -> None:
        """Raise `SetRefused` where there is a refusal."""
        if self.refusals:
            cause, repair = "; ".join(one.cause for one in self.refusals), self.refusals[0].repair
            raise SetRefused(name=self.name, repair=repair, cause=cause)


def plan(wanted: BackupSet, inventory: Inventory, measured: Mapping[Path, Size] | None = None) -> Planned:
    """Return what a set is on this host. `measured` are the sizes of `Planned.sources`, which a first plan tells."""
    return _Plan(wanted, Layout(inventory), measured or {}).made()


def proposed(
    inventory: Inventory, settings: BackupSettings, measured: Mapping[Path, Size] | None = None
) -> Sequence[Planned]:
    """Return sets for what is in none yet; together with the configured ones they have every volume."""
    found = Layout(inventory)
    has = {path for one in settings.set for path in plan(one, inventory).places}
    names = {AGENT_SET, UNDO, *CHECKS, *(one.name for one in settings.set)}
    wanted: list[BackupSet] = []
    unused: list[str] = []
    for group in found.groups():
        if all(place.path in has for place in group):
            continue
        if any(found.owners[place] for place in group):
            wanted.append(_candidate(group, found, names))
        else:
            unused += sorted(place.volume for place in group if place.path not in has)
    if unused:
        wanted.append(BackupSet(name=_free(UNUSED, names), volumes=unused))
    return [_Plan(one, found, measured or {}).made() for one in wanted]


def entry(wanted: BackupSet) -> Mapping[str, Any]:
    """Return the keys of a set that differ from what is usual, as the configuration's writer takes them."""
    return wanted.model_dump(mode="json", exclude_defaults=True)


def toml(wanted: BackupSet) -> str:
    """Return the text of `[[backup.set]]` for a set without dumps or hooks of its own, as proposals are."""
    # A string or list of JSON is one of TOML too, but for the character DEL.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry(wanted).items()]
    return "\n".join(["[[backup.set]]", *lines, ""]).replace("\x7f", "\\u007f")


def others_live_from(container: Container) -> str:
    """Return what a house would miss while this container stands still; "" where it is not known for anything."""
    repository = databases.repository_of(container.image)
    if {"53/udp", "53/tcp"} & container.ports or _NAMES.fullmatch(repository):
        return "it answers DNS"
    if _PROXIES.fullmatch(repository) or (repository == "nginx" and "443/tcp" in container.ports):
        return "it is the way to others (reverse proxy)"
    if _HOUSE.fullmatch(repository):
        return "it runs the house (home automation)"
    return ""


def _candidate(group: frozenset[Place], found: Layout, names: set[str]) -> BackupSet:
    """Return the set for places that belong together: of one project, with what else shares its writers."""
    owners = [owner for place in group for owner in found.owners[place]]
    projects = sorted({one for one in owners if one.startswith("project:")}, key=lambda one: (-owners.count(one), one))
    first = projects[0].partition(":")[2] if projects else ""
    others = sorted(group - set(found.of_project(first) if first else ()))
    name = first or min(owners).partition(":")[2]
    return BackupSet(
        name=_free(name, names),
        project=first,
        volumes=[place.volume for place in others if place.volume],
        paths=[place.path for place in others if not place.volume],
    )


def _free(name: str, names: set[str]) -> str:
    """Return a name that a set may have and none has yet."""
    base = re.sub(r"[^a-z0-9_.-]", "-", name.lower()).lstrip("_.-")[:56] or "set"
    free = next(one for one in (base, *(f"{base}-{number}" for number in range(2, 10_000))) if one not in names)
    names.add(free)
    return free


class _Plan:
    """One set in the making."""

    def __init__(self, wanted: BackupSet, found: Layout, measured: Mapping[Path, Size]) -> None:
        self._set = wanted
        self._layout = found
        self._measured = measured
        self._containers = found.inventory.containers
        self._refusals: list[Refusal] = []
        self._notes: list[str] = []

    def made(self) -> Planned:
        places = self._places()
        dumps, replaced = dumps_of(self._set, self._containers, self._members(places), self._refuse)
        sources = self._sources(places, replaced)
        writers = self._writers(sources, replaced)
        freezes = self._set.mode in {"auto", "pause", "stop"}
        to_freeze = [one for one in writers if one.running and one.name not in replaced.dumping] if freezes else []
        self._guard(to_freeze, places)
        total = self._total(sources)
        seconds = total / BYTES_PER_SECOND if to_freeze else 0.0
        self._bound(total, seconds, dumps)
        return Planned(
            self._set,
            sources,
            dumps,
            to_freeze,
            ("stop" if self._set.mode == "stop" else "pause") if to_freeze else "none",
            self._verdict(sources, dumps, writers, to_freeze),
            total,
            seconds,
            self._refusals,
            [*self._notes, *hooks.notes(self._members(places))],
            self._members(places),
            [place.path for place in places],
        )

    def _refuse(self, cause: str, repair: str) -> None:
        self._refusals.append(Refusal(cause, repair))

    def _key(self, line: str) -> str:
        return f"in the set {self._set.name}: {line}"

    def _places(self) -> Sequence[Place]:
        inventory, named = self._layout.inventory, self._set.volumes
        found = list(self._layout.of_project(self._set.project)) if self._set.project else []
        if self._set.project and not found and not self._members(found):
            self._refuse(f"there is no compose project {self._set.project}", "docker compose ls --all")
        for name in named:
            if name in inventory.volumes:
                found.append(Place(inventory.volumes[name].path, name))
            else:
                self._refuse(f"there is no volume {name}", "docker volume ls")
        found += [Place(path) for path in self._set.paths]
        if inventory.refused and any(place.volume for place in found):
            repair = self._key("paths = [...] instead of volumes, or let Docker run as root on this host")
            self._refuse(inventory.refused, repair)
        return list(dict.fromkeys(found))

    def _members(self, places: Iterable[Place]) -> Sequence[Container]:
        """Return the containers of the set: of its project, and who mounts its places."""
        wanted = set(places)
        return [
            one
            for one in self._containers
            if (self._set.project and one.identity.project == self._set.project)
            or any(self._layout.place(mount) in wanted for mount in one.mounts)
        ]

    def _sources(self, places: Sequence[Place], replaced: Replaced) -> Sequence[Source]:
        if self._set.mode == "dump":
            return []
        kept = [place for place in places if not replaced.all_of(place.path)]
        for place in places:
            if place not in kept:
                self._notes.append(f"{place.volume or place.path} is not copied: what is in it is dumped")
        for place in kept:
            if place.volume:
                self._check_volume(place.volume)
        files = [Place(path) for one in self._members(places) for path in self._files_of(one)]
        found: list[Source] = []
        for place in sorted({*kept, *files}, key=lambda one: (len(one.path.parts), one)):
            if any(place.path.is_relative_to(source.path) for source in found):
                continue  # it is read with what it is in
            size = self._measured.get(place.path)
            if size is not None and size.missing:
                self._miss(place)
                continue
            exclude = [*self._set.exclude, *replaced.parts_of(place.path)]
            found.append(Source(place.member, place.path, exclude, self._set.exclude_caches))
        return sorted(found, key=lambda one: one.member)

    def _files_of(self, container: Container) -> Sequence[Path]:
        return container.compose_files if container.identity.project == self._set.project else ()

    def _miss(self, place: Place) -> None:
        if place.volume or place.path in self._set.paths:
            self._refuse(f"{place.path} is not on this host", self._key(f"leave out {place.volume or place.path}"))
        else:
            self._notes.append(f"{place.path} is not on this host, and so not in the set")

    def _check_volume(self, name: str) -> None:
        volume = self._layout.inventory.volumes.get(name)
        if volume is None:
            return
        options = volume.options
        if volume.driver != "local":
            kind = f"is kept by the driver {volume.driver}"
        elif not is_bind(options) and (options.get("device") or options.get("type")):
            kind = f"is mounted by Docker while it is used ({options.get('type', '')} {options.get('device', '')})"
        else:
            return
        repair = "back it up where it really is, or mount it on the host and name it: " + self._key("paths = [...]")
        self._refuse(f"the volume {name} {kind}, and cannot be read from here", repair)

    def _writers(self, sources: Sequence[Source], replaced: Replaced) -> Sequence[Container]:
        """Return who writes what is copied, in the order of stopping; say who stands still already."""
        names = {one.name for source in sources for one in self._layout.writers(source.path)}
        found = [one for one in layout.stopping_order(self._containers) if one.name in names - replaced.databases]
        for one in found:
            if one.state == "paused":
                self._notes.append(f"{one.name} is paused already, and stays so")
            elif one.state == "restarting":
                repair = f"docker logs {one.name}; docker stop {one.name}"
                self._refuse(f"{one.name} starts again and again, and may write at any moment", repair)
            elif not one.running:
                self._notes.append(f"{one.name} does not run ({one.state}), and stays so")
        return found

    def _guard(self, to_freeze: Sequence[Container], places: Sequence[Place]) -> None:
        allowed = set(self._set.may_freeze)
        paths = [place.path for place in places]
        for one in to_freeze:
            why = others_live_from(one)
            if why and not {one.name, one.identity.service} & allowed:
                repair = self._key(f'may_freeze = ["{one.name}"], or mode = "live" if what it writes may change')
                self._refuse(f"{one.name} would stand still, and {why}", repair)
            written = self._layout.written_by(one)
            outside = [place for place in written if not any(layout.overlap(place.path, path) for path in paths)]
            if outside and len(outside) < len(written):  # who owns nothing here is a guest: its own is another set
                volumes = [place.volume for place in outside if place.volume]
                others = [str(place.path) for place in outside if not place.volume]
                lines = [f"{key} += {json.dumps(got)}" for key, got in (("volumes", volumes), ("paths", others)) if got]
                cause = f"{one.name} writes {', '.join(volumes + others)} too, which is to be of the same moment"
                self._refuse(cause, self._key(", ".join(lines)))

    def _total(self, sources: Sequence[Source]) -> int:
        sizes = [self._measured.get(source.path, Size()) for source in sources]
        if not all(one.complete for one in sizes):
            self._notes.append("it was not measured to its end: its size is the least it can be")
        return sum(one.bytes for one in sizes)

    def _bound(self, total: int, seconds: float, dumps: Sequence[PlannedDump]) -> None:
        if self._set.mode == "dump" and not dumps:
            repair = self._key('mode = "auto", or a [[backup.set.dump]]')
            self._refuse("nothing in it is known to dump itself", repair)
        if 0 < self._set.max_bytes < total:
            repair = self._key(f"max_bytes = {total + total // 4}, or exclude = [...]")
            self._refuse(f"it has {total} bytes, more than its max_bytes", repair)
        if seconds > self._set.freeze_budget:
            ways = ['mode = "live" if what it writes may change', f"freeze_budget = {math.ceil(seconds * 1.5)}"]
            ways = [*(['mode = "dump", which copies no files'] if dumps else []), *ways]
            cause = f"its containers would stand still for {seconds:.0f} s, more than {self._set.freeze_budget:g} s"
            self._refuse(cause, self._key(", or ".join(ways)))

    def _verdict(
        self,
        sources: Sequence[Source],
        dumps: Sequence[PlannedDump],
        writers: Sequence[Container],
        to_freeze: Sequence[Container],
    ) -> Verdict:
        unseen = [source for source in sources if source.path in self._set.paths]
        unseen = [source for source in unseen if not self._layout.writers(source.path)]
        for source in unseen:
            self._notes.append(f"who writes {source.path} is not known: no container does")
        if unseen or any(one.running and one not in to_freeze for one in writers):
            return "live"
        paused = any(one.state == "paused" for one in writers) or (to_freeze and self._set.mode != "stop")
        if paused:
            return "crash"
        return "dump" if dumps else "cold"
