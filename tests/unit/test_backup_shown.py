"""How far a restore is, as a person reads it."""

from __future__ import annotations

import pytest

from homelab_agent.backup import shown


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (0, None, 0.0, "restored 0 B"),
        (2_500_000, None, 10.0, "restored 2.5 MB, 250.0 kB/s"),
        (0, 4_000, 9.0, "restored 0 B of 4.0 kB"),
        (1_000_000_000, 4_000_000_000, 10.0, "restored 1.0 GB of 4.0 GB, 100.0 MB/s, 0:30 left"),
        (1_000, 700_000, 1.0, "restored 1.0 kB of 700.0 kB, 1.0 kB/s, 11:39 left"),
        (5_000, 4_000, 5.0, "restored 5.0 kB of 4.0 kB, 1.0 kB/s, 0:00 left"),
    ],
)
def test_bytes_of_how_many_the_rate_and_what_is_left(done: int, total: int | None, seconds: float, said: str) -> None:
    assert shown.words(done, total, "restored", seconds) == said


def test_where_nobody_looks_there_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.shown() as say:
        for what in ("restored", "loaded"):
            for done in range(1001):
                say(done, 1000, what)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert [line.partition(",")[0] for line in lines[::11]] == ["restored 0 B of 1.0 kB", "loaded 0 B of 1.0 kB"]


def test_a_program_is_told_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.shown(silent=True) as say:
        say(1, 2, "restored")
    assert capsys.readouterr().out == ""
