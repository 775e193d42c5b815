"""What is to be copied, decided by counts of both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.database.moving import pieces

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
counts = st.dictionaries(
    st.integers(0, 60).map(lambda number: BEGIN + number * HOUR), st.integers(1, 50).map(lambda rows: (rows, rows))
)


@given(counts, counts, st.integers(1, 120))
def test_every_bucket_that_differs_is_in_one_piece_and_no_other_is(
    source: pieces.Counts, target: pieces.Counts, most: int
) -> None:
    lacking = pieces.lacking(source, target, {})
    assert lacking == sorted(bucket for bucket in source if target.get(bucket) != source[bucket])
    cut = pieces.cut(lacking, source, target, HOUR, most)
    found = [piece.begin + number * HOUR for piece in cut for number in range((piece.end - piece.begin) // HOUR)]
    assert found == lacking
    for piece in cut:
        assert piece.rows <= most or piece.end - piece.begin == HOUR
        assert piece.is_new == (piece.begin not in target)


def test_what_the_target_has_more_of_is_copied_once_and_again_when_either_changes() -> None:
    ours, theirs = (10, 10), (12, 12)
    assert pieces.lacking({BEGIN: ours}, {BEGIN: theirs}, {}) == [BEGIN]
    accepted = {BEGIN: (ours, theirs)}
    assert pieces.lacking({BEGIN: ours}, {BEGIN: theirs}, accepted) == []
    assert pieces.lacking({BEGIN: (11, 11)}, {BEGIN: theirs}, accepted) == [BEGIN]
    assert pieces.lacking({BEGIN: ours}, {BEGIN: (11, 11)}, accepted) == [BEGIN]


def test_what_the_target_has_less_of_is_never_accepted() -> None:
    accepted = {BEGIN: ((10, 10), (9, 9))}
    assert pieces.lacking({BEGIN: (10, 10)}, {BEGIN: (9, 9)}, accepted) == [BEGIN]
    fewer_samples = {BEGIN: ((10, 60), (10, 59))}
    assert pieces.lacking({BEGIN: (10, 60)}, {BEGIN: (10, 59)}, fewer_samples) == [BEGIN]
