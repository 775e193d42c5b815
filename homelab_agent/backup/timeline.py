"""What the timeline tells of backups: each copy that was made or failed, drills, and restores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from homelab_agent.core.timeline import Entry, Facts, Fields, Noted, Part, Standing, Table, brief, runs, thing

_RUNS = Table(
    "backup_run",
    ("id",),
    began="started_at",
    ended="ended_at",
    what="copies that failed, and how long each took",
)
_ARCHIVES = Table(
    "backup_archive",
    ("engine", "id"),
    began="at",
    ended="at",
    what="copies",
    times=("verified_at",),
    kept="SELECT engine, id, set_name, at, verdict, stored_bytes, run_id FROM backup_archive",
)
_DRILLS = Table(
    "backup_drill",
    ("id",),
    began="ended_at",
    ended="ended_at",
    what="drills",
    kept="SELECT id, engine, archive AS archive_id, set_name, ok, detail, seconds, ended_at FROM backup_drill",
)
_RESTORES = Table("restore", ("id",), began="at", ended="at", what="restores")
_ASK = "homelab-agent backup show"


def _tell(facts: Facts) -> Iterator[Entry]:
    made = {(row["host"], row["engine"], row["archive_id"]) for row in facts["backup_run"]}
    for row in facts["backup_run"]:
        yield _run(row)
    for row in facts["backup_archive"]:
        if (row["host"], row["engine"], row["id"]) not in made:
            yield _archive(row)
    for row in facts["backup_drill"]:
        yield _drill(row)
    for row in facts["restore"]:
        yield _restore(row)


def _run(row: Fields) -> Entry:
    host, archive, is_ok = row["host"], row["archive_id"], row["state"] == "ok"
    said = f"{row['set_name']} to {row['engine']}, {row['state']}"
    return Entry(
        thing(host, "backup", row["engine"], archive) if archive else thing(host, "backup", row["id"]),
        row["started_at"],
        host,
        "backup",
        brief(f"{said}, {_size(row['bytes'])}" if is_ok else said, row["detail"]),
        id=archive or row["id"],
        ask=f"{_ASK} {archive}" if archive else "homelab-agent backup status",
        standing=Standing.DONE if is_ok else Standing.FAILED,
        until=row["ended_at"],
        after=[runs.run(host, row["run_id"])] if row["run_id"] else (),
    )


def _archive(row: Fields) -> Entry:
    host, run_id = row["host"], row.get("run_id", "")
    return Entry(
        thing(host, "backup", row["engine"], row["id"]),
        row["at"],
        host,
        "backup",
        brief(f"{row['set_name']} to {row['engine']}, {row['verdict']}, {_size(row['stored_bytes'])} kept"),
        id=row["id"],
        ask=f"{_ASK} {row['id']}",
        after=[runs.run(host, run_id)] if run_id else (),
    )


def _drill(row: Fields) -> Entry:
    host, archive = row["host"], row["archive_id"]
    return Entry(
        thing(host, "drill", row["id"]),
        row["ended_at"] - timedelta(seconds=row["seconds"]),
        host,
        "drill",
        brief(f"{archive} at {row['engine']}, {'' if row['ok'] else 'not '}proven restorable", row["detail"]),
        id=archive,
        ask=f"{_ASK} {archive}",
        standing=Standing.DONE if row["ok"] else Standing.FAILED,
        until=row["ended_at"],
        after=[thing(host, "backup", row["engine"], archive)],
    )


def _restore(row: Fields) -> Entry:
    standing = {"kept": Standing.DONE}.get(row["step"], Standing.UNDER_WAY)
    said = "under way, or cut short" if standing is Standing.UNDER_WAY else "undone" if row["live"] == "old" else "done"
    return Entry(
        thing(row["host"], "restore", row["id"]),
        row["at"],
        row["host"],
        "restore",
        brief(f"{row['set_name']} from {row['archive']}, {said}", row["where"]),
        id=row["id"],
        ask="homelab-agent restore undo --help",
        standing=standing,
    )


def _noted(section: Any) -> Iterator[Fields]:
    """Give the restores whose notes are there; raises OSError where they cannot be read."""
    from homelab_agent.backup import undo_note
    from homelab_agent.backup.settings import BackupSettings

    directory = (section or BackupSettings()).records / undo_note.DIRECTORY
    for path in sorted(directory.iterdir()) if directory.exists() else ():
        try:
            one = undo_note.read(path.read_text())
        except (ValueError, KeyError, TypeError):
            continue  # `doctor backup` tells of it
        yield {
            "id": one.id,
            "at": one.at,
            "set_name": one.set_name,
            "archive": one.archive,
            "step": one.step,
            "live": one.live,
            "where": ", ".join(one.where),
        }


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


PART = Part([_RUNS, _ARCHIVES, _DRILLS], _tell, Noted(_RESTORES, _noted))
