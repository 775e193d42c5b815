from __future__ import annotations

from homelab_agent.config.difference import changes
from tests.house import Book, Cellar, Door, House, Library


def test_what_did_not_change_is_not_applied() -> None:
    changed = changes(House(), House())
    assert (changed.settings, changed.applied, changed.keys, changed.needs_restart) == (House(), {}, (), ())


def test_keys_that_allow_it_apply_and_the_others_wait() -> None:
    new = House(door=Door(width=2, guests=["ann"], listen="a:1"), cellar=Cellar(depth=3))
    changed = changes(House(), new)
    assert changed.applied == {"door": Door(width=2, guests=["ann"])}
    assert changed.keys == ("door.width", "door.guests")
    assert changed.needs_restart == ("door.listen", "cellar.depth")


def test_a_section_switched_on_or_off_needs_a_restart() -> None:
    off, on = House(), House(library=Library(shelf="left"))
    assert changes(off, on).needs_restart == ("library",)
    assert changes(on, off).needs_restart == ("library",)
    assert changes(on, off).settings == on


def test_entries_that_differ_need_a_restart() -> None:
    old = House(library=Library(shelf="left"))
    new = House(library=Library(shelf="left", book=[Book(title="a")]))
    assert changes(old, new).needs_restart == ("library.book",)


def test_the_next_reload_starts_from_what_is_in_force() -> None:
    new = House(door=Door(width=2, listen="a:1"))
    once = changes(House(), new)
    assert once.settings == House(door=Door(width=2))
    again = changes(once.settings, new)
    assert (again.applied, again.needs_restart) == ({}, ("door.listen",))
