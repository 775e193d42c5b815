"""Rows of the reference become rows of ours: pure, but that it remembers what the next row is seen against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from homelab_agent.core.spool import Row
from homelab_agent.metrics import rates, reference, rows
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.lines import Known, Lines
from homelab_agent.metrics.reference import Said, Understood
from homelab_agent.metrics.sample import Values
from homelab_agent.metrics.traffic import Traffic

_STEP = timedelta(milliseconds=1)
_CAUSES = 200
_OTHERS = "other causes"
_EXAMPLES = 5
_TEXT = 200


class Record(NamedTuple):
    """One row of the reference, in the order in which those of one time are taken."""

    time: datetime
    host: str | None
    kind: str | None
    os: str | None
    payload: str | None


@dataclass(slots=True)
class Tally:
    """What became of the rows that were read: by kind, and by host of the reference; what was wrong, and how often."""

    read: int = 0
    taken: int = 0
    repeated: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    strange: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, Record]] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None

    @property
    def not_understood(self) -> int:
        """Rows of which nothing could be taken."""
        return self.read - self.taken - self.repeated

    def fault(self, cause: str, record: Record) -> None:
        """Count what was wrong, and keep the first few rows that it was wrong with."""
        _count(self.faults, cause)
        if len(self.examples) < _EXAMPLES and cause not in {one for one, _ in self.examples}:
            self.examples.append((cause, record._replace(payload=(record.payload or "")[:_TEXT])))

    def strangers(self, names: Iterable[str]) -> None:
        """Count keys that have no column."""
        for name in names:
            _count(self.strange, name)


class Retelling:
    """Takes rows in order of time; `hosts` says how those of the reference are called here."""

    def __init__(
        self, known: Iterable[Known], hosts: Mapping[str, str], state: Mapping[str, Any] | None = None
    ) -> None:
        state = state or {}
        self.tally = Tally()
        self.lines = Lines(known, state.get("lines"))
        self._hosts = hosts
        self._told: set[int] = set()
        self._last = {name: datetime.fromisoformat(at) for name, at in state.get("last", {}).items()}
        self._os: dict[str, str] = dict(state.get("os", {}))
        self._traffic = {name: Traffic.of(one) for name, one in state.get("traffic", {}).items()}

    def state(self) -> Mapping[str, Any]:
        """Return what the next row is seen against, as JSON may hold it."""
        return {
            "lines": self.lines.chosen(),
            "last": {name: at.isoformat() for name, at in self._last.items()},
            "os": self._os,
            "traffic": {name: one.document() for name, one in self._traffic.items()},
        }

    def take(self, records: Iterable[Record]) -> list[Row]:
        """Return what rows of the reference come to, given whole times of them; the tally says what did not."""
        found: list[Row] = []
        before: Record | None = None
        for record in sorted(records, key=_order):
            if record == before:
                self.tally.read += 1
                self.tally.repeated += 1
            else:
                found += self._one(record)
            before = record
        return found

    def _one(self, record: Record) -> list[Row]:
        self.tally.read += 1
        self.tally.kinds[(record.kind or "")[:60]] += 1
        if record.host is None or not reference.is_name(record.host):
            self.tally.fault("host is empty, or too long", record)
            return []
        self.tally.hosts[record.host] += 1
        understood = reference.read(record.kind or "", record.payload)
        for cause in understood.faults:
            self.tally.fault(cause, record)
        self.tally.strangers(understood.strange)
        if not understood.said:
            return []
        self._note(record.time)
        return self._rows(record, record.host, understood)

    def _note(self, at: datetime) -> None:
        self.tally.taken += 1
        self.tally.first = min(self.tally.first or at, at)
        self.tally.last = max(self.tally.last or at, at)

    def _rows(self, record: Record, source: str, understood: Understood) -> list[Row]:
        host = self._hosts.get(source, source)
        at = self._free(f"{host}\n{record.kind}", record.time)
        found = self._system(record, host, at)
        grown = self._grown(source, understood.said, record.time) if record.kind == "network" else {}
        for said in understood.said:
            entity = self.lines.get(host, said.family, said.label)
            if entity.id not in self._told:
                self._told.add(entity.id)
                found += rows.of_entities([entity], host, at)
            values: Values = {**said.values, **grown.get(said.label, {})}
            found.append(
                Row(f"{said.family}_sample", rows.FACT_KEY, {"entity_id": entity.id, "time": at, **values}, at)
            )
        return found

    def _free(self, line: str, wanted: datetime) -> datetime:
        """Return the time of a row: its own, or where that is taken, the next millisecond that is not."""
        last = self._last.get(line)
        at = wanted if last is None or wanted > last else last + _STEP
        self._last[line] = at
        return at

    def _system(self, record: Record, host: str, at: datetime) -> list[Row]:
        """Return the fact that the host's system is another than before."""
        was = self._os.get(host)
        if not reference.is_name(record.os) or record.os == was:
            return []
        assert record.os is not None  # noqa: S101 - it is a name
        self._os[host] = record.os
        values: Values = {"host": host, "name": "os", "key": "", "since": at, "value": record.os, "was": was}
        return [Row("fact", ("host", "name", "key", "since"), values, at)]

    def _grown(self, source: str, said: Iterable[Said], at: datetime) -> Mapping[str, Mapping[str, Any]]:
        totals = {one.label: (one.values["rx_bytes"], one.values["tx_bytes"]) for one in said}
        known: dict[str, tuple[int, int]] = {
            name: (rx, tx) for name, (rx, tx) in totals.items() if isinstance(rx, int) and isinstance(tx, int)
        }
        traffic = self._traffic.setdefault(source, Traffic())
        found = {name: _rates(rates.UNKNOWN) for name in totals}
        return {**found, **{name: _rates(one) for name, one in traffic.observe(known, at).items()}}


def _rates(grown: rates.Growth) -> Mapping[str, Any]:
    received, sent = rates.per_second(grown, 2)
    return {"rx_bytes_per_s": received, "tx_bytes_per_s": sent, "reset": grown.reset}


def entity_of(row: Mapping[str, Any]) -> Known:
    """Return an entity as the database has it."""
    return Known(row["host"], Entity(row["id"], row["family"], row["key"], row["label"]))


def _order(record: Record) -> tuple[datetime, str, str, str, str]:
    return (record.time, record.host or "", record.kind or "", record.os or "", record.payload or "")


def _count(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < _CAUSES else _OTHERS] += 1
