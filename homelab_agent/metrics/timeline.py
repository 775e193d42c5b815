"""What the timeline tells of the host: starts of the agent, times without samples, and what was another than before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from homelab_agent.core.timeline import Entry, Facts, Fields, Part, Standing, Table, brief, thing

_STARTS = Table("agent_start", ("time",), began="time", ended="time", times=("boot_at",), what="starts of the agent")
_INTERRUPTIONS = Table(
    "interruption", ("from_at",), began="from_at", ended="to_at", what="times without samples of an agent that ran"
)
_SILENCES = Table(
    "silence", ("from_at", "cause"), began="from_at", ended="to_at", what="times without samples before a start"
)
_FACTS = Table("fact", ("name", "key", "since"), began="since", ended="since", what="changes of facts")


def _tell(facts: Facts) -> Iterator[Entry]:
    silences = {_silence_name(row): row for row in (*facts["interruption"], *facts["silence"])}
    for row in silences.values():
        yield _silence(row)
    ends = {(row["host"], row["to_at"]): name for name, row in silences.items()}
    for row in facts["agent_start"]:
        host, at = row["host"], row["time"]
        yield Entry(
            thing(host, "start", at),
            at,
            host,
            "start",
            f"the agent was started, {row['version']}",
            ask="homelab-agent logs --component agent",
            after=[ends[host, at]] if (host, at) in ends else (),
        )
    yield from _changes(facts["fact"])


def _silence(row: Fields) -> Entry:
    seconds = (row["to_at"] - row["from_at"]).total_seconds()
    return Entry(
        _silence_name(row),
        row["from_at"],
        row["host"],
        "silence",
        brief(f"no samples for {seconds:.0f} s", row["cause"]),
        standing=Standing.FAILED,
        until=row["to_at"],
    )


def _silence_name(row: Fields) -> str:
    return thing(row["host"], "silence", row["from_at"], row["cause"])


def _changes(rows: Sequence[Fields]) -> Iterator[Entry]:
    """Tell each change; what was found at the first look of all is one entry."""
    first = {(row["host"], row["since"]) for row in rows if row["name"] == "kernel" and row["was"] is None}
    for host, since in first:
        count = sum((row["host"], row["since"]) == (host, since) for row in rows)
        text = f"looked at this host for the first time, {count} facts"
        yield Entry(thing(host, "look", since), since, host, "fact", text)
    for row in rows:
        host, since = row["host"], row["since"]
        if (host, since) in first:
            continue
        was = "was not there" if row["was"] is None else f"was {row['was']}"
        now = "is gone" if row["value"] is None else f"is {row['value']}"
        text = brief(f"{row['name']} {row['key']}".strip(), f"{now}, {was}")
        yield Entry(thing(host, "fact", row["name"], row["key"], since), since, host, "fact", text)


PART = Part([_STARTS, _INTERRUPTIONS, _SILENCES, _FACTS], _tell)
