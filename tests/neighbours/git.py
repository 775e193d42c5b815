"""Debian's git in an environment of its own: the developer's configuration, keys and agent never matter.

Names and times are fixed too, so the same commits have the same SHAs in every run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.neighbours.neighbour import Neighbour, program, version_of

NAME, EMAIL = "Ada", "ada@example.org"
BEGAN = 1_767_225_600
"""2026-01-01 00:00 UTC, in seconds since 1970."""
LATER = BEGAN + 86_400
"""When whatever is committed that names no time of its own: after the commits of a remote."""

_PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"


def environment(home: Path) -> dict[str, str]:
    """Return the whole environment of a git command that has no configuration but that of its repository."""
    clean = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    who = {"NAME": NAME, "EMAIL": EMAIL, "DATE": f"{LATER} +0000"}
    roles = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    return {"PATH": _PROGRAMS, "HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC", **clean, **roles}


class Git:
    """git in one directory and one environment: `git("status")` returns what it printed, and fails when it fails."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        self.path = path
        self.env = env

    def run(self, *words: str | Path, seconds: float = 60, given: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Return how it ended and what it said; raises TimeoutExpired when it is still at it."""
        done = subprocess.run(
            ["git", *words],
            cwd=self.path,
            env=self.env,
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        said = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, *said)

    def __call__(self, *words: str | Path, seconds: float = 60, given: bytes = b"") -> str:
        """Return what it printed; raises AssertionError with what it complained of."""
        done = self.run(*words, seconds=seconds, given=given)
        assert done.returncode == 0, f"git {' '.join(map(str, words))}: {done.stderr}"
        return done.stdout.strip()


def obtain() -> None:
    """Raise `Missing` where it is not: Debian installs it, nothing is to be built."""
    program("git", "apt install git", path=_PROGRAMS)


def _version() -> str:
    obtain()
    return version_of(["git", "--version"])


NEIGHBOUR = Neighbour("git", "Debian git", version=_version, obtain=obtain)
