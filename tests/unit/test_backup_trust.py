"""Which archives are ours: noted on disk before anybody is told, whatever was cut short before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.backup.point import Archive
from homelab_agent.backup.trust import Trust

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)


def archive(sha256: str) -> Archive:
    return Archive("things/1", "archive", "things", AT, "crash", sha256, bytes=1, stored_bytes=1, files=1)


def test_what_was_noted_is_trusted_and_nothing_else(tmp_path: Path) -> None:
    trust = Trust(tmp_path / "records")
    assert trust.how("a" * 64) is None
    trust.note(archive("a" * 64), AT)
    trust.note(archive("b" * 64), AT, "named")
    assert [trust.how(letter * 64) for letter in "abc"] == ["wrote", "named", None]
    assert trust.how("") is None
    assert (tmp_path / "records" / "trust").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_line_that_was_cut_short_is_passed_over(cut: int, tmp_path: Path) -> None:
    trust = Trust(tmp_path)
    trust.note(archive("a" * 64), AT)
    whole = (tmp_path / "trust").read_bytes()
    trust.note(archive("b" * 64), AT)
    (tmp_path / "trust").write_bytes((tmp_path / "trust").read_bytes()[: len(whole) + cut])
    assert (trust.how("a" * 64), trust.how("b" * 64)) == ("wrote", None)
    trust.note(archive("c" * 64), AT)
    assert [trust.how(letter * 64) for letter in "abc"] == ["wrote", None, "wrote"]


@pytest.mark.parametrize("line", ["rubbish", "[]", "{}", '{"sha256": null}', "null", '"sha256"'])
def test_a_line_that_makes_no_sense_is_passed_over(line: str, tmp_path: Path) -> None:
    (tmp_path / "trust").write_text(f"{line}\n")
    trust = Trust(tmp_path)
    assert trust.how("") is None
    trust.note(archive("a" * 64), AT)
    assert trust.how("a" * 64)


def test_a_line_from_before_it_said_how_is_of_what_was_written_here(tmp_path: Path) -> None:
    (tmp_path / "trust").write_text(f'{{"sha256": "{"a" * 64}", "engine": "archive"}}\n')
    assert Trust(tmp_path).how("a" * 64) == "wrote"


def test_the_strongest_reason_counts_and_what_another_host_trusted_was_named(tmp_path: Path) -> None:
    theirs, ours = Trust(tmp_path / "theirs"), Trust(tmp_path / "ours")
    for letter in "ab":
        theirs.note(archive(letter * 64), AT)
    ours.note(archive("a" * 64), AT, "named")
    ours.note(archive("a" * 64), AT, "read back")
    text = (tmp_path / "theirs" / "trust").read_text()
    ours.adopt(f"{text}rubbish\n")
    ours.adopt(text)
    assert [ours.how(letter * 64) for letter in "ab"] == ["read back", "named"]
    assert (tmp_path / "ours" / "trust").read_text().count("named") == 2


def test_what_was_deleted_is_not_trusted_any_more_and_all_else_is(tmp_path: Path) -> None:
    trust = Trust(tmp_path)
    moved = replace(archive("c" * 64), engine="away")
    for one in (archive("a" * 64), archive("b" * 64), moved, archive("a" * 64)):
        trust.note(one, AT)
    trust.note(archive("b" * 64), AT, "named")
    with (tmp_path / "trust").open("a") as file:
        file.write('{"sha256": "of an older release"}\n{"sha256": "cut sho')
    trust.forget(archive("a" * 64))
    trust.forget(replace(moved, engine="archive"))
    assert [trust.how(letter * 64) for letter in "abc"] == [None, "wrote", "wrote"]
    assert trust.how("of an older release") == "wrote"
    assert (tmp_path / "trust").stat().st_mode & 0o777 == 0o600
    assert "a" * 64 not in (tmp_path / "trust").read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["trust"]
    trust.note(archive("a" * 64), AT)
    assert trust.how("a" * 64) == "wrote"


def test_nothing_that_is_noted_while_another_is_dropped_is_lost(tmp_path: Path) -> None:
    """As by a restore that a person has begun while a round deletes."""
    noted = [f"{number:064}" for number in range(200)]
    gone = [f"{number:064}" for number in range(200, 300)]
    for one in gone:
        Trust(tmp_path).note(archive(one), AT)
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(Trust(tmp_path).note, archive(one), AT) for one in noted]
        work += [pool.submit(Trust(tmp_path).forget, archive(one)) for one in gone]
        for done in work:
            done.result()
    assert {Trust(tmp_path).how(one) for one in noted} == {"wrote"}
    assert {Trust(tmp_path).how(one) for one in gone} == {None}
