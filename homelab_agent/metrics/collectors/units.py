"""Units of systemd: how each stands, since when, and how often it was started again (org.freedesktop.systemd1(5)).

A unit stands the same for weeks, so there is a row when something has changed, and one now and then: where there is
none for longer, nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from homelab_agent.metrics import bus, rates
from homelab_agent.metrics.bus import Bus, Property, Unit, Value
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings, shown

REFRESH_SECONDS = 900.0
"""A unit that stands as it did has a row after this time, or after `slow_interval` where that is longer."""
UNLOADED = "unloaded"
"""What is said once of a unit that systemd has forgotten: it does not run, and has not failed."""

_SERVICE, _MOUNT = ".service", ".mount"


@dataclass(frozen=True, slots=True)
class Seen:
    """How a unit stands, in systemd's words; `restarts` are a service's, `type` is a mount's too.

    `result` says why it failed. `began` is when it came to stand so: a service that somebody has restarted stands as
    before, but since then.
    """

    state: str
    substate: str
    type: str = ""
    restarts: int | None = None
    result: str | None = None
    began: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """What stays until a unit's file is edited; `again` says that systemd may start the service again by itself."""

    type: str
    again: bool


class Units:
    """Family `unit`: known by the unit's name."""

    name = "unit"
    slow = True
    patience = 2.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._kinds: dict[str, _Kind] = {}
        self._shown: dict[str, bool] = {}
        self._learned_at = 0.0
        self._learned_by = settings
        self._seen: Mapping[str, Seen] = {}
        self._seen_by = settings
        self._told: dict[str, float] = {}
        self._counters: rates.Counters[str] = rates.Counters()

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings; units that are no longer shown are not taken for gone."""
        self._settings = settings

    def collect(self) -> Families:
        """Ask systemd how every unit stands, in a few calls over one connection."""
        if not self._host.path("/run/systemd/system").is_dir():  # sd_booted(3)
            raise NotAvailable(what="systemd")
        socket = self._host.path(bus.SOCKET)
        if not socket.exists():
            raise NotAvailable(what="system bus, on which systemd is asked (apt install dbus)")
        settings = self._settings  # others may come at any time
        with Bus(socket, patience=settings.collector_deadline) as asked:
            seen = self._look(asked, settings)
        return {"unit": self.readings(seen, settings)}

    def readings(self, seen: Mapping[str, Seen], settings: MetricsSettings | None = None) -> Sequence[Reading]:
        """Return what is to be told of all units, given how they stand; those of which nothing is new are no news.

        `settings` are those by which the units were chosen: if not given, the agent's.
        """
        settings, now = settings or self._settings, self._host.monotonic()
        before = self._seen if settings is self._seen_by else {}
        counters = {name: (one.restarts,) for name, one in seen.items() if one.restarts is not None}
        grown = self._counters.observe(counters, now, interval=settings.slow_step)
        gone = {name: Seen(UNLOADED, UNLOADED, one.type) for name, one in before.items() if name not in seen}
        longest = max(REFRESH_SECONDS, settings.slow_interval)
        found = []
        for name, one in {**seen, **gone}.items():
            news = one != before.get(name) or now - self._told.get(name, 0.0) >= longest
            if news:
                self._told[name] = now
            found.append(
                Reading(self._host.entities.get("unit", name), _values(one, grown.get(name, rates.UNKNOWN)), news=news)
            )
        for name in gone:
            self._told.pop(name, None)
        self._seen, self._seen_by = seen, settings
        return found

    def _look(self, asked: Bus, settings: MetricsSettings) -> Mapping[str, Seen]:
        now = self._host.monotonic()
        if settings is not self._learned_by or now - self._learned_at >= REFRESH_SECONDS:  # files are edited
            self._kinds, self._shown, self._learned_at, self._learned_by = {}, {}, now, settings
        listed = asked.units(settings.units_include)
        units = [one for one in listed if one.load == "loaded" and self._is_shown(one.name, settings)]
        self._learn(asked, [one for one in units if one.name.endswith((_SERVICE, _MOUNT))])
        wanted = {one.name: self._wanted(one) for one in units}
        values = iter(asked.read([prop for props in wanted.values() for prop in props]))
        said = {name: {prop.name: next(values) for prop in props} for name, props in wanted.items()}
        return {one.name: self._standing(one, said[one.name]) for one in units}

    def _is_shown(self, name: str, settings: MetricsSettings) -> bool:
        known = self._shown.get(name)
        if known is None:
            known = self._shown[name] = shown(name, settings.units_include, settings.units_exclude)
        return known

    def _learn(self, asked: Bus, units: Sequence[Unit]) -> None:
        """Ask of what kind units are of which that is not known."""
        new = [one for one in units if one.name not in self._kinds]
        types = asked.read([Property(one.path, _interface(one), "Type") for one in new])
        restarts = asked.read([Property(one.path, "Service", "Restart") for one in new])  # None for a mount
        for one, kind, restart in zip(new, types, restarts, strict=True):
            if kind is not None:
                self._kinds[one.name] = _Kind(str(kind), restart not in {None, "no"})

    def _wanted(self, unit: Unit) -> Sequence[Property]:
        """Return what has to be asked of a unit beyond what the list of all says: little, of most nothing."""
        before, kind = self._seen.get(unit.name), self._kinds.get(unit.name)
        moved = before is None or (before.state, before.substate) != (unit.active, unit.sub)
        wanted = []
        if moved or (unit.active == "active" and unit.name.endswith(_SERVICE)):
            wanted.append(Property(unit.path, "Unit", "StateChangeTimestamp"))
        if kind is not None and kind.again:
            wanted.append(Property(unit.path, "Service", "NRestarts"))
        if unit.active in {"failed", "activating"}:
            wanted.append(Property(unit.path, _interface(unit), "Result"))
        return wanted

    def _standing(self, unit: Unit, said: Mapping[str, Value | None]) -> Seen:
        before, kind = self._seen.get(unit.name), self._kinds.get(unit.name)
        began = before.began if before is not None else None
        if "StateChangeTimestamp" in said:
            began = _instant(said["StateChangeTimestamp"])
        restarts = said.get("NRestarts", 0 if unit.name.endswith(_SERVICE) else None)
        result = said.get("Result")
        return Seen(
            unit.active,
            unit.sub,
            "" if kind is None else kind.type,
            restarts if isinstance(restarts, int) else None,
            result if isinstance(result, str) and result != "success" else None,
            began,
        )


def _interface(unit: Unit) -> str:
    return unit.name.rpartition(".")[2].capitalize()


def _instant(microseconds: Value | None) -> datetime | None:
    """Return when something happened; systemd says 0 where it never did."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC) if isinstance(microseconds, int) and microseconds else None


def _values(seen: Seen, grown: rates.Growth) -> Values:
    return {
        "state": seen.state,
        "substate": seen.substate,
        "type": seen.type,
        "result": seen.result,
        "since": seen.began,
        "active": seen.state == "active",
        "failed": seen.state == "failed",
        "restarts": seen.restarts,
        "restarted": None if grown.deltas is None or grown.deltas[0] is None else int(grown.deltas[0]),
        "reset": grown.reset,
    }
