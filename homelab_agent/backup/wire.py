"""What the two halves tell each other of copies, as JSON objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from homelab_agent.backup.point import Archive, Verified, verdict
from homelab_agent.core.errors import AgentError, describe

Fields: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong though the copy is good, in words, and what mends it."""

    cause: str
    repair: str

    @classmethod
    def of(cls, error: AgentError) -> Trouble:
        """Return it for an error."""
        return cls(describe(error), error.repair)


@dataclass(frozen=True, slots=True)
class Done:
    """A run of one set at one engine: what counts now, and for how many milliseconds each container stood still.

    With `troubles` the run has failed all the same.
    """

    archive: Archive
    frozen_ms: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    troubles: Sequence[Trouble] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """What killed runs had left, in words: what is taken away now, and what stays yet, and why."""

    gone: Sequence[str] = ()
    left: Sequence[str] = ()


def of_archive(archive: Archive) -> dict[str, Any]:
    """Return what is told of an archive; its manifest stays where it is, but for what it is about."""
    return {
        "id": archive.id,
        "engine": archive.engine,
        "set": archive.set_name,
        "at": archive.at.isoformat(),
        "verdict": archive.verdict,
        "sha256": archive.sha256,
        "bytes": archive.bytes,
        "stored_bytes": archive.stored_bytes,
        "files": archive.files,
        "about": _about(archive.manifest.get("about", {})),
    }


def _about(about: Fields) -> dict[str, Any]:
    """Return what an archive is about, without what settings of its databases may keep secret."""
    told = {
        member: {key: value for key, value in one.items() if key != "properties"}
        for member, one in about.get("dumps", {}).items()
    }
    return {**about, "dumps": told}


def archive(fields: Fields) -> Archive:
    """Return the archive that is told of."""
    return Archive(
        id=str(fields["id"]),
        engine=str(fields["engine"]),
        set_name=str(fields["set"]),
        at=datetime.fromisoformat(fields["at"]),
        verdict=verdict(str(fields["verdict"])),
        sha256=str(fields["sha256"]),
        bytes=int(fields["bytes"]),
        stored_bytes=int(fields["stored_bytes"]),
        files=int(fields["files"]),
        manifest={"about": fields.get("about", {})},
    )


def of_done(done: Done) -> dict[str, Any]:
    """Return what is told of a run."""
    return {
        "archive": of_archive(done.archive),
        "frozen_ms": dict(done.frozen_ms),
        "notes": list(done.notes),
        "troubles": [{"cause": one.cause, "repair": one.repair} for one in done.troubles],
    }


def done(fields: Fields) -> Done:
    """Return the run that is told of."""
    frozen = {str(name): int(ms) for name, ms in fields.get("frozen_ms", {}).items()}
    troubles = [Trouble(str(one["cause"]), str(one["repair"])) for one in fields.get("troubles", ())]
    return Done(archive(fields["archive"]), frozen, tuple(map(str, fields.get("notes", ()))), troubles)


def of_verified(verified: Verified) -> dict[str, Any]:
    """Return what is told of an archive that was read whole."""
    return {
        "id": verified.id,
        "files": verified.files,
        "bytes": verified.bytes,
        "faults": list(verified.faults)[:_FAULTS_MAX],
    }


def verified(fields: Fields) -> Verified:
    """Return what reading one has shown."""
    return Verified(
        str(fields["id"]), int(fields["files"]), int(fields["bytes"]), tuple(map(str, fields.get("faults", ())))
    )


def of_swept(swept: Swept) -> dict[str, Any]:
    """Return what is told of a sweep."""
    return {"swept": list(swept.gone), "left": list(swept.left)}


def swept(fields: Fields) -> Swept:
    """Return the sweep that is told of."""
    return Swept(tuple(map(str, fields["swept"])), tuple(map(str, fields.get("left", ()))))


_FAULTS_MAX = 100
