"""A Docker engine: what runs, and what is asked of it. For control only: bytes of volumes never come this way.

aiodocker over the engine's socket, each call within a bound of its own: an engine that hangs is `DockerUnreachable`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiodocker
import aiohttp

from homelab_agent.backup import inspected, scratch
from homelab_agent.backup.command import Command
from homelab_agent.backup.docker_errors import (
    ContainerGone,
    ContainerNotSo,
    DockerRefuses,
    DockerTooOld,
    DockerUnreachable,
    ImageGone,
)
from homelab_agent.backup.inventory import Container, Identity, Inventory, Volume
from homelab_agent.backup.scratch import SCRATCH, Boot, Image, Scratch
from homelab_agent.core import compose
from homelab_agent.core.errors import AgentError

PATIENCE_SECONDS = 20.0
"""An engine under load may take a while; beyond this it hangs."""
CONNECT_SECONDS = 5.0
KILL_SECONDS = 20.0
"""What an engine may need beyond a container's own time to stop: SIGKILL, then its networks and mounts."""
COMMAND_SECONDS = 3600.0
"""What a command may take where nobody says otherwise."""
LOOK_SECONDS = 0.25
AT_ONCE = 8
LEAST, NEWEST = (1, 41), (1, 51)
"""Versions of the API that are spoken; the newest only where the engine speaks it too."""
_UNREACHABLE = 900
_GONE, _CONFLICT = 404, 409
_NOT_SO = re.compile(r"is (not|already) (paused|running)|is paused")


