"""Any past window is held against its source once more, and what differs is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Database
from homelab_agent.core.jobs import Outcome, Run
from homelab_agent.reading import lease, proof
from homelab_agent.reading.proof import OTHER, Proving
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.source import Keeper, Source

SHOWN_MAX = 1000
"""So many ids that differ are named."""

_ALL = "SELECT DISTINCT day FROM sync_proof WHERE origin = $1"


class WindowFaulty(AgentError):
    """{text} is no window."""

    repair = "write a day as 2026-11-28, several as 2026-11-01..2026-11-30, or other for ids that hold no time"


class Verify:
    """Verifies sources that keep what they gave."""

    def __init__(self, settings: Sequence[ReadingSource], sources: Mapping[str, Source], database: Database) -> None:
        self._marks = {one.name: one.on_reject == "mark" for one in settings}
        self._sources = sources
        self._database = database

    async def run(self, run: Run) -> Outcome:
        """Compare, name what differs, and end well when nothing does."""
        given = dict(word.partition("=")[::2] for word in run.options)
        days = days_of(given["window"]) if "window" in given else None
        good, said = True, []
        for name, source in self._sources.items():
            if given.get("source", name) != name:
                continue
            found = await self._verify(run, name, source, days)
            good = good and not found.failed
            said.append(f"{name}: {found}")
        return Outcome(ok=good, detail="; ".join(said), repair="" if good else "homelab-agent reading sync --since DAY")

    async def _verify(self, run: Run, name: str, source: Source, days: Sequence[str] | None) -> proof.Proof:
        async with (
            source.open() as opened,
            self._database.acquire() as connection,
            lease.held(connection, name),  # else a run elsewhere has stored what it has not marked yet
        ):
            if not isinstance(opened, Keeper):
                run.say(f"{name}: keeps nothing that it could be held against")
                return proof.Proof()
            proving = Proving(opened, connection, name, counts_rejected=self._marks[name])
            if days is None:
                days = [row["day"] for row in await connection.fetch(_ALL, name)]
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
    if not 0 <= (end - begin).days < 36_525:
        raise WindowFaulty(text=text)
    return [(begin + timedelta(days=number)).isoformat() for number in range((end - begin).days + 1)]
