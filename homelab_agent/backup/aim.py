"""What a restore is asked for, and what that comes to: which copy, and where each part goes; nothing is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from homelab_agent.backup import patterns
from homelab_agent.backup.inventory import Container, Identity, Inventory, Volume
from homelab_agent.backup.layout import Place
from homelab_agent.backup.point import Archive, Content, Contents, Engine
from homelab_agent.backup.restore_errors import NothingToRestore, NotOurs, VolumeElsewhere, VolumeGone, VolumeNotTold
from homelab_agent.backup.trust import Trust


@dataclass(frozen=True, slots=True)
class Wish:
    """Which copy comes back: the one of that id, or the newest until `at`; with `globs` these files of it only.

    A glob stands for members (`volumes/NAME/*`). `trust` is the hash of an archive that this host has not written.
    """

    set_name: str
    archive: str = ""
    at: datetime | None = None
    globs: Sequence[str] = ()
    trust: str = ""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a wish comes to: an archive, and where it goes."""

    archive: Archive
    contents: Contents
    places: Sequence[Place]
    inventory: Inventory | None
    globs: Sequence[str] = ()

    def files_of(self, places: Iterable[Place]) -> Mapping[str, Content]:
        """Return which of its files are asked for at these places, by member."""
        members = {place.member for place in places}
        return {
            name: content
            for name, content in self.contents.files.items()
            if not members.isdisjoint(_up(name)) and patterns.chosen(name, self.globs)
        }


async def chosen(engine: Engine, wish: Wish) -> Archive:
    """Return the copy that is meant; raises `NothingToRestore`."""
    archives = await engine.list(wish.set_name)
    named = [one for one in archives if one.id == wish.archive]
    until = [one for one in archives if one.verdict != "dirty" and (wish.at is None or one.at <= wish.at)]
    found = named if wish.archive else until
    if not found:
        raise NothingToRestore(set_name=wish.set_name, engine=engine.name)
    return found[-1]


async def check_trust(records: Path, archive: Archive, named: str) -> bool:
    """Return whether we know ourselves what is in it; raises `NotOurs` where nobody has ever named it.

    An archive that tells no hash is not meant by naming none; who names one need not do so again.
    """
    trust = Trust(records)
    how = await asyncio.to_thread(trust.how, archive.sha256)
    if how is None:
        if not named or named != archive.sha256:
            raise NotOurs(id=archive.id, sha256=archive.sha256)
        await asyncio.to_thread(trust.note, archive, datetime.now(UTC), "named")
    return how in {"wrote", "read back"}


def place(member: str, contents: Contents, inventory: Inventory | None) -> Place:
    """Return where a member goes: what a volume's directory is says Docker, as it is now; nothing else is believed.

    A volume that is gone has none yet: `anew`.
    """
    kind, _, name = member.partition("/")
    if kind == "paths":
        return Place(Path("/", name))
    if inventory is None:
        return Place(contents.sources[member], name)
    volume = inventory.volumes.get(name) or noted(name, contents, inventory)
    _refuse_elsewhere(volume)
    return Place(volume.path, name)


def noted(name: str, contents: Contents, inventory: Inventory) -> Volume:
    """Return a volume as it was when the copy was made, where it would be here.

    Raises `VolumeGone` where the copy does not tell, `VolumeNotTold` where it does not tell all.
    """
    told = contents.about.get("volumes", {}).get(name)
    if told is None:
        raise VolumeGone(name=name)
    if missing := told.get("left_out"):
        raise VolumeNotTold(name=name, missing=", ".join(missing))
    path = inventory.data_root / "volumes" / name / "_data"
    options, labels = dict(told.get("options", {})), dict(told.get("labels", {}))
    return Volume(name, path, str(told.get("driver", "local")), options, labels)


def anew(places: Iterable[Place], contents: Contents, inventory: Inventory | None) -> Sequence[Volume]:
    """Return the volumes among the places that are gone, as they are to be made."""
    if inventory is None:
        return []
    gone = [one.volume for one in places if one.volume and one.volume not in inventory.volumes]
    return [noted(name, contents, inventory) for name in gone]


def identity_of(contents: Contents, container: str) -> Identity:
    """Return by what a container of the copy is found today."""
    told = contents.about.get("containers", {}).get(container, {})
    project = str(contents.about.get("project", ""))
    service = str(told.get("service", "")) if project else ""
    return Identity(project if service else "", service, "", container)


def is_known(container: Container, known: Sequence[Identity]) -> bool:
    """Return whether a container is one of these, made anew or not."""
    found = container.identity
    return any(
        found.name == one.name or (one.service and (found.project, found.service) == (one.project, one.service))
        for one in known
    )


def missing(contents: Contents, inventory: Inventory | None) -> Sequence[str]:
    """Return in words which containers the set had, and are no more; each with what makes it anew, if that is known."""
    gone = []
    for name, told in contents.about.get("containers", {}).items():
        identity = identity_of(contents, name)
        if inventory is None or any(is_known(one, [identity]) for one in inventory.containers):
            continue
        files = [Path(one) for one in told.get("compose_files", ())]
        where = f" (in {files[0].parent})" if files else ""
        command = f": docker compose --project-name {identity.project} up -d{where}" if identity.project else ""
        gone.append(f"the container {name} is no more; make it anew{command}")
    return gone


def _refuse_elsewhere(volume: Volume) -> None:
    """Refuse what Docker mounts only while it is used: its directory is another one when nobody does."""
    if volume.driver != "local" or volume.options.get("device"):
        what = volume.options.get("device") or f"the driver {volume.driver}"
        raise VolumeElsewhere(name=volume.name, what=what)


def _up(member: str) -> Sequence[str]:
    """Return a member and all that it is in."""
    return [member, *map(str, PurePosixPath(member).parents)]
