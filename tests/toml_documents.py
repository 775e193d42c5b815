"""TOML documents of every shape, written the long way, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from homelab_agent.config import keys

NAMES = st.sampled_from(["a", "b", "c", "a b", "é", 'q"', "x.y"])
VALUES = (
    st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.text("a\"'\\#\n[]{}=,é", max_size=6)
    | st.dates()
)
NESTED = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, NESTED, max_size=5)


def written(table: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """Write a document the long way: tables under headers, comments and blank lines between."""
    tables = {name: one for name, one in table.items() if isinstance(one, dict)}
    arrays = {
        name: one
        for name, one in table.items()
        if isinstance(one, list) and one and all(isinstance(entry, dict) for entry in one)
    }
    text = ""
    for name, one in table.items():
        if name not in tables and name not in arrays:
            text += f"# about {name!r} = [\n {keys.quoted(name)} = {keys.toml(one)}  # {{ here\n\n"
    for name, one in tables.items():
        inner = (*path, name)
        text += f"[ {keys.dotted(inner)} ]\n" + written(one, inner)
    for name, entries in arrays.items():
        inner = (*path, name)
        text += "".join(f"\t[[{keys.dotted(inner)}]] # next\n" + written(entry, inner) for entry in entries)
    return text
