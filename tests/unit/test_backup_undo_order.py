"""Which of several restores is to be taken back, or done again, before another one can be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from homelab_agent.backup.inventory import Identity
from homelab_agent.backup.swap import Move
from homelab_agent.backup.undo_note import Renaming, Server, Undo
from homelab_agent.backup.undo_order import in_the_way

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)
PLACE = Path("/srv/place")


def move(live: Path, old: int | None, new: int | None) -> Move:
    return Move(live, live.with_name("beside"), old, new)


def undo(name: str, *moves: Move, hour: int, servers: tuple[Server, ...] = ()) -> Undo:
    at = AT + timedelta(hours=hour)
    return Undo(name, "things", "archive", at, "kept", "new", first=False, moves=moves, servers=servers)


FIRST = undo("first", move(PLACE, 1, 2), hour=1)
SECOND = undo("second", move(PLACE, 2, 3), hour=2)
THIRD = undo("third", move(PLACE, 3, 4), hour=3)


def turned(*undos: Undo) -> list[Undo]:
    return [replace(one, live="old") for one in undos]


def test_the_latest_is_first_to_be_taken_back() -> None:
    all_of_them = [FIRST, SECOND, THIRD]
    assert [in_the_way(one, all_of_them) for one in all_of_them] == [THIRD, THIRD, None]


def test_they_are_done_again_in_their_order() -> None:
    first, second, third = turned(FIRST, SECOND, THIRD)
    assert [in_the_way(one, [first, second, third]) for one in (first, second, third)] == [None, first, second]
    assert in_the_way(second, [FIRST, second, third]) is None


def test_numbers_tell_the_order_where_a_clock_was_set_back() -> None:
    earlier = replace(SECOND, at=AT)
    assert in_the_way(earlier, [FIRST, earlier]) is None
    assert in_the_way(FIRST, [FIRST, earlier]) == earlier


def test_the_number_of_a_deleted_file_that_another_one_has_now_tells_nothing() -> None:
    (second,) = turned(replace(SECOND, moves=[move(PLACE, 7, 2)]))
    assert in_the_way(FIRST, [FIRST, second]) is None


def test_what_replaced_something_else_is_in_nobodys_way() -> None:
    other = undo("other", move(PLACE.with_name("other"), 2, 9), hour=2)
    new = undo("new", move(PLACE / "file", None, 5), hour=3)
    assert in_the_way(FIRST, [FIRST, other]) is None
    assert in_the_way(FIRST, [FIRST, other, new]) == new, "it is in the same place"
    gone = undo("gone", move(PLACE / "file", 5, None), hour=4)
    assert in_the_way(gone, [new, gone]) is None, "that nothing is there is nothing that one keeps for the other"


def test_databases_have_their_order_too() -> None:
    def of(hour: int, old: int, new: int, container: str = "db") -> Undo:
        server = Server(Identity("", "", "", container), "postgres", [Renaming("shop", f"beside{hour}", old, new)])
        return undo(f"at {hour}", hour=hour, servers=(server,))

    first, second, elsewhere = of(1, 10, 11), of(2, 11, 12), of(3, 11, 12, "other")
    assert in_the_way(first, [first, second, elsewhere]) == second
    assert in_the_way(second, [first, second, elsewhere]) is None
    two = turned(first, second)
    assert in_the_way(two[1], two) == two[0]
