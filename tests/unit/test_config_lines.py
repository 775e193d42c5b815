from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given

from homelab_agent.config import keys, lines
from homelab_agent.config.keys import KeyPath
from tests.toml_documents import DOCUMENTS, written


def leaves(value: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(path, value), *(leaf for step, one in pairs for leaf in leaves(one, (*path, step)))]


@given(document=DOCUMENTS)
def test_every_key_has_the_line_it_stands_in_and_every_value_its_span(document: dict[str, Any]) -> None:
    text = written(document)
    assert tomllib.loads(text) == document
    found = lines.survey(text)
    for path, value in leaves(document)[1:]:
        line = text.splitlines()[found.lines[path] - 1] if path in found.lines else ""
        name = next(step for step in reversed(path) if isinstance(step, str))
        assert keys.quoted(name) in line
        if path in found.values:
            start, end = found.values[path]
            assert tomllib.loads(f"v = {text[start:end]}")["v"] == value


def test_strings_that_look_like_tables_are_none() -> None:
    text = '''\
a = """
[no]
b = 1 \\""" still""""
c = \'\'\'
[[no]]\'\'\'\'
[yes]  # [no]
"d.e".f = [
  1,  # ]
  {g = "}", h = [[2]]},
]
[[x.y]]
[[x.y]]
[x.y.z]
i = 2020-01-01 00:00:00
'''
    tomllib.loads(text)
    found = lines.survey(text)
    assert [header.path for header in found.headers] == [
        ("yes",), ("x", "y", 0), ("x", "y", 1), ("x", "y", 1, "z"),
    ]  # fmt: skip
    assert found.lines[("c",)] == 4
    assert found.lines[("yes", "d.e", "f", 1, "h", 0, 0)] == 9
    assert found.lines[("x", "y", 1, "z", "i")] == 14
    assert found.line(("x", "y", 1, "missing")) == 12
    assert found.line(("nothing",)) is None
