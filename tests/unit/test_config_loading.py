from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent import capabilities, config
from homelab_agent.config import keys, loading, show
from homelab_agent.config.faults import ConfigurationFaulty, Fault
from homelab_agent.core.errors import Exit
from tests.house import House

FILE = Path("house.toml")


def read(text: str, **environ: str) -> loading.Loaded[House]:
    return loading.interpret(House, text, FILE, environ)


def faults(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationFaulty) as caught:
        read(text, **environ)
    return [str(fault) for fault in caught.value.faults]


def test_all_faults_are_named_at_once_with_line_value_bound_and_nearest_key() -> None:
    text = """\
# a house

[door]
width = 30
lisen = "a:1"
guests = ["ann", 3]
closed = "yes"
level = "loud"

[cellar]
bytes_max = 5
[celar]
depth = 3
"""
    assert faults(text, HOMELAB_AGENT__DOOR__WITH="2") == [
        "house.toml:4: door.width = 30: expected a number above 0 and of at most 3, in m",
        'house.toml:5: door.lisen = "a:1": unknown key; nearest: door.listen',
        "house.toml:6: door.guests[2] = 3: expected text",
        'house.toml:7: door.closed = "yes": expected true or false',
        'house.toml:8: door.level = "loud": expected one of debug, info, warning, error',
        "house.toml:11: cellar.bytes_max = 5: expected a whole number of at least 1048576 (1 MiB), in bytes",
        "house.toml:12: celar: unknown section; nearest: cellar",
        '$HOMELAB_AGENT__DOOR__WITH: door.with = "2": unknown key; nearest: $HOMELAB_AGENT__DOOR__WIDTH',
    ]


def test_the_report_ends_with_the_number_of_faults_and_the_exit_code_is_78() -> None:
    with pytest.raises(ConfigurationFaulty) as caught:
        read("[door]\nwidht = 1\nwidth = -1\n")
    assert caught.value.message.splitlines()[-1] == "2 faults"
    assert caught.value.exit_code == Exit.CONFIGURATION
    with pytest.raises(ConfigurationFaulty) as caught:
        read("[door]\nwidht = 1\n")
    assert str(caught.value).splitlines()[-1] == "1 fault"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[door]\nwidth = nan", "house.toml:2: door.width = nan: expected a finite number"),
        ('[door]\nwidth = "1"', 'door.width = "1": expected a number above 0'),
        ("[door]\nwidth = true", "door.width = true: expected a number above 0"),
        ("[cellar]\ndepth = 2.5", "cellar.depth = 2.5: expected a whole number from 1 to 9, in m"),
        (f"[cellar]\ndepth = {10**30}", "expected a whole number of 64 bits"),
        (f"[cellar]\ndepth = 0x{'f' * 5000}", "cellar.depth = 0xffffffffffffffffff…: expected"),
        ("door = 3", "house.toml:1: door = 3: expected a table ([door])"),
        ("[door]\nkey_file = 3", "door.key_file = 3: expected a path"),
        ('[door]\nlisten = "a"', 'house.toml:2: door.listen = "a": expected ADDRESS:PORT'),
        ("width = 2", "house.toml:1: width = 2: unknown key; nearest: door.width"),
        ("[library]\nlamp = false", "house.toml:1: library.shelf: is missing: expected text"),
        (
            '[library]\nshelf = "l"\nbook = 3',
            "library.book = 3: expected a list of tables ([[library.book]])",
        ),
        ('[library]\nshelf = "l"\nbook = [3]', "library.book[1] = 3: expected a table"),
        (
            '[library]\nshelf = "l"\n[[library.book]]\ntitle = "a"\n[[library.book]]\npages = 0\n',
            "house.toml:5: library.book[2].title: is missing: expected text, not empty",
        ),
        ('["door.x"]\na = 1', 'house.toml:1: "door.x": unknown section'),
        (
            "[door]\nlisten = a:1\n",
            "house.toml:2: not TOML: invalid value (column 10); text stands in quotes",
        ),
        ("[door]\n[door]\n", "house.toml:2: not TOML: cannot declare"),
        ("a = [" * 5000, "not TOML"),
        ("[door]\nguests = " + "[" * 100 + "]" * 100, "nested deeper than 12"),
        ("a." * 3000 + "b = 1", "nested deeper than 12"),
    ],
)
def test_a_fault_says_what_is_wrong_in_plain_words(text: str, expected: str) -> None:
    assert any(expected in fault for fault in faults(text)), faults(text)


def test_a_broken_file_is_one_fault_but_the_environment_is_still_checked() -> None:
    found = faults("[door\n", HOMELAB_AGENT__DOOR__WIDTH="x", HOMELAB_AGENT__LIBRARY__LAMP="false")
    assert len(found) == 2
    assert found[0].startswith("house.toml:1: not TOML")
    assert found[1].startswith('$HOMELAB_AGENT__DOOR__WIDTH: door.width = "x"')


