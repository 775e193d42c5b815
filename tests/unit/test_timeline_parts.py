"""What each room tells of its rows: in words, with causes, and the same whichever source a row is from."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from homelab_agent import capabilities
from homelab_agent.backup import undo_note
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.commands.timeline import ROOMS
from homelab_agent.core.door import Visits
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.spool.parcel import decode, encode
from homelab_agent.core.state import State
from homelab_agent.core.statefile import StateUnavailable
from homelab_agent.core.timeline import Entry, Facts, Part, Standing, Table, Window, brief, checks, kept, ordered, runs
from homelab_agent.gate.ledger import Ledger
from tests.clock import MovableClock

AT = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
PARTS: Mapping[str, Part] = {
    "runs": runs.PART,
    "checks": checks.PART,
    **{name: capabilities.import_room(name, "timeline").PART for name in ROOMS},
}


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def tell(**rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return what all rooms tell of these rows by table, of the host nas."""
    tables = {table.name: table for part in PARTS.values() for table in (*part.tables, *_noted(part))}
    facts = Facts()
    for name, known in rows.items():
        facts.add(tables[name], ({"host": "nas", **row} for row in known))
    return list(ordered(entry for part in PARTS.values() for entry in part.tell(facts)))


def _noted(part: Part) -> list[Table]:
    return [part.noted.table] if part.noted else []


def run(**more: Any) -> dict[str, Any]:
    known = {"id": "r1", "job": "backup.run", "trigger": "schedule", "state": "ok", "detail": "", "repair": ""}
    return {**known, "requested_at": AT, "started_at": AT, "ended_at": after(5), **more}


def texts(entries: Iterable[Entry]) -> list[str]:
    return [f"{one.kind}: {one.text}" for one in entries]


def test_a_run_that_ended_well_is_told_by_what_it_did() -> None:
    backup: dict[str, Any] = {
        "id": "b1",
        "run_id": "r1",
        "set_name": "photos",
        "engine": "archive",
        "state": "ok",
        "detail": "",
    }
    backup |= {"archive_id": "photos-1", "bytes": 3 * 2**20, "started_at": after(1), "ended_at": after(4)}
    archive: dict[str, Any] = {
        "engine": "archive",
        "id": "photos-1",
        "set_name": "photos",
        "at": after(1),
        "verdict": "cold",
    }
    archive |= {"stored_bytes": 2**20}
    told = tell(job_run=[run()], backup_run=[backup], backup_archive=[archive])
    assert texts(told) == ["backup: photos to archive, ok, 3.0 MiB"]
    alone = tell(job_run=[run()], backup_archive=[{**archive, "run_id": "r1"}])
    assert [one.name for one in alone] == [one.name for one in told]
    failed = run(state="timed_out", detail="not done within 5 s")
    lines = texts(tell(job_run=[failed], backup_run=[{**backup, "state": "failed", "archive_id": ""}]))
    assert lines == [
        "run: backup.run, by schedule, timed out: not done within 5 s",
        "backup: photos to archive, failed",
    ]


def test_a_sync_that_postgresql_does_not_tell_of_is_told_by_its_run() -> None:
    known = run(job="reading.sync", trigger="command", detail="12 inserted")
    assert texts(tell(job_run=[known])) == ["reading: reading.sync, by command, ok: 12 inserted"]
    row: dict[str, Any] = {"run": "r1", "origin": "articles", "stream": "sync", "started_at": AT, "ended_at": after(1)}
    row |= {"status": "partial", "inserted": 12, "rejected": 1, "error": "it went away"}
    (one,) = tell(job_run=[known], sync_history=[row])
    assert one.text == "articles, partial, 12 inserted, 1 rejected: it went away"
    assert one.standing is Standing.FAILED


def test_pushes_that_came_while_a_run_waited_stand_before_what_was_deployed_for_them() -> None:
    def attempt(guid: str, seconds: float) -> dict[str, Any]:
        known: dict[str, Any] = {
            "guid": guid,
            "attempt": 1,
            "repository": "site",
            "event": "push",
            "ref": "refs/heads/main",
        }
        known |= {"verdict": "ok", "detail": "", "run_id": "r1", "opened_at": after(seconds), "closed_at": after(9)}
        return known

    move: dict[str, Any] = {
        "id": "m1",
        "repository": "site",
        "from_sha": "a" * 40,
        "to_sha": "b" * 40,
        "state": "failed",
    }
    move |= {"detail": "web failed", "run_id": "r1", "started_at": after(2), "ended_at": after(9)}
    actions = [
        {"move_id": "m1", "position": number, "name": name, "state": state, "detail": "", "started_at": after(2)}
        | {"ended_at": after(3)}
        for number, (name, state) in enumerate([("zip", "ok"), ("web", "failed")])
    ]
    told = tell(
        job_run=[run(job="gitops.sync.site", trigger="webhook", state="failed", requested_at=AT)],
        gitops_verdict=[attempt("second", 1), attempt("first", 0)],
        gitops_move=[move],
        gitops_action=actions,
    )
    assert [f"{one.kind} {one.id}" for one in told] == [
        "delivery first", "run r1", "delivery second", "deployment m1", "action m1", "action m1"
    ]  # fmt: skip
    assert [one.text for one in told][-3:] == [
        "site aaaaaaa to bbbbbbb, failed: web failed", "zip of site, ok", "web of site, failed"
    ]  # fmt: skip


