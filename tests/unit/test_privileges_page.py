"""docs/privileges.md speaks of each verb that there is, and of no other; so does its picture."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from homelab_agent.commands.privileged import Verbs
from tests.intruder import CONFIGURATION, ROOT

PAGE = ROOT / "docs/privileges.md"
PICTURE = ROOT / "docs/privileges.svg"


def test_each_verb_has_its_line_and_the_picture_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIGURATION)
    verbs = set(Verbs(path, is_roots=False).collect())
    said = re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(said) == sorted(verbs)
    words = " ".join(ET.parse(PICTURE).getroot().itertext())
    assert f"{len(verbs)} verbs" in words


def test_what_the_page_points_to_is_there() -> None:
    text = PAGE.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / target).exists(), target
    for name in re.findall(r"`((?:tests/\w+/)?test_\w+\.py)`", text):
        place = "" if "/" in name else "tests/integration/"
        assert (ROOT / f"{place}{name}").exists(), name


def test_the_picture_is_legible_in_light_and_dark() -> None:
    """Each colour of the light one has another in the dark one, as far apart from its ground as people need it."""
    style = str(ET.parse(PICTURE).getroot().findtext("{*}style"))
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    for sheet, ground in ((light, "#ffffff"), (dark, "#0d1117")):
        text = re.search(r"text \{[^}]*fill: (#\w+)", sheet)
        assert text is not None
        fills = re.findall(r"\.(?:box|agent|root|owner) \{ fill: (#\w+)", sheet)
        assert len(fills) == 4
        for fill in (*fills, ground):
            assert contrast(text[1], fill) >= 7, f"{text[1]} on {fill}"


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio of two colours."""
    bright, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
