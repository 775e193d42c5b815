"""What a restic means by its words and its exit codes, and whose lock nobody can hold any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Content
from homelab_agent.backup.restic import errors
from homelab_agent.backup.restic.locks import Lock, Present, is_dead
from homelab_agent.backup.restic.manifest import Manifest, Root

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
RETRIED = "Load(<data/810087c271>, 2743259, 256893) returned error, retrying after 15.394871241s:"


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (2, f"{RETRIED} unexpected EOF\ncannot dump file: ReadFull(<data/81>): unexpected EOF", errors.Damaged),
        (2, f"{RETRIED} open /r/data/18/18d6: no such file or directory\ncannot dump file", errors.Damaged),
        (1, "Fatal: wrong password or no key found", errors.WrongPassword),
        (12, "Fatal: something in other words", errors.WrongPassword),
        (1, "Fatal: unable to open config file: stat /r/config: no such file or directory", errors.NoRepository),
        (10, "Fatal: repository does not exist", errors.NoRepository),
        (1, "unable to create lock in backend: repository is already locked by PID 7 on nas", errors.RepositoryLocked),
        (11, "unable to create lock", errors.RepositoryLocked),
        (3, "Warning: at least one source file could not be read", errors.Unreadable),
        (1, "Fatal: what nobody has heard of", errors.ResticFailed),
    ],
)
def test_what_restic_says_has_a_meaning(code: int, said: str, kind: type[errors.ResticFailed]) -> None:
    failure = errors.failure(code, said, "offsite", lambda text: text)
    assert type(failure) is kind
    assert "offsite" in str(failure)


@pytest.mark.parametrize(
    ("lock", "dead"),
    [
        (Lock("a", "attic", 7, NOON, exclusive=False), False),
        (Lock("a", "attic", 7, NOON, exclusive=True), False),
        (Lock("its process is gone", "attic", 8, NOON, exclusive=False), True),
        (Lock("from before the boot", "attic", 7, NOON - timedelta(hours=2), exclusive=False), True),
        (Lock("another host's", "nas", 8, NOON - timedelta(days=9), exclusive=True), False),
    ],
)
def test_only_a_lock_that_nobody_can_hold_is_dead(lock: Lock, *, dead: bool) -> None:
    present = Present("attic", NOON - timedelta(hours=1), frozenset({7}))
    assert is_dead(lock, present) is dead


WRITTEN = Manifest(
    "paperless",
    NOON,
    "crash",
    [Root("volumes/app", Path("/srv/app"), "1234abcd")],
    {"dumps/db.sql": "5678abcd"},
    Packed([("dumps/db.sql", Content(7, "ab" * 32)), ("volumes/app/caf\udce9\n", Content(0, "cd" * 32))]),
    {"host": "attic"},
)


def test_a_manifest_comes_back_from_its_lines() -> None:
    lines = list(WRITTEN.lines())
    assert all(line.count(b"\n") == 1 for line in lines)
    assert Manifest.read(lines) == WRITTEN


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"rubbish"],
        [b"[]"],
        [b'{"format":2}'],
        list(WRITTEN.lines())[:-1],
        [*WRITTEN.lines(), b'["one more",1,"00"]'],
        [*list(WRITTEN.lines())[:-1], b"{}"],
        [*list(WRITTEN.lines())[:-1], b'["a",-1,"00"]'],
        [*list(WRITTEN.lines())[:-1], b'["a",1,"no hash"]'],
        [*list(WRITTEN.lines())[:-1], b'["a","1","00"]'],
    ],
    ids=range(10),
)
def test_lines_that_make_no_sense_are_no_manifest(lines: list[bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json says it in its own words
        Manifest.read(lines)