def test_a_silence_stands_before_the_start_that_ends_it_and_is_told_once() -> None:
    silence = {"from_at": AT, "to_at": after(60), "cause": "agent down"}
    start = {"time": after(60), "boot_at": AT, "interval_s": 10, "version": "0.1.0"}
    suspended = {"from_at": after(90), "to_at": after(200), "cause": "suspended"}
    told = tell(silence=[silence, suspended], interruption=[suspended], agent_start=[start])
    assert [one.kind for one in told] == ["silence", "start", "silence"]


def test_what_was_found_at_the_first_look_is_one_entry_and_what_changes_then_one_each() -> None:
    def fact(name: str, seconds: float, value: str | None, was: str | None = None, key: str = "") -> dict[str, Any]:
        return {"name": name, "key": key, "since": after(seconds), "value": value, "was": was}

    told = tell(
        fact=[
            fact("kernel", 0, "6.1"), fact("disk", 0, "Samsung", key="S1"),
            fact("kernel", 9, "6.2", "6.1"), fact("disk", 9, None, "Samsung", "S1"), fact("disk", 9, "WD", None, "S2"),
        ]
    )  # fmt: skip
    assert [one.text for one in told] == [
        "looked at this host for the first time, 2 facts",
        "disk S1: is gone, was Samsung", "disk S2: is WD, was not there", "kernel: is 6.2, was 6.1",
    ]  # fmt: skip


def test_a_check_is_told_when_it_comes_to_need_somebody_and_when_it_does_so_no_more() -> None:
    def found(seconds: float, state: str, *, name: str = "gate.funnel", began: float = 0.0, expected: str = "") -> Any:
        known = {"check_name": name, "started_at": after(began), "state": state, "expected": expected}
        return {**known, "at": after(seconds), "detail": f"as of {seconds}", "repair": ""}

    told = tell(
        finding=[
            found(0, "degraded", expected="the agent is starting"), found(1, "ok"), found(100, "degraded"),
            found(101, "failed"), found(102, "ok"), found(200, "ok", began=200),
            found(150, "ok", name="web"), found(5, "ok", name="disk"),
        ]
    )  # fmt: skip
    assert [one.text for one in told] == [
        "gate.funnel is degraded: as of 100", "gate.funnel is failed: as of 101", "gate.funnel is ok: as of 102",
        "web is ok: as of 150",
    ]  # fmt: skip


def test_messages_to_targets_are_told_with_what_became_of_them() -> None:
    known = {"target": "phone", "severity": "failed", "title": "nas: web is failed", "checks": "web", "made_at": AT}
    told = tell(
        notification=[
            {**known, "id": "n1", "ended_at": after(2), "outcome": "sent", "tries": 1, "answer": "it answers 200 OK"},
            {**known, "id": "n2", "ended_at": after(90000), "outcome": "given up", "tries": 99, "answer": "refused"},
        ]
    )
    assert texts(told) == [
        "notify: phone was told of web: it answers 200 OK", "notify: phone was not told, given up, of web: refused",
    ]  # fmt: skip
    assert [one.standing for one in told] == [Standing.DONE, Standing.FAILED]


def test_secrets_holds_gaps_and_drills_are_told_in_words() -> None:
    told = tell(
        secret_change=[
            {"id": "s1", "at": AT, "reference": "openbao:a#b", "version": "4", "outcome": "refused", "cause": "no"}
        ],
        gate_intent=[
            {"said_at": after(1), "is_held": True, "who": "me", "why": "moving", "until": after(7201)},
            {"said_at": after(2), "is_held": False, "who": "me", "why": "", "until": None},
        ],
        gap=[{"from_at": after(3), "to_at": after(9), "cause": "the spool was full", "rows": 7}],
        backup_drill=[
            {"id": "d1", "engine": "archive", "archive_id": "p-1", "set_name": "p", "ok": False, "detail": "no\x1b[2J"}
            | {"seconds": 2.0, "ended_at": after(6)}
        ],
    )
    assert texts(told) == [
        "secret: openbao:a#b version 4, refused, the old value stays: no",
        "gate: held shut by me for 2:00:00: moving",
        "gate: released by me",
        "gap: 7 rows that waited for PostgreSQL were given up: the spool was full",
        "drill: p-1 at archive, not proven restorable: no?[2J",
    ]


