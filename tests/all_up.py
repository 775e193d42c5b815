"""Every neighbour at once, until somebody presses Ctrl-C: see test_leftovers.py. Not collected with the others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("fixture", ["postgres"])
def test_starts(request: pytest.FixtureRequest, fixture: str) -> None:
    request.getfixturevalue(fixture)


def test_all_are_up() -> None:
    Path(os.environ["HOMELAB_AGENT_TESTS_UP"]).touch()
    time.sleep(600)
