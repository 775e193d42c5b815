from __future__ import annotations

import copy
import errno
import os
import resource
import signal
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.config import edit, sample, writer
from homelab_agent.config.faults import ConfigurationFaulty
from homelab_agent.core.errors import Exit
from tests.house import House
from tests.toml_documents import DOCUMENTS, written

AGAIN = ("config", "set", "door.width", "2")
ORDINARY_USER = 65534


def put(path: Path, **values: Any) -> None:
    dotted = {name.replace("__", "."): value for name, value in values.items()}
    writer.set_values(path, dotted, again=AGAIN, model=House, environ={})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_a_value_is_exchanged_where_it_stands(path: Path) -> None:
    path.write_text('# top\n\n[door]   # here\nwidth=1.0# m\nguests = [\n  "a", # first\n]\r\n\n# end\n')
    put(path, door__width=2.5)
    assert path.read_bytes() == b'# top\n\n[door]   # here\nwidth=2.5# m\nguests = [\n  "a", # first\n]\r\n\n# end\n'


def test_a_new_key_follows_its_section_and_not_the_next_ones_comment(path: Path) -> None:
    path.write_text('[door]\nlisten = "a:1"\n\n# The cellar.\n[cellar]\ndepth = 3\n')
    put(path, door__guests=["ann"], cellar__bytes_max=2**20)
    assert path.read_text() == (
        '[door]\nlisten = "a:1"\nguests = ["ann"]\n\n# The cellar.\n[cellar]\ndepth = 3\nbytes_max = 1048576\n'
    )


def test_a_new_key_takes_the_place_of_its_commented_out_line(path: Path) -> None:
    path.write_text(sample.sample(House))
    before = path.read_text().splitlines()
    put(path, door__key_file="/k", library__shelf="right")
    after = path.read_text().splitlines()
    assert [line for line in after if line not in before] == [
        'key_file = "/k"',
        "[library]",
        'shelf = "right"',
    ]
    assert len(before) == len(after)
    assert after.index('shelf = "right"') == before.index('# shelf = "left"')


def test_a_commented_out_section_does_not_lend_its_keys_to_the_one_before(path: Path) -> None:
    path.write_text("[cellar]\ndepth = 2\n\n# [library]\n# bytes_max = 1\n")
    put(path, cellar__bytes_max=2**20)
    assert path.read_text() == "[cellar]\ndepth = 2\nbytes_max = 1048576\n\n# [library]\n# bytes_max = 1\n"