def test_restores_are_told_by_their_notes(tmp_path: Path) -> None:
    noted = PARTS["backup"].noted
    assert noted is not None
    settings = BackupSettings(records=tmp_path)
    assert not list(noted.read(settings))
    undo = undo_note.Undo("u1", "photos", "photos-1", AT, "kept", live="new", first=False, places=[Path("/srv/p")])
    (tmp_path / "undo").mkdir()
    for name, one in {"u1": undo, "u2": replace(undo, id="u2", step="replacing")}.items():
        (tmp_path / f"undo/{name}.json").write_text(undo_note.text(one))
    (tmp_path / "undo/u3.json").write_text("{")
    assert texts(tell(restore=noted.read(settings))) == [
        "restore: photos from photos-1, done: /srv/p",
        "restore: photos from photos-1, under way, or cut short: /srv/p",
    ]


async def test_an_opening_is_told_the_same_from_its_own_table_and_from_the_spool(tmp_path: Path) -> None:
    clock = MovableClock()
    schema = Path(capabilities.__file__).parent / "gate/schema/state.sql"
    state = await State.open(tmp_path, [schema], clock=clock)
    spool = Spool(state, clock, host="nas", max_bytes=2**20, max_age=1e6)
    ledger = Ledger(state, spool, clock, host="nas", registry=CollectorRegistry())
    window = Window(clock.read().wall - timedelta(hours=1))
    gate = PARTS["gate"]

    async def read(tables: Iterable[Table]) -> list[Entry]:
        facts = Facts()
        assert await asyncio.to_thread(kept.read, tmp_path, "nas", list(tables), window, facts) == 0
        return list(ordered(gate.tell(facts)))

    try:
        await ledger.begin("all is well")
        assert texts(await read(gate.tables)) == ["gate: opened: all is well"]
        await ledger.end("told to", Visits(requests=0, sources=0, sent_bytes=0), checks=["state"])
        told = await read(gate.tables)
        assert texts(told) == [
            "gate: opened: all is well", "gate: shut after 0 s, 0 requests from 0 addresses: told to: state"
        ]  # fmt: skip
        assert await read(replace(table, kept="") for table in gate.tables) == told, "from the spool alone"
        assert await read(replace(table, kept="SELECT * FROM of_a_later_release") for table in gate.tables) == told
        await state.write(lambda connection: connection.execute("UPDATE spool SET body = x'00'").close())
        facts = Facts()
        assert await asyncio.to_thread(kept.read, tmp_path, "nas", list(gate.tables), window, facts) == 1
    finally:
        await spool.close()
        await state.close()


def test_no_state_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable):
        kept.read(tmp_path, "nas", [], Window(AT), Facts())
    (tmp_path / "state.db").write_bytes(b"no database" * 999)
    with pytest.raises(StateUnavailable):
        kept.read(tmp_path, "nas", list(PARTS["gate"].tables), Window(AT), Facts())


def test_of_a_parcel_only_what_is_wanted_is_read() -> None:
    rows = [Row(name, ("host",), {"host": "nas"}, AT) for name in ("agent_start", "cpu_sample", "agent_start")]
    assert [row.table for row in decode(encode(rows), only={"agent_start"})] == ["agent_start"] * 2
    assert decode(encode(rows), only={"gap"}) == ()
    assert decode(encode(rows)) == tuple(rows)


def test_every_query_of_state_db_is_one_that_its_schema_answers() -> None:
    root = Path(capabilities.__file__).parent
    with sqlite3.connect(":memory:") as connection:
        for file in [*sorted(root.glob("*/schema/state.sql")), root / "core/schema/jobs.sql"]:
            connection.executescript(file.read_text())
        for part in PARTS.values():
            for table in part.tables:
                if table.kept:
                    names = {column[0] for column in connection.execute(table.kept).description}
                    assert {table.began, table.ended, *table.key} <= names, table.name


def test_a_window_has_what_began_or_ended_in_it_or_goes_on() -> None:
    window = Window(AT, after(10), host="nas")
    one = Entry("a", after(-5), "nas", "run", "")
    assert not window.has(one)
    assert window.has(replace(one, until=AT))
    assert window.has(replace(one, standing=Standing.UNDER_WAY))
    assert window.has(replace(one, at=AT))
    assert not window.has(replace(one, at=after(10)))
    assert not window.has(replace(one, at=AT, host="pi"))


def test_a_row_that_two_sources_have_is_one_and_keeps_what_either_knows() -> None:
    table = PARTS["backup"].tables[1]
    facts = Facts()
    known = uuid4()
    facts.add(table, [{"host": "nas", "engine": "e", "id": "1", "run_id": "r", "at": AT}])
    facts.add(table, [{"host": "nas", "engine": "e", "id": "1", "sha256": known, "at": AT}])
    assert facts[table.name] == [
        {"host": "nas", "engine": "e", "id": "1", "run_id": "r", "sha256": str(known), "at": AT}
    ]


def test_a_text_is_one_line_of_bounded_length() -> None:
    assert brief("a\n b", "", "c\x07") == "a b: c?"
    assert len(brief("x" * 9999)) == 200
