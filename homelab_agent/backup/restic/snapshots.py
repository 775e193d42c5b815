"""Which snapshots are one archive: what is written on them as tags, and what is read from those. Decisions only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast, get_args

from homelab_agent.backup.point import Archive, verdict
from homelab_agent.core.clock import microseconds, moment

OURS = "homelab-agent"
ABOUT = "about.json"
Kind: TypeAlias = Literal["sources", "dump", "about"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of ours; `tags` without our mark, by what is before the colon."""

    id: str
    hostname: str
    kind: Kind
    run: str
    set_name: str
    at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """The snapshots of one run; `about` is missing where it was cut short."""

    run: str
    about: Snapshot | None
    others: Sequence[Snapshot]

    @property
    def whole(self) -> bool:
        """Whether it counts: its manifest is there, and as many others as belong to it."""
        return self.about is not None and self.about.tags.get("parts") == str(len(self.others))

    @property
    def all(self) -> Sequence[Snapshot]:
        """Return its snapshots, the manifest first: without it the rest does not count."""
        return [*([self.about] if self.about else []), *self.others]


def tags(kind: Kind, run: str, set_name: str, at: datetime, **figures: object) -> list[str]:
    """Return the words that mark a snapshot of this kind."""
    words = {"kind": kind, "run": run, "set": set_name, "at": microseconds(at), **figures}
    return [word for name, value in words.items() for word in ("--tag", f"{name}:{value}")] + ["--tag", OURS]


def read(values: Mapping[str, Any]) -> Snapshot | None:
    """Return a snapshot from what `restic snapshots --json` says of it; None where it is not ours."""
    known = values.get("tags") or []
    pairs = dict(tag.split(":", 1) for tag in known if ":" in tag)
    kind = pairs.pop("kind", "")
    if OURS not in known or kind not in get_args(Kind) or not {"run", "set", "at"} <= pairs.keys():
        return None
    try:
        at = moment(int(pairs.pop("at")))
    except (ValueError, OverflowError):
        return None
    return Snapshot(
        id=str(values["id"]),
        hostname=str(values.get("hostname", "")),
        kind=cast("Kind", kind),
        run=pairs.pop("run"),
        set_name=pairs.pop("set"),
        at=at,
        tags=pairs,
    )


def grouped(snapshots: Iterable[Snapshot]) -> list[Found]:
    """Return the runs, the oldest first."""
    runs: dict[str, list[Snapshot]] = {}
    for one in snapshots:
        runs.setdefault(one.run, []).append(one)
    found = [
        Found(
            run,
            next((one for one in members if one.kind == "about"), None),
            [one for one in members if one.kind != "about"],
        )
        for run, members in runs.items()
    ]
    return sorted(found, key=lambda one: (one.all[0].at, one.run))


def archive(found: Found, engine: str) -> Archive | None:
    """Return what a run's snapshots are; None where they do not count."""
    about = found.about
    if about is None or not found.whole:
        return None
    return Archive(
        id=about.id,
        engine=engine,
        set_name=about.set_name,
        at=about.at,
        verdict=verdict(about.tags.get("verdict", "")),
        sha256=about.id,
        bytes=_count(about, "bytes"),
        stored_bytes=_count(about, "kept"),
        files=_count(about, "files"),
        manifest={"host": about.hostname, "run": about.run},
    )


def restic_time(at: datetime) -> str:
    """Return a time as `--time` takes it, with TZ=UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _count(about: Snapshot, name: str) -> int:
    text = about.tags.get(name, "")
    return int(text) if text.isdecimal() else 0
