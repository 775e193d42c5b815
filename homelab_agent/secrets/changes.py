"""What became of each new value: an event and a row, never the value."""

from __future__ import annotations

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.secret import Change, Outcome
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.uuid7 import uuid7

TABLE = "secret_change"
_EVENTS = {Outcome.REFUSED: "secret.refused", Outcome.INCOMPLETE: "secret.taken_over_in_part"}

log = journal.logger("secrets")


class Changes:
    """Writes each change down."""

    def __init__(self, spool: Spool, clock: Clock, *, host: str) -> None:
        self._spool = spool
        self._clock = clock
        self._host = host

    async def tell(self, change: Change) -> None:
        """Log a change and promise its rows; a disk that cannot keep them keeps no secret from changing."""
        told = {"references": ", ".join(change.references), "version": change.version}
        if change.outcome is Outcome.ADOPTED:
            log.info("secret.adopted", **told)
        else:
            log.warning(_EVENTS[change.outcome], **told, cause=change.cause)
        try:
            await self._spool.put([self._row(change, reference) for reference in change.references], promise=True)
        except StateUnavailable as error:
            log.warning("secret.not_recorded", **told, error=error)

    def _row(self, change: Change, reference: str) -> Row:
        at = self._clock.read().wall
        values: dict[str, Scalar] = {
            "host": self._host,
            "id": uuid7(),
            "at": at,
            "reference": reference,
            "version": change.version,
            "outcome": str(change.outcome),
            "cause": change.cause,
        }
        return Row(TABLE, ("host", "id"), values, at)
