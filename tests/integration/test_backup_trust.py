"""What is trusted is noted on a disk that may be full, and dropped with the copy; the copy counts all the same."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.backup import engines
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.point import Archive, Source
from homelab_agent.backup.retention import TooFewLeft
from homelab_agent.backup.settings import ARCHIVE, BackupSet, BackupSettings, Keep
from homelab_agent.backup.taking import Taking
from homelab_agent.backup.trust import Trust, TrustNotNoted
from tests import backup_verb
from tests.backed_up import point, quiet
from tests.neighbours.disk import Disks
from tests.neighbours.docker import Docker as Neighbour

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)


def archive(sha256: str) -> Archive:
    return Archive("things/1", "archive", "things", AT, "crash", sha256, bytes=1, stored_bytes=1, files=1)


def test_a_full_disk_is_told_with_what_mends_it_and_half_a_line_is_none(disk: Disks) -> None:
    full = disk(megabytes=1)
    trust = Trust(full.point)
    trust.note(archive("a" * 64), AT)
    full.fill()

    def note_many() -> None:
        for number in range(100):  # the last page of the file has some room yet
            trust.note(archive(f"{number:064}"), AT)

    with pytest.raises(TrustNotNoted, match="No space left") as raised:
        note_many()
    assert f"df {full.point}" in raised.value.repair
    assert "homelab-agent backup run things" in raised.value.repair
    assert "--trust 00000" in raised.value.repair
    trust.forget(archive("b" * 64))
    full.free()
    trust.note(archive("c" * 64), AT)
    assert [trust.how(letter * 64) for letter in "abc"] == ["wrote", None, "wrote"]


async def test_a_copy_that_could_not_be_noted_counts_and_the_run_says_so(
    docker: Neighbour, disk: Disks, tmp_path: Path
) -> None:
    full = disk(megabytes=1)
    settings = BackupSettings(docker=docker.socket, directory=tmp_path / "copies", records=full.point)
    (tmp_path / "things").mkdir()
    full.fill()
    wanted = BackupSet(name="things", paths=[tmp_path / "things"])
    engine = engines.make(settings, ARCHIVE, {})
    done = await Taking(settings, say=quiet, event=lambda _: None).take(wanted, engine, "run")
    assert [one.id for one in await engine.list()] == [done.archive.id]
    [trouble] = done.troubles
    assert trouble.cause.startswith(
        f"The copy {done.archive.id} is there, and it cannot be noted in {full.point}/trust"
    )
    assert f"--trust {done.archive.sha256}" in trouble.repair


async def test_what_is_deleted_is_dropped_from_what_is_trusted_and_nothing_else(
    control: Docker, tmp_path: Path
) -> None:
    settings = BackupSettings(
        docker=control.socket, directory=tmp_path / "copies", records=tmp_path / "records", keep=Keep(least=1)
    )
    engine, trust = engines.make(settings, ARCHIVE, {}), Trust(settings.records)
    (tmp_path / "things").mkdir()
    wanted = point(Source("paths/things", tmp_path / "things"))
    copies = [await engine.finish(await engine.copy(wanted, quiet), wanted, quiet) for _ in range(2)]
    elsewhere = archive("e" * 64)
    for one in (*copies, elsewhere):
        await asyncio.to_thread(trust.note, one, AT)
    await backup_verb.done(settings, "backup_forget", engine=ARCHIVE, archive=copies[0].id)
    assert [await asyncio.to_thread(trust.how, one.sha256) for one in (*copies, elsewhere)] == [None, "wrote", "wrote"]
    with pytest.raises(TooFewLeft, match="at least 1 stay"):
        await backup_verb.done(settings, "backup_forget", engine=ARCHIVE, archive=copies[1].id)
    assert [one.id for one in await engine.list()] == [copies[1].id]
