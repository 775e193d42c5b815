"""A version of Docker's API is agreed on that both speak; who talks to Docker loads no web server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from homelab_agent.backup.docker import Docker
from homelab_agent.backup.docker_errors import DockerTooOld


@pytest.mark.parametrize(
    ("most", "least", "agreed"),
    [
        ("1.41", "1.12", "v1.41"),
        ("1.47", "1.24", "v1.47"),
        ("1.52", "1.44", "v1.51"),
        ("1.70", "1.60", "v1.60"),
    ],
)
def test_the_newest_that_both_speak_is_spoken(most: str, least: str, agreed: str) -> None:
    assert Docker(Path("/none"))._agreed({"ApiVersion": most, "MinAPIVersion": least}) == agreed


def test_an_engine_that_is_too_old_is_refused_by_name() -> None:
    with pytest.raises(DockerTooOld, match=r"speaks its API up to 1\.40"):
        Docker(Path("/none"))._agreed({"ApiVersion": "1.40", "MinAPIVersion": "1.12"})


def test_no_web_server_is_loaded() -> None:
    code = "import sys, homelab_agent.backup.docker; print('aiohttp.web' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
