"""Migrations: their order, their editions, and that what was applied never changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.database import migrations
from homelab_agent.database.migrations import Applied, Migration


def write(rooms: Path, room: str, name: str, sql: str = "SELECT 1;") -> Path:
    path = rooms / room / "schema" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sql)
    return path


def test_the_database_room_comes_first_then_the_others_by_name_and_number(tmp_path: Path) -> None:
    rooms = tmp_path / "agent"
    for room, name in [
        ("metrics", "0002_b.sql"),
        ("backup", "0001_a.sql"),
        ("metrics", "0001_a.sql"),
        ("database", "0001_f.sql"),
    ]:
        write(rooms, room, name)
    write(rooms, "metrics", "state.sql")
    assert [each.key for each in migrations.load("plain", rooms)] == [
        ("database", 1), ("backup", 1), ("metrics", 1), ("metrics", 2),
    ]  # fmt: skip


def test_an_edition_takes_its_own_variant(tmp_path: Path) -> None:
    write(tmp_path, "metrics", "0001_a.sql", "plain")
    write(tmp_path, "metrics", "0001_a.timescale.sql", "hypertable")
    assert [each.sql for each in migrations.load("plain", tmp_path)] == ["plain"]
    assert [each.sql for each in migrations.load("timescale", tmp_path)] == ["hypertable"]


@pytest.mark.parametrize("names", [("0001_a.sql", "0001_b.sql"), ("1_a.sql",), ("0001-a.sql",)])
def test_a_misnamed_file_is_a_fault_of_the_release(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path, "metrics", name)
    with pytest.raises(ValueError, match="0001"):
        migrations.load("plain", tmp_path)


@pytest.mark.parametrize("edition", ["plain", "timescale"])
def test_every_room_of_this_release_is_numbered_from_one_without_a_gap(edition: str) -> None:
    numbers: dict[str, list[int]] = {}
    for migration in migrations.load(edition):
        numbers.setdefault(migration.room, []).append(migration.number)
    assert "database" in numbers
    for room, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), room


keys = st.tuples(st.sampled_from(["database", "metrics", "gate"]), st.integers(1, 9))


@given(st.sets(keys), st.sets(keys))
def test_exactly_what_was_not_applied_is_pending_and_what_is_newer_is_left_alone(
    here: set[tuple[str, int]], there: set[tuple[str, int]]
) -> None:
    files = [Migration(room, number, "x", f"{room}/{number}", "SELECT 1") for room, number in sorted(here)]
    applied = {key: Applied(files[0].checksum if files else "", "2026-11-24") for key in there}
    assert {each.key for each in migrations.pending(files, applied)} == here - there


def test_a_changed_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    write(tmp_path, "metrics", "0001_a.sql", "CREATE TABLE a ();")
    before = migrations.load("plain", tmp_path)[0]
    write(tmp_path, "metrics", "0001_a.sql", "CREATE TABLE b ();")
    with pytest.raises(migrations.MigrationChanged, match=r"metrics/schema/0001_a\.sql") as error:
        migrations.pending(migrations.load("plain", tmp_path), {before.key: Applied(before.checksum, "2026-11-24")})
    assert "2026-11-24" in str(error.value)
    assert error.value.repair


@given(st.text(alphabet="ab \n", max_size=20))
def test_line_ends_do_not_change_the_checksum(text: str) -> None:
    unix, dos = (Migration("m", 1, "x", "f", sql) for sql in (text, text.replace("\n", "\r\n")))
    assert unix.checksum == dos.checksum
