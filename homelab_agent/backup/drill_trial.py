"""One container of a set, started on a copy: the same image, the places that were restored, no network, within bounds.

What its manifest does not have (variables, command, user) is taken from the living container of that name, which is
only looked at. A place that is not in the copy is left out, never taken from the living.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from homelab_agent.backup import databases, inspected, layout, scratch
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.docker_errors import ContainerGone, ImageGone
from homelab_agent.backup.drill_place import LABEL
from homelab_agent.backup.inventory import Container, Mount
from homelab_agent.backup.scratch import Boot, Image, Scratch
from homelab_agent.core import waiting
from homelab_agent.core.errors import AgentError

DumpKind: TypeAlias = databases.Kind | Literal["sqlite", "command"]
_RAN = frozenset({"running", "paused", "restarting"})
_FIRST_START = "/docker-entrypoint-initdb.d"
"""Scripts there fill a new database; they would stand in the way of a dump."""
_FILE = "_FILE"
_KILLED = 137
_LINES, _TOLD = 20, 3
_WORDS_MAX = 400
_TELLING = re.compile(r"fatal|panic|error|fail|can't|cannot|could not|denied|no such|not found", re.IGNORECASE)


class ImageReplaced(AgentError):
    """The image of {container} as it was when the copy was made is gone; {image} is another by now."""

    repair = "homelab-agent backup run {set_name}, whose copy goes with the image of today; then drill that"


@dataclass(frozen=True, slots=True)
class Part:
    """A container as the manifest tells of it; `mounts` lead from where it sees a place to the volume or path."""

    name: str
    image: str
    image_id: str
    ran: bool
    mounts: Mapping[str, str]

    @classmethod
    def of(cls, name: str, told: Mapping[str, Any]) -> Part:
        """Return it; a manifest that does not say whether it ran is of one that did."""
        mounts = {str(target): str(place) for target, place in told.get("mounts", {}).items()}
        image, image_id = str(told.get("image", "")), str(told.get("image_id", ""))
        return cls(name, image, image_id, told.get("state", "running") in _RAN, mounts)


@dataclass(frozen=True, slots=True)
class Copy:
    """What was restored: below `top`, by member; `sources` says where each member was read. `empty` is beside it."""

    set_name: str
    top: Path
    empty: Path
    sources: Mapping[str, Path]

    def has(self, place: str) -> bool:
        """Return whether a volume, or a path of the host, is in the copy."""
        return self._below(place) is not None

    def found(self, place: str) -> Path | None:
        """Return where it is now; None where it is not in the copy, or leads out of it. Blocking.

        What is not there, as a real restore would leave it to Docker to make, is made.
        """
        below = self._below(place)
        if below is None or below.resolve() != self.top.resolve() / below.relative_to(self.top):
            return None  # a link in the copy could lead Docker to what lives
        if not below.exists():
            below.mkdir(parents=True)
        return below

    def _below(self, place: str) -> Path | None:
        if not place.startswith("/"):
            return self.top / "volumes" / place if f"volumes/{place}" in self.sources else None
        member = layout.innermost(Path(place), self.sources, self.sources.__getitem__)
        return None if member is None else self.top / member / Path(place).relative_to(self.sources[member])

    def new(self, like: Path | None, user: int) -> Path:
        """Make an empty directory, owned as `like` is where that is there, else by that user. Blocking."""
        made = self.empty / str(len(list(self.empty.iterdir())))
        made.mkdir()
        if like is None or not like.is_dir():
            os.chown(made, user, -1)
            return made
        found = like.stat()
        os.chown(made, found.st_uid, found.st_gid)
        made.chmod(stat.S_IMODE(found.st_mode))
        return made


@dataclass(frozen=True, slots=True)
class Trial:
    """A container that was started on a copy; `without` are the places that it had, and that are not in it.

    It is `like_living` where its variables and its command are those of the living one.
    """

    name: str
    docker: Docker
    container: Container
    boot: Boot = field(repr=False)
    without: Sequence[str] = ()
    like_living: bool = True

    @property
    def lacks(self) -> str:
        """What it had when the copy was made and has not here, to be said after what was seen; "" for nothing."""
        said = f"; without {', '.join(self.without)}, not in the copy" if self.without else ""
        like = f"; as its image says, for there is no container {self.name} any more"
        return said + ("" if self.like_living else like)

    async def end(self) -> str:
        """Return in words how it has ended; "" while it runs."""
        found = await self.docker.container(self.container.id)
        if found is not None and found.running:
            return ""
        code = found.exit_code if found is not None else None
        killed = " (killed, maybe for want of memory: [backup] drill_memory)" if code == _KILLED else ""
        words = await self.last_words() if found is not None else "removed by somebody else"
        return f"started, and ended with {code}{killed}{f': {words}' if words else ''}"

    async def last_words(self) -> str:
        """Return the last that it has written, of that what tells of a fault, without what may be a secret."""
        said = await self.docker.last_words(self.container.id, lines=_LINES)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        telling = [line for line in lines if _TELLING.search(line)] or lines
        return self.boot.hidden("; ".join(telling[-_TOLD:]))[:_WORDS_MAX]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where trials take place: on a copy, each with so much memory."""

    docker: Docker
    copy: Copy
    memory_bytes: int


