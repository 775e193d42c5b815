"""Whether a door is open: decided from what was seen, looked at again and again; no process, no clock, no socket.

A door opens when the agent was found ready `rise` times in a row, nothing stands in the way, and tailscaled is read
back to publish what our child asked for. It lets nobody in once the agent was found not ready `fall` times in a row,
and at once when something is urgent, an operator holds it, a prerequisite is gone or the port is somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, Self, TypeAlias, assert_never

from homelab_agent.gate.intent import Hold
from homelab_agent.gate.prerequisites import Obstacle
from homelab_agent.gate.reading import Presence
from homelab_agent.gate.settings import GateSettings

Phase: TypeAlias = Literal["closed", "opening", "open", "degraded", "closing"]
"""degraded: open, but the internet does not reach it. closing: nobody is let in, the session may last a little."""

Overlay: TypeAlias = Literal["", "held", "blocked", "conflict", "unknown"]
"""What keeps the door shut: an operator, a missing prerequisite, somebody else's entry; or tailscaled is not to be
asked, and a door that is open is shut before long."""

Order: TypeAlias = Literal["", "open", "shut"]
"""What is to be done: nothing, begin a session, end what points at us (again, until nothing is read back)."""

DEAD_VISITS = 2
"""So many visits from outside in a row must fail before the door is opened anew: names take a while to spread."""

PROMPT_TRIES = 10
"""So often a session is ended as promptly as in any doubt; what lasts longer, we can do nothing about."""

STRAY_LOOKS = 12
"""A session of an agent that has just ended is taken back by then; one that so many looks in a row meet stays."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How the door is paced; times in seconds, each as in `GateSettings`."""

    rise: int = 3
    fall: int = 3
    every: float = 5.0
    in_doubt: float = 1.0
    open_at_least: float = 30.0
    closed_at_least: float = 60.0
    opening_at_most: float = 15.0
    path_repair_wait: float = 60.0
    path_repairs: int = 3

    @classmethod
    def of(cls, settings: GateSettings) -> Self:
        """Return the pace that the configuration asks for."""
        return cls(**{one.name: getattr(settings, one.name) for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found, at `now` in seconds of the monotonic clock.

    `why_not` says what keeps the agent from being ready, `urgent` what must shut the door at once; each "" where there
    is nothing. `obstacle` says in words what stands in the way: a prerequisite, or what an `entry` that is foreign or
    unknown is about. `child` says whether our session's process runs, `ended` why it does not. `path` is what a visit
    from outside found that came back since the last look, `met` in its words; None if none did.
    """

    now: float
    ready: bool
    entry: Presence
    child: bool
    why_not: str = ""
    urgent: str = ""
    hold: Hold | None = None
    obstacle: Obstacle | None = None
    ended: Obstacle | None = None
    path: bool | None = None
    met: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """How a door stands: `why` in words, `repair` where a person can do something, `since` in monotonic seconds.

    `doubt` is what is amiss while the door is open still, and shuts it if it stays so. `good` and `bad` count looks in
    a row that found the agent ready or not, `blind` those that could not ask tailscaled, `stray` those that met a
    session which is nobody's here. `session_at` is when the session was begun; `kept` says that a closing door still
    has it, `tries` counts how often it was to be ended. `shut_at`, `shut_why` and `shut_repair` are of the last time
    that it shut, `wait` is how long it stays so. `dead` counts visits from outside that failed in a row, `repairs` how
    often the door was opened anew for that.
    """

    phase: Phase = "closed"
    since: float = 0.0
    overlay: Overlay = ""
    why: str = "the agent has just started"
    repair: str = ""
    doubt: str = ""
    good: int = 0
    bad: int = 0
    blind: int = 0
    stray: int = 0
    session_at: float | None = None
    kept: bool = False
    tries: int = 0
    shut_at: float | None = None
    shut_why: str = ""
    shut_repair: str = ""
    wait: float = 0.0
    dead: int = 0
    repairs: int = 0


@dataclass(frozen=True, slots=True)
class _Objection:
    """Why the door may not be open, and what mends it."""

    overlay: Overlay
    why: str
    repair: str = ""


def lets_in(gate: Gate) -> bool:
    """Return whether visitors are answered."""
    return gate.phase in {"open", "degraded"}


def next_look(gate: Gate, order: Order, timing: Timing) -> float:
    """Return in how many seconds to look again once `order` was carried out; after an "open" at once, to read back."""
    match gate.phase:
        case "closed":
            in_doubt = 0 < gate.good < timing.rise
        case "opening":
            in_doubt = True
        case "open" | "degraded":
            in_doubt = gate.bad > 0 or gate.blind > 0
        case "closing":
            in_doubt = gate.blind < timing.fall and gate.tries <= PROMPT_TRIES
        case _:
            assert_never(gate.phase)
    return 0.0 if order == "open" else timing.in_doubt if in_doubt else timing.every


def step(gate: Gate, seen: Seen, timing: Timing) -> tuple[Gate, Order]:
    """Return how the door stands after a look, and what is to be done; visitors are refused before it is."""
    objection = _objection(seen)
    counted = replace(_counted(gate, seen), overlay=objection.overlay if objection else "")
    match gate.phase:
        case "closed":
            after = _closed(counted, seen, timing, objection)
        case "opening":
            after = _opening(counted, seen, timing, objection)
        case "open" | "degraded":
            after = _open(counted, seen, timing, objection)
        case "closing":
            after = _closing(counted, seen, timing, objection)
        case _:
            assert_never(gate.phase)
    amiss = objection.why if objection else _not_ready(seen) if after.bad else ""
    since = gate.since if after.phase == gate.phase else seen.now
    after = replace(after, since=since, doubt=amiss if lets_in(after) else "")
    if after.phase == "closing" and not after.kept:
        return replace(after, tries=after.tries + 1), "shut"
    after = replace(after, tries=0)
    return after, "open" if after.phase == "opening" != gate.phase else ""


def _counted(gate: Gate, seen: Seen) -> Gate:
    is_ready = seen.ready and not seen.urgent
    return replace(
        gate,
        good=gate.good + 1 if is_ready else 0,
        bad=0 if is_ready else gate.bad + 1,
        blind=gate.blind + 1 if seen.entry == "unknown" else 0,
        stray=gate.stray + 1 if seen.entry == "leftover" else 0,
    )


def _objection(seen: Seen) -> _Objection | None:
    found = seen.obstacle
    if (hold := seen.hold) is not None:
        until = f"until {hold.until:%Y-%m-%d %H:%M} UTC" if hold.until else "until it is released"
        return _Objection("held", f"held by {hold.who} {until}: {hold.why}", "homelab-agent gate auto")
    if seen.urgent:
        return _Objection("", seen.urgent)
    if seen.entry == "unknown":
        found = found or Obstacle("tailscaled does not answer", "systemctl status tailscaled")
        return _Objection("unknown", found.what, found.repair)
    if seen.entry == "foreign":
        found = found or Obstacle("the port is somebody else's", "tailscale funnel status --json")
        return _Objection("conflict", found.what, found.repair)
    return _Objection("blocked", found.what, found.repair) if found is not None else None


def _closed(gate: Gate, seen: Seen, timing: Timing, objection: _Objection | None) -> Gate:
    if seen.child or seen.entry in {"ours", "stale"}:
        return _shut(gate, seen, timing, "what an earlier session left is removed")
    if objection is not None:
        return replace(gate, why=objection.why, repair=objection.repair)
    if seen.entry == "leftover":
        why = "a session that was not begun by this agent leads here, and has not ended yet"
        return replace(gate, why=why, repair="homelab-agent gate close --now")
    if gate.good < timing.rise:
        said = f"ready at {gate.good} of {timing.rise} looks in a row" if gate.good else _not_ready(seen)
        return replace(gate, why=said, repair="")
    if gate.shut_at is not None:
        shut_at = min(gate.shut_at, seen.now)  # after a clock went back the wait begins anew
        if seen.now - shut_at < gate.wait:
            why = f"stays shut for {gate.wait:g} s: {gate.shut_why}"
            return replace(gate, shut_at=shut_at, why=why, repair=gate.shut_repair)
    return replace(
        gate, phase="opening", session_at=seen.now, dead=0, why="waits for tailscaled to publish it", repair=""
    )


def _opening(gate: Gate, seen: Seen, timing: Timing, objection: _Objection | None) -> Gate:
    is_late = not _is_young(gate, seen, timing.opening_at_most)
    if objection is not None and not (objection.overlay == "unknown" and seen.child and not is_late):
        return _shut(gate, seen, timing, objection.why, objection.repair)
    if not seen.child or seen.entry == "stale":
        return _lost(gate, seen, timing)
    if gate.bad >= timing.fall:
        return _unready(gate, seen, timing)
    if seen.entry == "ours" and gate.good >= timing.rise:
        return _let_in(gate, f"ready at {timing.rise} looks in a row")
    if is_late and seen.entry != "ours":
        why = f"tailscaled did not publish it within {timing.opening_at_most:g} s"
        return _shut(gate, seen, timing, why, "tailscale funnel status --json")
    return gate


def _open(gate: Gate, seen: Seen, timing: Timing, objection: _Objection | None) -> Gate:
    if objection is not None and not (objection.overlay == "unknown" and seen.child and gate.blind < timing.fall):
        return _shut(gate, seen, timing, objection.why, objection.repair)
    if not seen.child or seen.entry in {"none", "stale"}:
        return _lost(gate, seen, timing)
    if gate.bad >= timing.fall:
        return _unready(gate, seen, timing)
    return _reached(gate, seen, timing)


def _reached(gate: Gate, seen: Seen, timing: Timing) -> Gate:
    """Return an open door as a visit from outside found it, if one came back."""
    if seen.path is None:
        return gate
    if seen.path:
        gate = replace(gate, dead=0, repairs=0)
        return _let_in(gate, "the internet reaches it again") if gate.phase == "degraded" else gate
    why = f"the internet does not reach it: {seen.met}" if seen.met else "the internet does not reach it"
    gate = replace(gate, phase="degraded", dead=gate.dead + 1, why=why, repair="")
    if gate.repairs >= timing.path_repairs:
        why = f"{why}; it was opened anew {gate.repairs} times in vain" if gate.repairs else why
        return replace(gate, why=why, repair="homelab-agent doctor gate")
    if gate.dead < DEAD_VISITS:
        return gate
    gate = _shut(gate, seen, timing, f"{why}; it is opened anew")
    return replace(gate, repairs=gate.repairs + 1, wait=max(gate.wait, timing.path_repair_wait))


def _closing(gate: Gate, seen: Seen, timing: Timing, objection: _Objection | None) -> Gate:
    if gate.kept and objection is None and seen.child and seen.entry == "ours":
        if gate.good >= timing.rise:
            return _let_in(gate, f"ready again at {timing.rise} looks in a row")
        if _is_young(gate, seen, timing.open_at_least):
            return gate
    if not seen.child and seen.entry in {"none", "foreign"}:
        return replace(gate, phase="closed", kept=False, session_at=None, why=gate.shut_why, repair=gate.shut_repair)
    if objection is not None:
        gate = replace(gate, why=objection.why, repair=objection.repair)  # it may be what keeps it from shutting
    return replace(gate, kept=False)


def _let_in(gate: Gate, why: str) -> Gate:
    return replace(gate, phase="degraded" if gate.dead else "open", kept=False, why=why, repair="")


def _shut(gate: Gate, seen: Seen, timing: Timing, why: str, repair: str = "") -> Gate:
    """Return a door that lets nobody in, and whose session is to end."""
    after = replace(gate, phase="closing", kept=False, why=why, repair=repair, shut_why=why, shut_repair=repair)
    if gate.session_at is None:
        return after  # nothing was open: the first opening after a start does not wait
    return replace(after, shut_at=seen.now, wait=timing.closed_at_least)


def _unready(gate: Gate, seen: Seen, timing: Timing) -> Gate:
    """Return a door that lets nobody in; a session that is young may stay for when the agent is ready again."""
    after = _shut(gate, seen, timing, _not_ready(seen))
    return replace(after, kept=seen.entry == "ours" and _is_young(gate, seen, timing.open_at_least))


def _lost(gate: Gate, seen: Seen, timing: Timing) -> Gate:
    """Return a door whose session is not what was asked for: its process may live on all the same."""
    if not seen.child:
        ended = seen.ended or Obstacle("Tailscale's session ended", "")
        return _shut(gate, seen, timing, ended.what, ended.repair)
    said = "publishes it no more" if seen.entry == "none" else "publishes it otherwise than it was asked to"
    return _shut(gate, seen, timing, f"tailscaled {said}")


def _is_young(gate: Gate, seen: Seen, seconds: float) -> bool:
    """Return whether the session was begun less than `seconds` ago; after a clock went back, it was not."""
    return gate.session_at is not None and 0 <= seen.now - gate.session_at < seconds


def _not_ready(seen: Seen) -> str:
    return f"not ready: {seen.why_not}" if seen.why_not else "not ready"