def test_a_file_that_is_missing_is_made_for_its_owner_and_group_only(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "config.toml"
    put(path, door__width=2)
    assert path.read_text() == "[door]\nwidth = 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_entries_follow_their_kind(path: Path) -> None:
    path.write_text('[library]\nshelf = "l"\n\n[[library.book]]\ntitle = "a"\n\n# cellar\n[cellar]\n')
    writer.add_entry(path, "library.book", {"title": "b", "pages": 3}, again=(), model=House, environ={})
    assert path.read_text() == (
        '[library]\nshelf = "l"\n\n[[library.book]]\ntitle = "a"\n'
        '\n[[library.book]]\ntitle = "b"\npages = 3\n\n# cellar\n[cellar]\n'
    )


def test_the_first_entry_goes_to_the_end_and_an_inline_list_grows(path: Path) -> None:
    path.write_text('library.shelf = "l"')
    writer.add_entry(path, "library.book", {"title": "b"}, again=(), model=House, environ={})
    assert path.read_text() == 'library.shelf = "l"\n\n[[library.book]]\ntitle = "b"\n'
    path.write_text('[library]\nshelf = "l"\nbook = [{title = "a"}] # books\n')
    writer.add_entry(path, "library.book", {"title": "b"}, again=(), model=House, environ={})
    assert path.read_text() == '[library]\nshelf = "l"\nbook = [{title = "a"}, {title = "b"}] # books\n'


def test_an_outcome_that_is_not_valid_is_not_written(path: Path) -> None:
    path.write_text("[door]\nwidth = 1\n")
    with pytest.raises(ConfigurationFaulty) as caught:
        put(path, door__width=9)
    assert [str(fault) for fault in caught.value.faults] == [
        "given: door.width = 9: expected a number above 0 and of at most 3, in m"
    ]
    with pytest.raises(ConfigurationFaulty) as caught:
        put(path, door__widht=2, celar__depth=3)
    assert [str(fault) for fault in caught.value.faults] == [
        "given: door.widht = 2: unknown key; nearest: door.width",
        "given: celar.depth = 3: unknown key; nearest: cellar.depth",
    ]
    with pytest.raises(ConfigurationFaulty):
        writer.add_entry(path, "library.book", {"title": "b"}, again=(), model=House, environ={})
    assert path.read_text() == "[door]\nwidth = 1\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_no_toml_is_not_changed(path: Path) -> None:
    path.write_text("[door\n")
    with pytest.raises(ConfigurationFaulty) as caught:
        put(path, door__width=2)
    assert caught.value.faults[0].where == f"{path}:1"
    assert path.read_text() == "[door\n"


def test_what_cannot_be_changed_safely_is_left_with_the_text_to_put_in(path: Path) -> None:
    path.write_text("door.width = 1\n")
    with pytest.raises(writer.ConfigurationNotEditable) as caught:
        put(path, door__closed=True)
    assert caught.value.message.endswith("\n\n[door]\nclosed = true\n")
    assert path.read_text() == "door.width = 1\n"


def test_mode_and_owner_stay_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text("[door]\nwidth = 1\n")
    real.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    before = real.stat()
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    put(link, door__width=2)
    after = real.stat()
    assert link.is_symlink()
    assert real.read_text() == "[door]\nwidth = 2\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_without_permission_the_text_and_the_command_are_told(open_directory: Path) -> None:
    path = open_directory / "config.toml"
    path.write_text("[door]\nwidth = 1\n")
    try:
        os.seteuid(ORDINARY_USER)
        with pytest.raises(writer.ConfigurationNotWritable) as caught:
            put(path, door__width=2)
    finally:
        os.seteuid(0)
    assert caught.value.exit_code == Exit.FAILED
    assert caught.value.message.endswith("\n\n[door]\nwidth = 2\n")
    assert caught.value.repair.startswith("sudo ")
    assert caught.value.repair.endswith(f"--config {path} config set door.width 2")
    assert path.read_text() == "[door]\nwidth = 1\n"


def test_a_disk_that_is_full_leaves_the_file_as_it_was(path: Path) -> None:
    path.write_text("[door]\nwidth = 1\n")
    limit = len(path.read_bytes())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails then with EFBIG
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(writer.ConfigurationNotWritten) as caught:
            put(path, door__guests=["a" * 100])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.strerror(errno.EFBIG) in caught.value.cause
    assert path.read_text() == "[door]\nwidth = 1\n"
    assert list(path.parent.iterdir()) == [path]


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    path.write_text('[library]\nshelf = "l"\n')

    def add(title: str) -> None:
        writer.add_entry(path, "library.book", {"title": title}, again=(), model=House, environ={})

    threads = [threading.Thread(target=add, args=(str(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    books = tomllib.loads(path.read_text())["library"]["book"]
    assert sorted(int(book["title"]) for book in books) == list(range(16))


@given(
    document=DOCUMENTS,
    path=st.lists(st.sampled_from(["a", "b", "x.y"]), min_size=1, max_size=3).map(tuple),
    value=st.text() | st.integers(-5, 5) | st.lists(st.text(max_size=3), max_size=2),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_change_keeps_every_comment_and_every_other_value(
    document: dict[str, Any], path: tuple[str, ...], value: Any, end: str
) -> None:
    text = written(document).replace("\n", end)
    after = edit.assign(text, path, value)
    if after is None:
        return
    expected = copy.deepcopy(tomllib.loads(text))
    at = expected
    for step in path[:-1]:
        at = at.setdefault(step, {})
    at[path[-1]] = value
    assert tomllib.loads(after) == expected
    assert after.count("# about") == text.count("# about")
    assert after.count("# {") == text.count("# {")
    assert edit.assign(after, path, value) == after


@given(document=DOCUMENTS, name=st.sampled_from(["a", "b"]), entry=st.dictionaries(st.just("k"), st.text()))
def test_any_new_entry_keeps_everything_else(document: dict[str, Any], name: str, entry: dict[str, str]) -> None:
    text = written(document)
    after = edit.append(text, (name,), entry)
    before = document.get(name, [])
    if isinstance(before, list) and after is not None:
        assert tomllib.loads(after) == {**document, name: [*before, entry]}
        assert after.count("# about") == text.count("# about")