@asynccontextmanager
async def started(
    stage: Stage, part: Part, number: int, *, dumps: DumpKind | None, first: Sequence[str]
) -> AsyncIterator[Trial]:
    """Give a container, started; it is removed afterwards. What is to come from its `dumps` is empty.

    `first` are the variables with which a new server is made where there is no living one to have them from.
    Raises `ImageGone`, `ImageReplaced`, and what Docker refuses.
    """
    docker, copy = stage.docker, stage.copy
    image = await _image(docker, part, copy.set_name)
    living = await _living(docker, part)
    boot = await docker.boot(living.id) if living is not None else Boot({"Env": list(first)})
    dumped = _dumped(dumps, living or inspected.likeness(image.config, part.name))
    mounts, without = await asyncio.to_thread(_mounts, part, copy, living, image, dumped)
    boot = scratch.looked_at(_without_files(boot, [one.target for one in mounts]), image)
    drill = copy.top.parent.name
    labels = {**dict.fromkeys(image.labels, ""), LABEL: drill}
    trial = Scratch(f"{drill}-{number}", image.id, mounts, labels=labels, boot=boot, memory_bytes=stage.memory_bytes)
    made = await waiting.to_the_end(docker.create(trial))  # else it could be there after all was cleared away
    try:
        await docker.start(made)
        seen = await docker.container(made)
        if seen is None:
            raise ContainerGone(container=trial.name)
        seen = replace(seen, image=part.image, labels=living.labels if living is not None else {})
        yield Trial(part.name, docker, seen, boot, without, like_living=living is not None)
    finally:
        await waiting.to_the_end(docker.remove(made))


async def _living(docker: Docker, part: Part) -> Container | None:
    """Return the container of that name; None where there is none, or another has the name by now."""
    found = await docker.container(part.name)
    same = found is not None and databases.repository_of(found.image) == databases.repository_of(part.image)
    return found if same else None


async def _image(docker: Docker, part: Part, set_name: str) -> Image:
    """Return the image that the container had when the copy was made; nothing is pulled."""
    try:
        return await docker.image(part.image_id)
    except ImageGone:
        with suppress(ImageGone):
            await docker.image(part.image)
            raise ImageReplaced(container=part.name, image=part.image, set_name=set_name) from None
        raise ImageGone(image=part.image) from None


def _dumped(kind: DumpKind | None, container: Container) -> Callable[[Mount], bool]:
    """Return what says of a mount whether its content comes from dumps of that kind."""
    match kind:
        case None | "sqlite":
            return lambda _: False
        case "command":
            return lambda _: True
        case _:
            return databases.known(kind, container).keeps_in


def _mounts(
    part: Part, copy: Copy, living: Container | None, image: Image, dumped: Callable[[Mount], bool]
) -> tuple[Sequence[Mount], Sequence[str]]:
    """Return what of its places is in the copy, and which are not; blocking."""
    alive = {one.target: one.source for one in living.mounts} if living is not None else {}
    found, without = [], []
    for target, place in part.mounts.items():
        if target.startswith(_FIRST_START):
            continue
        path = copy.found(place)
        mount = Mount("bind", "", path or copy.top, target, writable=True)
        if path is None and dumped(mount):
            mount = replace(mount, source=copy.new(alive.get(target), image.user))
        elif path is None:
            without.append(target)
            continue
        found.append(mount)
    return found, without


def _without_files(boot: Boot, targets: Sequence[str]) -> Boot:
    """Return it with a password of our own for each that it reads from a file (NAME_FILE) that is not there."""
    variables = []
    for one in boot.config.get("Env", ()):
        name, _, value = one.partition("=")
        there = any(PurePosixPath(value).is_relative_to(target) for target in targets)
        lacks = name.endswith(_FILE) and value.startswith("/") and not there
        variables.append(f"{name.removesuffix(_FILE)}={secrets.token_hex(16)}" if lacks else one)
    return Boot({**boot.config, "Env": variables}, boot.host)
