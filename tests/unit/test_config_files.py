"""The sample, the reference and the schema say what the sections say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from homelab_agent import config
from homelab_agent.config import keys, loading, reference, sample
from tests.house import House

REPOSITORY = Path(__file__).parents[2]

HOUSE = """\

# The front door.
[door]

# Where it opens.
# Text. Default: "127.0.0.1:8085".
listen = "127.0.0.1:8085"

# How wide.
# A number above 0 and of at most 3, in m. Default: 1. Applies on reload.
width = 1.0

# Who may come.
# A list of text. Default: empty. Applies on reload.
# guests = ["ann", "bob"]

# Where the key lies; empty: under the mat.
# A path. Default: empty.
# key_file = "/etc/key"
"""


def test_the_sample_shows_every_key_with_what_it_accepts_and_its_default() -> None:
    text = sample.sample(House)
    assert HOUSE in text
    assert "# A whole number of at least 1048576 (1 MiB), in bytes. Default: 134217728 (128 MiB).\n" in text
    assert "# [library]\n" in text
    assert '# [[library.book]]\n\n# What it is called.\n# Text, not empty. Must be set.\n# title = "Ulysses"\n' in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("model", [House, config.Settings])
def test_the_sample_says_exactly_the_defaults(model: type[House | config.Settings]) -> None:
    loaded = loading.interpret(model, sample.sample(model), Path("sample.toml"), {})
    assert loaded.settings == model()
    assert loaded.warnings == ()


@pytest.mark.parametrize("model", [House, config.Settings])
def test_the_sample_without_its_comment_signs_is_valid_too(model: type[House | config.Settings]) -> None:
    lines = [
        line.removeprefix("# ") if line.startswith(("# [", *(f"# {name} = " for name in _names(model)))) else line
        for line in sample.sample(model).splitlines()
    ]
    assert isinstance(loading.interpret(model, "\n".join(lines), Path("sample.toml"), {}).settings, model)


def _names(model: type[House | config.Settings]) -> list[str]:
    return [key.path[-1] for group in keys.groups(model) for key in group.keys]


def test_the_committed_configuration_is_the_sample() -> None:
    committed = (REPOSITORY / "config.toml").read_text()
    assert committed == sample.sample(config.Settings), "run: make generate"


def test_the_committed_reference_is_current() -> None:
    committed = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert committed == reference.reference(config.Settings), "run: make generate"


def test_every_key_is_described() -> None:
    for group in keys.groups(config.Settings):
        assert sample.documentation(group.model)
        for key in group.keys:
            assert str(key.field.description).endswith((".", ")")), key.path


def test_the_reference_names_default_bounds_unit_variable_and_old_name() -> None:
    text = reference.reference(House)
    assert (
        "### `door.width`\n\nHow wide.\n\n- accepts: a number above 0 and of at most 3, in m\n"
        "- default: `1`\n- a change applies on reload\n- variable: `HOMELAB_AGENT__DOOR__WIDTH`\n"
    ) in text
    assert "- was called `door.depth`, which still works\n" in text
    assert "## `[[library.book]]`\n" in text
    assert "HOMELAB_AGENT__LIBRARY__BOOK__TITLE" not in text


def test_the_schema_has_descriptions_units_and_old_names() -> None:
    schema = reference.schema(House)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    door = schema["$defs"]["Door"]["properties"]
    assert door["width"] == {
        "default": 1.0, "description": "How wide.", "exclusiveMinimum": 0, "maximum": 3, "reload": True,
        "type": "number", "unit": "m",
    }  # fmt: skip
    assert door["guests"]["examples"] == [["ann", "bob"]]
    assert door["address"]["deprecated"] is True


def test_values_are_written_as_toml_reads_them() -> None:
    values = {"a": 'q"\\\n\x7f\U0001f600', "b c": [1, 2.5, True, {"x": "y"}], "d": 1e300, "é": "é"}
    assert tomllib.loads(f"v = {keys.toml(values)}")["v"] == values