class Docker:
    """The engine at `socket`; a context, within which each call ends in its time.

    All raise `DockerUnreachable` where no answer comes in time: nobody knows then whether the engine will still do it.
    What it answers with a refusal is `ContainerGone`, `ContainerNotSo` (Docker's 409) or `DockerRefuses`; what is
    so already (Docker's 304) is none.
    """

    def __init__(self, socket: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self.socket = socket
        self._patience = patience
        self._version = ""

    async def __aenter__(self) -> Self:
        """Connect, and agree on a version of the API; raises `DockerTooOld` where there is none."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
        self._client = aiodocker.Docker(f"unix://{self.socket}", timeout=timeout)
        try:
            async with self._asking("tell its version"):
                said = await self._client.version()
            self._version = str(said.get("Version", ""))
            self._client.api_version = self._agreed(said)
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def inventory(self) -> Inventory:
        """Return all its volumes, and its containers in whatever state, but no trial; who goes meanwhile is not."""
        async with self._asking("tell what it is"):
            info = await self._client.system.info()
        async with self._asking("list its volumes"):
            listed = (await self._client.volumes.list()).get("Volumes") or ()  # type: ignore[no-untyped-call]
        volumes = {one["Name"]: inspected.volume(one) for one in listed}
        ids = await self._ids()
        found = await self._look_at_all(ids, volumes)
        living = [one for one in found if not one.labels.items() >= SCRATCH.items()]
        containers = sorted(living, key=lambda one: one.name)
        root = Path(info.get("DockerRootDir") or "/var/lib/docker")
        return Inventory(self._version, root, containers, volumes, inspected.refused(info))

    async def container(self, container_id: str) -> Container | None:
        """Return a container as it is now; None where there is none of that id or name."""
        return await self._look(container_id, {})

    async def find(self, identity: Identity) -> Container | None:
        """Return who bears these labels of Compose, the newest of several; else who has the name; None for nobody."""
        if not identity.service:
            return await self.container(identity.name)
        labels = {
            compose.PROJECT: identity.project,
            compose.SERVICE: identity.service,
            compose.NUMBER: identity.number,
        }
        wanted = [f"{name}={value}" for name, value in labels.items() if value]
        for container_id in await self._ids(label=wanted):
            found = await self.container(container_id)
            if found is not None and found.labels.get(compose.ONE_OFF) != "True":  # as those of `compose run` are
                return found
        return await self.container(identity.name)

    async def pause(self, container_id: str) -> None:
        """Freeze all its processes where they are; `ContainerNotSo` where it does not run, or somebody has done it."""
        async with self._asking("pause", container_id):
            await self._client.containers.container(container_id).pause()

    async def unpause(self, container_id: str) -> None:
        """Let them go on; `ContainerNotSo` where it is not paused."""
        async with self._asking("unpause", container_id):
            await self._client.containers.container(container_id).unpause()

    async def stop(self, container_id: str, *, seconds: float, signal: str = "") -> None:
        """End it by `signal`, else its image's own, after `seconds` by SIGKILL; return when it has ended.

        Only from 1.42 on can the API be told the signal: before, it is sent first, and the container's own follows.
        """
        container = self._client.containers.container(container_id)
        by: dict[str, Any] = {}
        async with self._asking("stop", container_id, seconds=seconds + KILL_SECONDS):
            if signal and self._api >= (1, 42):
                by["signal"] = signal
            elif signal:
                await _signal(container, signal)
            await container.stop(t=round(seconds), **by)

    async def start(self, container_id: str) -> None:
        """Start it; nothing happens where it runs. `ContainerNotSo` where it is paused."""
        async with self._asking("start", container_id, seconds=self._patience + KILL_SECONDS):
            await self._client.containers.container(container_id).start()

    async def wait_healthy(self, container_id: str, *, seconds: float) -> bool:
        """Return whether its check said within that time that it is well; at once where it has no check, and runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    found = await self.container(container_id)
                    if found is None or found.state in {"exited", "dead", "removing"}:
                        return False
                    if found.running and found.health in {"", "healthy"}:
                        return True
                    await asyncio.sleep(LOOK_SECONDS)
        return False

    @asynccontextmanager
    async def execute(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        user: str = "",
        env: Mapping[str, str] | None = None,
        stdin: AsyncIterator[bytes] | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> AsyncIterator[Command]:
        """Run a command in it and give what it writes to its standard output, piece by piece.

        The iterator's end raises `CommandFailed`, with the last of its standard error, where its exit code is not 0;
        `CommandCutShort` where engine or container went away; `CommandTooSlow` after `seconds`. A command that is
        left before its end is killed.
        """
        async with self._asking("run a command in", container_id):
            container = self._client.containers.container(container_id)
            made = await container.exec(list(argv), stdin=stdin is not None, user=user, environment=dict(env or {}))
        command = Command(self, container_id, argv[0], made.id)
        async with command.running(self.socket, self._client.api_version, stdin, seconds):
            yield command

    async def executed(self, exec_id: str, container_id: str) -> Mapping[str, Any]:
        """Return what the engine knows of a command: Running, ExitCode, Pid, ContainerID."""
        async with self._asking("tell how a command ended in", container_id):
            said: Mapping[str, Any] = await self._client.containers.exec(exec_id).inspect()
        return said

    async def image(self, name: str) -> Image:
        """Return an image by its id or name; raises `ImageGone`."""
        try:
            async with self._asking("inspect the image", name):
                return scratch.image(await self._client.images.inspect(name))
        except ContainerGone as error:
            raise ImageGone(image=name, cause=error.cause) from error

    async def boot(self, container_id: str) -> Boot:
        """Return what a container is started with beside its image; raises `ContainerGone`."""
        async with self._asking("inspect", container_id):
            said = await self._client.containers.container(container_id).show()
        return scratch.boot(said, await self.image(said["Image"]))

    async def create(self, trial: Scratch) -> str:
        """Make a container for a trial, and return its id; raises `ImageGone`: nothing is pulled."""
        try:
            async with self._asking(f"make the container {trial.name}"):
                made = await self._client.containers.create(trial.config(), name=trial.name)
        except ContainerGone as error:
            raise ImageGone(image=trial.image, cause=error.cause) from error
        return str(made.id)

    async def last_words(self, container_id: str, *, lines: int) -> str:
        """Return the last lines that a container has written."""
        async with self._asking("tell what was written by", container_id):
            container = self._client.containers.container(container_id)
            said: Sequence[str] = await container.log(stdout=True, stderr=True, tail=lines)
        return "".join(said).strip()

    async def exit_code(self, container_id: str, *, seconds: float) -> int | None:
        """Wait until a container has ended, and return how; None where it has not within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    found = await self.container(container_id)
                    if found is None:
                        raise ContainerGone(container=container_id)
                    if found.state in {"exited", "dead"}:
                        return found.exit_code
                    await asyncio.sleep(LOOK_SECONDS)
        return None

    async def remove(self, container_id: str) -> None:
        """Remove a container with its volumes without a name, running or not; nothing where it is gone."""
        with suppress(ContainerGone):
            async with self._asking("remove", container_id, seconds=self._patience + KILL_SECONDS):
                await self._client.containers.container(container_id).delete(force=True, v=True)

    async def volume(self, name: str) -> Volume | None:
        """Return a volume as it is now; None where there is none of that name."""
        with suppress(ContainerGone):
            async with self._asking(f"inspect the volume {name}"):
                return inspected.volume(await (await self._client.volumes.get(name)).show())  # type: ignore[no-untyped-call]
        return None

    async def make_volume(self, volume: Volume) -> None:
        """Make a volume with driver, options and labels; nothing happens where there is one of that name."""
        config = {
            "Name": volume.name,
            "Driver": volume.driver,
            "DriverOpts": dict(volume.options),
            "Labels": dict(volume.labels),
        }
        async with self._asking(f"make the volume {volume.name}"):
            await self._client.volumes.create(config)  # type: ignore[no-untyped-call]

    async def remove_volume(self, name: str) -> None:
        """Remove a volume with all that is in it; nothing where it is gone, `ContainerNotSo` where it is mounted."""
        with suppress(ContainerGone):
            async with self._asking(f"remove the volume {name}"):
                await (await self._client.volumes.get(name)).delete()  # type: ignore[no-untyped-call]

    async def scratches(self, **labels: str) -> Sequence[str]:
        """Return the ids of trial containers that are left, of those with these labels."""
        return await self._ids(label=[f"{name}={value}" for name, value in {**SCRATCH, **labels}.items()])

    async def _ids(self, **filters: Sequence[str]) -> Sequence[str]:
        async with self._asking("list its containers"):
            listed = await self._client.containers.list(all=True, filters=json.dumps(filters))
        return [one.id for one in listed]

    async def _look_at_all(self, ids: Sequence[str], volumes: Mapping[str, Volume]) -> Sequence[Container]:
        places = asyncio.Semaphore(AT_ONCE)

        async def look(container_id: str) -> Container | None:
            async with places:
                return await self._look(container_id, volumes)

        looks = [asyncio.ensure_future(look(one)) for one in ids]
        try:
            return [found for found in await asyncio.gather(*looks) if found is not None]
        finally:
            for one in looks:  # where the first has failed, the others need not
                one.cancel()

    async def _look(self, container_id: str, volumes: Mapping[str, Volume]) -> Container | None:
        try:
            async with self._asking("inspect", container_id):
                said = await self._client.containers.container(container_id).show()
        except ContainerGone:
            return None
        return inspected.container(said, volumes)

    @property
    def _api(self) -> tuple[int, ...]:
        return _numbers(self._client.api_version)

    def _agreed(self, said: Mapping[str, Any]) -> str:
        most, least = _numbers(str(said.get("ApiVersion", ""))), _numbers(str(said.get("MinAPIVersion", "")))
        if most < LEAST:
            raise DockerTooOld(version=self._version, api=said.get("ApiVersion"))
        # One that has left our newest behind is spoken to in its oldest, and may understand all the same.
        major, minor = max(min(most, NEWEST), least)
        return f"v{major}.{minor}"

    @asynccontextmanager
    async def _asking(self, action: str, container: str = "", *, seconds: float | None = None) -> AsyncIterator[None]:
        """Bound a call, and say in our own errors why it was not done."""
        bound = self._patience if seconds is None else seconds
        try:
            async with asyncio.timeout(bound):
                yield
        except TimeoutError:
            raise DockerUnreachable(socket=self.socket, cause=f"no answer within {bound:g} s") from None
        except aiodocker.DockerError as error:
            raise self._meant(error, action, container) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DockerUnreachable(socket=self.socket, cause=error) from error

    def _meant(self, error: aiodocker.DockerError, action: str, container: str) -> AgentError:
        said = error.message
        if error.status == _UNREACHABLE:
            return DockerUnreachable(socket=self.socket, cause=said)
        if error.status == _GONE:
            return ContainerGone(container=container or "of that name", cause=said)
        # Docker 20.10 answers some of these with 500.
        if error.status == _CONFLICT or _NOT_SO.search(said):
            return ContainerNotSo(action=action, container=container, cause=said)
        return DockerRefuses(action=f"{action} {container}".rstrip(), cause=said)


async def _signal(container: aiodocker.containers.DockerContainer, signal: str) -> None:
    """Send a signal; one that does not run is told nothing."""
    try:
        await container.kill(signal=signal)
    except aiodocker.DockerError as error:
        if error.status != _CONFLICT and not _NOT_SO.search(error.message):
            raise


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2]) or (0, 0)
