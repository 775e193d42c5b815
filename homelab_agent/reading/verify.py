"""Any past window is held against its source once more, and what differs is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Database
from homelab_agent.core.jobs import Outcome, Run, of_options
from homelab_agent.reading import lease, proof, statements
from homelab_agent.reading.document import EARLIEST, LATEST
from homelab_agent.reading.proof import OTHER, Proving
from homelab_agent.reading.source import Keeper, Source

SHOWN_MAX = 1000
"""So many ids that differ are named."""


class WindowFaulty(AgentError):
    """{text} is no window."""

    repair = "write a day as 2026-11-28, several as 2026-11-01..2026-11-30, or other for ids that hold no time"


class Verify:
    """Verifies sources that keep what they gave."""

    def __init__(self, sources: Mapping[str, Source], database: Database, *, host: str) -> None:
        self._sources = sources
        self._database = database
        self._host = host

    async def run(self, run: Run) -> Outcome:
        """Compare, name what differs, and end well when nothing does; a source that is away stops no other."""
        given = of_options(run.options)
        days = days_of(given["window"]) if "window" in given else None
        said, repairs = [], []
        for name, source in self._sources.items():
            if given.get("source", name) != name:
                continue
            try:
                found = await self._verify(run, source, days)
            except AgentError as error:
                said.append(f"{name}: {error}")
                repairs.append(error.repair)
                continue
            said.append(f"{name}: {found}")
            if found.failed:
                repairs.append("homelab-agent reading sync --since DAY")
        return Outcome(ok=not repairs, detail="; ".join(said), repair=next(iter(repairs), ""))

    async def _verify(self, run: Run, source: Source, days: Sequence[str] | None) -> proof.Proof:
        name = source.name
        async with (
            source.open() as opened,
            self._database.acquire() as connection,
            lease.held(connection, name, host=self._host),  # else a run elsewhere has stored what it has not marked yet
        ):
            if not isinstance(opened, Keeper):
                run.say(f"{name}: keeps nothing that it could be held against")
                return proof.Proof()
            proving = Proving(source, opened, connection)
            if days is None:
                days = [row["day"] for row in await connection.fetch(statements.TOUCHED_EVER, name)]
            found = await proving.prove(days)
            shown = 0
            for day in found.failed:
                for key, wrong in await proving.differing(day):
                    if shown < SHOWN_MAX:
                        run.say(f"{name} {day} {key} {wrong}")
                    shown += 1
            if shown > SHOWN_MAX:
                run.say(f"{name}: and {shown - SHOWN_MAX} more")
            return found


def days_of(text: str) -> list[str]:
    """Return the days of a window as a person writes it; raises `WindowFaulty`."""
    if text == OTHER:
        return [OTHER]
    first, _, last = text.partition("..")
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise WindowFaulty(text=text) from None
    if not EARLIEST.date() <= begin <= end <= LATEST.date():
        raise WindowFaulty(text=text, cause=f"days go from {EARLIEST:%Y-%m-%d} to {LATEST:%Y-%m-%d}")
    return [(begin + timedelta(days=number)).isoformat() for number in range((end - begin).days + 1)]
