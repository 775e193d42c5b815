"""What the timeline tells of the door to the internet: when it was opened and shut, and who held it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from homelab_agent.core.timeline import Entry, Facts, Fields, Part, Table, brief, thing

_OPENINGS = Table(
    "gate_exposure",
    ("id",),
    began="opened_at",
    ended="closed_at",
    what="openings to the internet",
    kept="SELECT id, opened_at, opened_why, closed_at, closed_why, checks, seconds, requests, sources, sent_bytes"
    " FROM gate_exposure",
)
_WORDS = Table(
    "gate_intent",
    ("said_at",),
    began="said_at",
    ended="said_at",
    times=("until",),
    what="holds and releases but the last hold",
    kept="SELECT since AS said_at, 1 AS is_held, who, why, until FROM gate_hold",
    is_whole=False,
)
_ASK = "homelab-agent gate history"


def _tell(facts: Facts) -> Iterator[Entry]:
    words = sorted(facts["gate_intent"], key=lambda word: word["said_at"])
    for word in words:
        yield _word(word)
    for row in facts["gate_exposure"]:
        host, opened = row["host"], thing(row["host"], "opening", row["id"])
        yield Entry(opened, row["opened_at"], host, "gate", brief("opened", row["opened_why"]), id=row["id"], ask=_ASK)
        if row["closed_at"] is not None:
            meant = [
                _name(word)
                for word in words
                if word["host"] == host and row["opened_at"] < word["said_at"] <= row["closed_at"]
            ]
            yield _closing(row, after=[opened, *meant])


def _closing(row: Fields, after: list[str]) -> Entry:
    came = f"after {row['seconds']:.0f} s, {row['requests']} requests from {row['sources']} addresses"
    return Entry(
        thing(row["host"], "closing", row["id"]),
        row["closed_at"],
        row["host"],
        "gate",
        brief(f"shut {came}", row["closed_why"], row["checks"]),
        id=row["id"],
        ask=_ASK,
        after=after,
    )


def _word(row: Fields) -> Entry:
    at = row["said_at"]
    if row["is_held"]:
        length = f" for {timedelta(seconds=round((row['until'] - at).total_seconds()))}" if row["until"] else ""
        text = brief(f"held shut by {row['who']}{length}", row["why"])
    else:
        text = brief(f"released by {row['who']}")
    return Entry(_name(row), at, row["host"], "gate", text, ask="homelab-agent gate why")


def _name(row: Fields) -> str:
    return thing(row["host"], "hold", row["said_at"])


PART = Part([_OPENINGS, _WORDS], _tell)