def test_secrets_and_passwords_in_urls_are_masked_in_faults() -> None:
    text = """\
[door]
password = ["hunter2"]
pasword = "hunter2"
api_token = "hunter2"
bell = "postgresql://me:hunter2@host/db"
[cellar]
pin = 1
secret = {password = "hunter2"}
"""
    assert "hunter2" not in "\n".join(faults(text, HOMELAB_AGENT__DOOR__PASWORD="hunter2"))


def test_the_environment_goes_before_the_file_and_has_the_keys_types() -> None:
    loaded = read(
        "[door]\nwidth = 2\n",
        HOMELAB_AGENT__DOOR__WIDTH="0.5",
        HOMELAB_AGENT__DOOR__GUESTS='["ann"]',
        HOMELAB_AGENT__DOOR__CLOSED="true",
        HOMELAB_AGENT__DOOR__PASSWORD="1234",
        HOMELAB_AGENT__DOOR__KEY_FILE="/k",
        HOMELAB_AGENT__LIBRARY__SHELF="left",
        HOMELAB_AGENT__LIBRARY__BOOK='[{title = "a", leaves = 3}]',
        HOMELAB_AGENT_OTHER="not ours",
    )
    door, library = loaded.settings.door, loaded.settings.library
    assert (door.width, door.guests, door.closed) == (0.5, ["ann"], True)
    assert (door.password, door.key_file) == ("1234", Path("/k"))
    assert library is not None
    assert [(book.title, book.pages) for book in library.book] == [("a", 3)]


def test_a_variable_that_is_not_utf_8_is_a_fault() -> None:
    assert faults("", HOMELAB_AGENT__DOOR__LISTEN="a\udcff:1") == [
        "$HOMELAB_AGENT__DOOR__LISTEN: door.listen: not UTF-8"
    ]


def test_empty_text_means_unset_where_a_key_has_no_default() -> None:
    assert read('[door]\nkey_file = ""\n').settings.door.key_file is None
    assert read("", HOMELAB_AGENT__DOOR__KEY_FILE="").settings.door.key_file is None


def test_old_names_work_with_a_warning() -> None:
    text = """\
[door]
address = "old:1"
depth = 3
[library]
shelf = "x"
[[library.book]]
title = "t"
leaves = 7
"""
    loaded = read(text)
    assert loaded.settings.door.listen == "old:1"
    assert loaded.settings.cellar.depth == 3
    assert loaded.settings.library is not None
    assert loaded.settings.library.book[0].pages == 7
    assert loaded.warnings[0] == (
        "house.toml:2: door.address is called door.listen now; its old name will be gone in two releases"
    )
    assert [warning.split(":")[1] for warning in loaded.warnings] == ["2", "3", "8"]
    assert {one.key: one.origin for one in show.values(loaded)}["door.listen"] == "house.toml:2"
    assert read("", HOMELAB_AGENT__DOOR__ADDRESS="env:1").settings.door.listen == "env:1"


def test_a_fault_in_an_old_name_is_told_by_that_name() -> None:
    assert faults('[door]\naddress = "x"\n') == ['house.toml:2: door.address = "x": expected ADDRESS:PORT']


def test_old_and_new_name_together_are_a_fault() -> None:
    assert faults('[door]\naddress = "a:1"\nlisten = "b:1"\n') == [
        "house.toml:2: door.address: is the old name of door.listen, which is set too"
    ]


def test_show_tells_the_value_and_where_it_came_from_and_masks_secrets() -> None:
    text = """\
[door]
password = "hunter2"
url = "https://me:hunter2@bell/?token=hunter2&x=1"
[cellar]
pin = "hunter2"
"""
    shown = {one.key: one for one in show.values(read(text, HOMELAB_AGENT__DOOR__WIDTH="2"))}
    assert "hunter2" not in str(shown)
    assert (shown["door.width"].value, shown["door.width"].origin) == (2.0, "$HOMELAB_AGENT__DOOR__WIDTH")
    assert (shown["door.url"].value, shown["door.url"].origin) == (
        "https://me:********@bell/?token=********&x=1",
        "house.toml:3",
    )
    assert (shown["door.closed"].value, shown["door.closed"].origin) == (False, "default")
    assert (shown["library"].value, shown["library"].origin) == (None, "default")


def test_a_reference_to_a_secret_is_no_secret() -> None:
    shown = {one.key: one.value for one in show.values(read('[door]\npassword = "env:DOOR"\n'))}
    assert shown["door.password"] == "env:DOOR"


