"""Docker Compose, the real one, built from its Go module: projects that it brings up on a Docker of the tests."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.neighbours import golang
from tests.neighbours.docker import Docker
from tests.neighbours.neighbour import Neighbour, version_of

VERSION = "2.40.3"
_FLAGS = f"-ldflags=-s -w -X github.com/docker/compose/v2/internal.Version={VERSION}"


@functools.cache
def program() -> Path:
    """Return Compose, which runs alone (`docker-compose up`) and as Docker's plug-in; raises `Missing` without Go."""
    return golang.built("docker-compose", "github.com/docker/compose/v2/cmd", module="compose", flags=(_FLAGS,))


def plug_into(docker: Docker) -> None:
    """Let `docker compose` be this one, for whoever has the environment `docker.env`."""
    plugins = docker.config / "cli-plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "docker-compose").unlink(missing_ok=True)
    (plugins / "docker-compose").symlink_to(program())


class Project:
    """One project: its compose.yaml in a directory, and Compose told to work on it.

    The fixture `docker` removes after the test what it has made. Images are there already or the project fails:
    this Docker reaches no registry.
    """

    def __init__(self, docker: Docker, directory: Path, text: str = "") -> None:
        """Write `text` as compose.yaml, where given; the project is named after the directory."""
        self.docker = docker
        self.directory = directory
        if text:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "compose.yaml").write_text(text)

    def run(self, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Compose with these words; return how it ended and what it said."""
        return subprocess.run(
            [program(), *words],
            cwd=self.directory,
            env=self.docker.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def __call__(self, *words: str, seconds: float = 120) -> str:
        """Run Compose and return what it printed; fail when it fails."""
        done = self.run(*words, seconds=seconds)
        assert done.returncode == 0, f"docker-compose {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def services(self) -> dict[str, dict[str, Any]]:
        """Return what `compose ps --all` tells of each service: State, Health, ExitCode, Image ..."""
        lines = self("ps", "--all", "--format", "json").splitlines()
        return {found["Service"]: found for found in map(json.loads, lines)}


def obtain() -> None:
    """Build it where that was not done yet: a minute on two cores."""
    program()


NEIGHBOUR = Neighbour(
    "Docker Compose",
    f"Go module github.com/docker/compose/v2 v{VERSION}",
    version=lambda: version_of([program(), "version"]),
    obtain=obtain,
)
