"""What killed runs have left is taken away also where Docker cannot be asked; what needs Docker is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.backup import drill_place
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.core.privilege import Answer
from tests import backup_verb

OLD = json.dumps({"Version": "19.03", "ApiVersion": "1.40", "MinAPIVersion": "1.12"})


@asynccontextmanager
async def old_docker(socket: Path) -> AsyncIterator[None]:
    """Have an engine answer that is older than what is spoken here, which none is that can still be installed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(OLD)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n{OLD}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, socket):
        yield


class House:
    """What killed runs, an old restore and a killed drill have left on disk."""

    def __init__(self, directory: Path) -> None:
        self.settings = BackupSettings(
            directory=directory / "copies", records=directory / "records", docker=directory / "docker.sock"
        )
        self.partial = self.settings.directory / "things" / "things-20200101T000000Z.tar.zst.partial"
        self.replaced = directory / "replaced"
        self.drill = self.settings.drill_place / f"{drill_place.PREFIX}1"
        self._undos = Undos(self.settings.records)
        for one in (self.partial.parent, self.replaced, self.drill, self._undos.directory):
            one.mkdir(parents=True)
        self.partial.write_bytes(b"half")
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        self._undos.note(Undo("1", "things", "things/1", long_ago, "kept", staging=[self.replaced]))

    async def sweep(self) -> Answer:
        return await backup_verb.done(self.settings, "backup_sweep", engine="archive")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize("engine", ["away", "old"])
async def test_what_needs_no_docker_is_swept_though_it_cannot_be_asked(engine: str, house: House) -> None:
    if engine == "old":
        async with old_docker(house.settings.docker):
            swept = await house.sweep()
    else:
        swept = await house.sweep()
    assert swept["swept"] == [str(house.partial), "what the restore 1 had replaced"]
    [left] = swept["left"]
    assert left.startswith(f"what a drill has left in {house.drill.parent} stays: ")
    assert ("up to 1.40 only" if engine == "old" else "does not answer") in left
    assert [one.exists() for one in (house.partial, house.replaced, house.drill)] == [False, False, True]
