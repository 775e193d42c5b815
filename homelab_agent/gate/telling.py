"""How the doors stand, in words and as fields: for the page, the command line and health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homelab_agent.core.door import PublicDoor
from homelab_agent.core.health import Finding
from homelab_agent.gate.keeper import Keeper
from homelab_agent.gate.ledger import Exposure, Ledger

_SAID = {"closed": "shut", "opening": "opens", "closing": "shuts"}


def as_fields(keeper: Keeper) -> Mapping[str, object]:
    """Return what a program is told of a door."""
    gate, hold = keeper.gate, keeper.watch.hold
    return {
        "name": keeper.name,
        "phase": keeper.phase,
        "overlay": gate.overlay,
        "since": keeper.since,
        "why": gate.why,
        "repair": gate.repair,
        "doubt": gate.doubt,
        "address": keeper.address,
        "hold": None if hold is None else {"who": hold.who, "why": hold.why, "since": hold.since, "until": hold.until},
        "warnings": [{"what": one.what, "repair": one.repair} for one in keeper.watch.found.warnings],
    }


def exposure(one: Exposure) -> Mapping[str, object]:
    """Return what a program is told of an opening."""
    return {**one.as_fields(), "seconds": round(one.seconds, 3)}


def present(ledger: Ledger, door: PublicDoor) -> Mapping[str, object] | None:
    """Return what a program is told of the opening that lasts, with those who came until now; None if none does."""
    if ledger.present is None:
        return None
    visits = door.visits()
    return {
        **exposure(ledger.present),
        "requests": visits.requests,
        "sources": visits.sources,
        "sent_bytes": visits.sent_bytes,
    }


def finding(keeper: Keeper) -> Finding:
    """Return what health is told: a door that is held, or opens in a moment, is as somebody wants it."""
    gate = keeper.gate
    if keeper.phase in {"open", "degraded"}:
        return _of_an_open(keeper)
    said = f"{_SAID[keeper.phase]}: {gate.why}"
    match gate.overlay:
        case "held":
            return Finding.ok(said)
        case "blocked" | "conflict" | "unknown":
            return Finding.failed(said, gate.repair)
        case "":
            on_its_way = keeper.phase == "opening" or gate.good > 0
            return Finding.ok(said) if on_its_way else Finding.degraded(said, gate.repair)


def _of_an_open(keeper: Keeper) -> Finding:
    gate, warnings = keeper.gate, [one for one in keeper.watch.found.warnings if not one.has_check]
    if gate.doubt:
        return Finding.degraded(f"open, but {gate.doubt}", gate.repair)
    if gate.phase == "degraded":
        return Finding.degraded(gate.why, gate.repair)
    if warnings:
        said = [one.what for one in warnings]
        return Finding.degraded(f"open; {'; '.join(said)}", warnings[0].repair, about=said)
    return Finding.ok(f"open at {keeper.address}: {gate.why}")


def summary(keepers: Sequence[Keeper]) -> str:
    """Return all doors in one line."""
    return "; ".join(f"{one.name} {one.gate.overlay or one.phase}" for one in keepers) or "no door is configured"
