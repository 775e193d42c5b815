"""Many files in little memory: what is kept is what was added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Content

CONTENTS = st.builds(Content, st.integers(0, (1 << 64) - 1), st.binary(min_size=32, max_size=32).map(bytes.hex))


@given(files=st.dictionaries(st.text(), CONTENTS))
def test_what_is_added_is_there(files: dict[str, Content]) -> None:
    packed = Packed()
    for member, content in files.items():
        packed.add(member, content)
    assert dict(packed) == files
    assert list(packed) == list(files)
    assert packed == files
    for member, content in files.items():
        packed.link(f"{member} again", member)
        assert packed[f"{member} again"] == content
    assert len(packed) == len({*files, *(f"{member} again" for member in files)})


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        Packed().add("a", Content(1, "no hash"))
    with pytest.raises(OverflowError):
        Packed().add("a", Content(-1, "00"))
    with pytest.raises(KeyError):
        Packed().link("a", "b")