class TestTheFile:
    def test_it_is_found_in_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(loading, "PLACES", (tmp_path / "etc.toml", Path("config.toml")))
        assert loading.find(None, {}) is None
        (tmp_path / "config.toml").touch()
        assert loading.find(None, {}) == Path("config.toml")
        (tmp_path / "etc.toml").touch()
        assert loading.find(None, {}) == tmp_path / "etc.toml"
        assert loading.find(None, {"HOMELAB_AGENT_CONFIG": "/x"}) == Path("/x")
        assert loading.find(Path("/y"), {"HOMELAB_AGENT_CONFIG": "/x"}) == Path("/y")

    def test_without_one_every_key_has_its_default_and_that_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loading, "PLACES", (tmp_path / "none.toml",))
        loaded = loading.load(House, None, {})
        assert loaded.settings == House()
        assert loaded.path is None
        assert loaded.warnings[0].startswith(f"no configuration file ({tmp_path}/none.toml)")

    def test_one_that_cannot_be_read_is_a_fault_with_a_repair(self, tmp_path: Path) -> None:
        latin = tmp_path / "latin.toml"
        latin.write_bytes(b"# fine\n# caf\xe9\n")
        large = tmp_path / "large.toml"
        large.write_bytes(b"#" * (loading.LARGEST_BYTES + 1))
        for path, problem in [
            (tmp_path / "missing.toml", "no such file"),
            (latin / "below.toml", "no such file"),
            (tmp_path, "is a directory"),
            (Path("/dev/null"), "is not a regular file"),
            (latin, "not UTF-8: byte 0xe9"),
            (large, "is larger than 1048576 bytes"),
        ]:
            fault = self.only_fault(path)
            assert fault.problem == problem
            assert fault.repair
            assert fault.where.startswith(str(path))
        assert self.only_fault(latin).where == f"{latin}:2"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_one_that_this_user_may_not_read_is_a_fault_with_a_repair(self, open_directory: Path) -> None:
        path = open_directory / "config.toml"
        path.write_text("")
        path.chmod(0o600)
        try:
            os.seteuid(65534)
            fault = self.only_fault(path)
        finally:
            os.seteuid(0)
        assert fault.problem == "user id 65534 may not read it"
        assert "chgrp" in fault.repair

    def test_a_byte_order_mark_and_windows_line_ends_are_no_faults(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_bytes(b"\xef\xbb\xbf[door]\r\nwidth = 2\r\n")
        assert loading.load(House, path, {}).settings.door.width == 2

    @staticmethod
    def only_fault(path: Path) -> Fault:
        with pytest.raises(ConfigurationFaulty) as caught:
            loading.load(House, path, {})
        (fault,) = caught.value.faults
        return fault


# Whatever a file or a variable holds, there are settings or faults, and each fault names its key.

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes()
NAMES = st.sampled_from([*"ab", "", "a b", "door", "library", "book", "title", "width", "guests", "password", "é"])
GARBAGE = st.recursive(
    SCALARS.filter(lambda value: value is not None),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
VARIABLES = [
    f"HOMELAB_AGENT__{name}"
    for name in ("DOOR__WIDTH", "DOOR", "DOOR__GUESTS", "LIBRARY__BOOK", "LIBRARY__SHELF", "__", "", "É")
]
DOCUMENTS = st.dictionaries(NAMES, GARBAGE, max_size=4)


def outcome(text: str, environ: dict[str, str]) -> tuple[Fault, ...]:
    try:
        loading.interpret(House, text, FILE, environ)
    except ConfigurationFaulty as faulty:
        return faulty.faults
    return ()


@given(document=DOCUMENTS)
def test_any_document_gives_settings_or_faults_that_name_their_key(document: dict[str, Any]) -> None:
    text = "\n".join(f"{keys.quoted(name)} = {keys.toml(value)}" for name, value in document.items())
    read_back = tomllib.loads(text)
    for fault in outcome(text, {}):
        assert fault.key
        assert fault.where.startswith("house.toml:")
        assert fault.key.startswith(tuple(keys.quoted(name) for name in read_back))


@given(text=st.text(alphabet=st.sampled_from("[]{}=.\"'#\n\r\t\\ ,abdoorwith01-+é\x00")))
def test_any_text_gives_settings_or_faults(text: str) -> None:
    outcome(text, {})


@given(
    environ=st.dictionaries(
        st.sampled_from(VARIABLES),
        st.text(alphabet=st.characters(codec=None, exclude_characters="\0")),
        max_size=4,
    ),
    text=st.sampled_from(["", "door = 3", "[[door]]", "[library]\nbook = 1", "[door"]),
)
def test_any_variables_give_settings_or_faults(environ: dict[str, str], text: str) -> None:
    for fault in outcome(text, environ):
        assert fault.key or "not TOML" in fault.problem
        str(fault).encode()


def test_the_agents_own_settings_load_without_what_they_do_not_need(tmp_path: Path) -> None:
    program = (
        "import json, sys\n"
        "from pathlib import Path; from homelab_agent import config\n"
        "config.load(Path(sys.argv[1]))\n"
        "print(json.dumps(sorted({'aiohttp', 'asyncpg', 'click', 'prometheus_client'} & set(sys.modules))))"
    )
    path = tmp_path / "config.toml"
    path.write_text("[log]\nlevel = 'debug'\n")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == []


def test_the_capabilities_that_are_on_come_in_order() -> None:
    assert set(capabilities.NAMES) <= set(config.Settings.model_fields)
    assert [name for name, _ in config.Settings().enabled()] == ["metrics"]
