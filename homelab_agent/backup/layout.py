"""Which places of the host hold data, whose they are and who writes them; pure.

A place is a volume, or a directory or file that is mounted writable. What belongs together is found from there: places
with a writer in common are stored at one moment, whatever projects they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from homelab_agent.backup.inventory import Container, Inventory, Mount
from homelab_agent.core import compose

T = TypeVar("T")
_ROOT = Path("/")
_SYSTEM = ("proc", "sys", "dev", "run", "var/run", "usr", "lib", "boot", "var/lib/containerd")
_ETC = ("localtime", "timezone", "group", "machine-id", "hosts", "hostname", "resolv.conf", "passwd")
_NO_DATA = (*(_ROOT / name for name in _SYSTEM), *(_ROOT / "etc" / name for name in _ETC))
"""What is the system's own, and the same on another host or of no use there."""
_WHOLE = ("etc", "tmp", "var", "var/lib", "var/log", "var/cache", "home", "srv", "mnt", "media", "opt", "root")
_BROAD = frozenset({_ROOT, *(_ROOT / name for name in _WHOLE)})
"""Who mounts one of these whole works on what others own: it owns nothing there, and may write all of it."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where data is; `volume` is its name, "" where it is mounted by its path."""

    path: Path
    volume: str = ""

    @property
    def member(self) -> str:
        """Its place in an archive."""
        return f"volumes/{self.volume}" if self.volume else f"paths{self.path}"


class Layout:
    """The places of an engine. `owners` of a place are projects (`project:NAME`) and containers without one."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._by_path = {one.path: one.name for one in sorted(inventory.volumes.values(), key=lambda one: one.name)}
        self.owners: Mapping[Place, frozenset[str]] = self._owners()

    def place(self, mount: Mount) -> Place | None:
        """Return the place that is mounted; None where it holds no data of its own."""
        if mount.kind == "volume":
            volume = self.inventory.volumes.get(mount.name)
            in_memory = volume is not None and volume.options.get("type") == "tmpfs"
            return None if in_memory else Place(volume.path if volume else mount.source, mount.name)
        if mount.source in self._by_path:
            return Place(mount.source, self._by_path[mount.source])
        return Place(mount.source) if self._is_data(mount.source) else None

    def written_by(self, container: Container) -> Sequence[Place]:
        """Return the places that a container may write."""
        found = (self.place(mount) for mount in container.mounts if mount.writable)
        return tuple(dict.fromkeys(place for place in found if place is not None))

    def writers(self, path: Path) -> Sequence[Container]:
        """Return who may write at a path or below it, also by way of a directory above it."""
        return [
            one
            for one in self.inventory.containers
            if any(mount.writable and overlap(mount.source, path) for mount in one.mounts)
        ]

    def of_project(self, name: str) -> Sequence[Place]:
        """Return the places of a project."""
        return sorted(place for place, owners in self.owners.items() if project(name) in owners)

    def groups(self) -> Sequence[frozenset[Place]]:
        """Return the places parted into what belongs together: by an owner in common, or one within the other."""
        parts = Parts()
        for place, owners in self.owners.items():
            parts.join(place, *owners)
        by_path: dict[Path, list[Place]] = {}
        for place in self.owners:
            by_path.setdefault(place.path, []).append(place)
        for path, places in by_path.items():
            for above in (path, *path.parents):
                parts.join(places[0], *places, *by_path.get(above, ()))
        found: dict[object, set[Place]] = {}
        for place in self.owners:
            found.setdefault(parts.root(place), set()).add(place)
        return sorted(map(frozenset, found.values()), key=min)

    def _owners(self) -> Mapping[Place, frozenset[str]]:
        found: dict[Place, set[str]] = {
            Place(one.path, one.name): {project(label)} if (label := one.labels.get(compose.PROJECT)) else set()
            for one in self.inventory.volumes.values()
            if one.options.get("type") != "tmpfs"
        }
        readers: dict[Place, set[str]] = {}
        for container in self.inventory.containers:
            for mount in container.mounts:
                place = self.place(mount)
                if place is not None and mount.writable:
                    found.setdefault(place, set()).add(owner(container))
                elif place is not None and place.volume:
                    found.setdefault(place, set())
                    readers.setdefault(place, set()).add(owner(container))
        for place, names in found.items():
            if not names and place in readers:
                names.add(min(readers[place]))
        return {place: frozenset(names) for place, names in found.items()}

    def _is_data(self, path: Path) -> bool:
        root = self.inventory.data_root
        if path in _BROAD or root.is_relative_to(path) or path.suffix == ".sock":
            return False
        return not any(path.is_relative_to(one) for one in (*_NO_DATA, root))


class Parts:
    """Things parted into sets that only grow together (union-find, by path halving)."""

    def __init__(self) -> None:
        self._above: dict[object, object] = {}

    def root(self, one: object) -> object:
        """Return who stands for all that are in one part with this."""
        above = self._above
        while above.setdefault(one, one) != one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    def join(self, *things: object) -> None:
        """Let these be in one part."""
        for one in things[1:]:
            self._above[self.root(one)] = self.root(things[0])


def project(name: str) -> str:
    """Return how a project is named among owners."""
    return f"project:{name}"


def owner(container: Container) -> str:
    """Return whose a container is: its project's, or its own."""
    return project(container.identity.project) if container.identity.project else f"container:{container.name}"


def overlap(one: Path, other: Path) -> bool:
    """Return whether two paths are the same, or one is below the other."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def innermost(path: PurePath, places: Iterable[T], where: Callable[[T], PurePath]) -> T | None:
    """Return in which of the places a path is, `where` each is; the innermost of several, None for none."""
    around = [one for one in places if path.is_relative_to(where(one))]
    return max(around, key=lambda one: len(where(one).parts), default=None)


def stopping_order(containers: Sequence[Container]) -> Sequence[Container]:
    """Return containers so that each comes before those that it depends on; started they are in reverse.

    Where services depend on one another in a circle, which Compose refuses, one of them is first all the same.
    """
    by_service: dict[tuple[str, str], list[Container]] = {}
    for one in sorted(containers, key=lambda one: (one.identity.project, one.name)):
        by_service.setdefault((one.identity.project, one.identity.service or one.name), []).append(one)
    needed_first: list[Container] = []
    seen: set[tuple[str, str]] = set()

    def needs(service: tuple[str, str]) -> Iterator[tuple[str, str]]:
        found = {(service[0], name) for one in by_service[service] for name in one.depends_on}
        return iter(sorted(found & by_service.keys()))

    for first in by_service:
        # In depth, without recursion: a service comes after all that it needs.
        path = [] if first in seen else [(first, needs(first))]
        seen.add(first)
        while path:
            service, left = path[-1]
            following = next((one for one in left if one not in seen), None)
            if following is None:
                needed_first += by_service[service]
                path.pop()
            else:
                seen.add(following)
                path.append((following, needs(following)))
    return needed_first[::-1]
