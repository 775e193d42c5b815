"""What follows `openbao:`: one key of one secret, or a fault that repeats nothing of what was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.secrets import reference
from homelab_agent.secrets.reference import Reference, ReferenceFaulty

NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/#@"), min_size=1).filter(
    lambda name: name not in {".", ".."}
)
PATHS = st.lists(NAMES, min_size=2, max_size=5).map("/".join)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("secret/homelab/postgres#password", Reference("secret/homelab/postgres", "password")),
        ("secret/homelab/postgres#password@3", Reference("secret/homelab/postgres", "password", 3)),
        ("secret/one#a", Reference("secret/one", "a")),
        ("team/a/data/x#the key", Reference("team/a/data/x", "the key")),
    ],
)
def test_a_reference_is_path_key_and_perhaps_a_version(name: str, meant: Reference) -> None:
    assert reference.parse(name) == meant


@given(PATHS, NAMES, st.none() | st.integers(1, 999_999_999))
def test_what_is_printed_is_understood_again(path: str, key: str, version: int | None) -> None:
    given_ = Reference(path, key, version)
    assert reference.parse(str(given_)) == given_


@pytest.mark.parametrize(
    "name",
    [
        "",
        "hunter2-hunter2",
        "secret/homelab",
        "secret/homelab#",
        "secret/homelab#@3",
        "#password",
        "secret#password",
        "/secret/homelab#password",
        "secret/homelab/#password",
        "secret//homelab#password",
        "secret/../../sys/raw#password",
        "secret/./homelab#password",
        "secret/homelab#password#two",
        "secret/homelab#password@",
        "secret/homelab#password@latest",
        "secret/homelab#password@0",
        "secret/homelab#password@-1",
        "secret/homelab#password@03",
        "secret/homelab#password@٣",
        "secret/homelab#password@1@2",
        "secret/homelab#password\n",
        " secret/homelab#password",
        "secret/home\x00lab#password",
    ],
)
def test_what_is_none_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ReferenceFaulty) as fault:
        reference.parse(name)
    assert fault.value.repair == "openbao:secret/homelab/postgres#password"


SAID = {
    "here no #KEY follows the path",
    "here are two #",
    "here is a character that cannot be seen",
    "here the path is not two names or more with a / between them",
    "here the version is not a number from 1 up",
}
"""All that is ever said of a faulty reference, which may be the secret itself: no word of it."""


@given(st.text())
def test_a_fault_repeats_nothing_of_what_was_given(name: str) -> None:
    try:
        reference.parse(name)
    except ReferenceFaulty as error:
        fault = error
    else:
        return
    assert set(fault.fields) == {"fault"}
    assert fault.fields["fault"] in SAID
    assert not fault.cause
