"""A copy of this checkout on a machine, without a network, and what an operator does there: `make install` and on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.neighbours import bare, machine, wheels
from tests.neighbours.machine import Machine

ROOT = Path(__file__).parents[1]
HERE = "/srv/homelab-agent"
"""Where the checkout is on the machine."""
COPIED = (
    "LICENSE",
    "Makefile",
    "README.md",
    "config.toml",
    "deploy",
    "homelab_agent",
    "pyproject.toml",
    "requirements",
)
SERVICE = "homelab-agent.service"
PAGE = "http://127.0.0.1:8085"
CONFIG = "/etc/homelab-agent/config.toml"
STATE = "/var/lib/homelab-agent"
WHEELS = "/srv/wheels"
"""Where the wheels are there, for everybody to read; the host's cache is root's alone."""
RELEASES = "/opt/homelab-agent/releases"
MAKE_SECONDS = 280
CLIENTS = f"""
import json, os, sys, threading, time, urllib.request
done, failed, longest = [0], [], [0.0]
def ask():
    while not os.path.exists(sys.argv[1]):
        begun = time.monotonic()
        try:
            with urllib.request.urlopen("{PAGE}/api/health/live", timeout=60) as answer:
                answer.read()
            done[0] += 1
        except OSError as error:
            failed.append(repr(error))
        longest[0] = max(longest[0], time.monotonic() - begun)
        time.sleep(0.02)
asking = [threading.Thread(target=ask) for _ in range(8)]
for each in asking: each.start()
for each in asking: each.join()
print(json.dumps({{"done": done[0], "failed": failed, "longest": longest[0]}}))
"""
"""Eight who ask without an end until a file is there; prints how often, what failed, the longest wait in seconds."""


class Checkout:
    """The checkout on a machine."""

    def __init__(self, on: Machine) -> None:
        self.machine = on
        self.said = ""
        """What the first `make install` has said."""
        there = on.path(HERE)
        there.mkdir(parents=True)
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, there / name, symlinks=True, ignore=ignored)
            else:
                shutil.copy(ROOT / name, there)
        for words in ("init --quiet", "add .", "commit --quiet --message=release"):
            on("git", "-C", HERE, "-c", "user.name=t", "-c", "user.email=t@example.org", *words.split())

    def path(self, name: str) -> Path:
        """Return a file of it, as this host reaches it."""
        return self.machine.path(f"{HERE}/{name}")

    def command(self, target: str, **given: str) -> list[str]:
        """Return the command line of a target, with pip's own variables for where the wheels are."""
        variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS, **given}
        return [
            "make",
            "--no-print-directory",
            "-C",
            HERE,
            target,
            *(f"{name}={value}" for name, value in variables.items()),
        ]

    def make(self, target: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile as root, with variables; return how it ended and what it said."""
        self.bring_wheels()
        return self.machine.run(*self.command(target, **given), seconds=MAKE_SECONDS)

    def bring_wheels(self) -> None:
        """Have the wheels there; a machine that was booted anew has them no more."""
        if self.machine.run("mountpoint", "--quiet", WHEELS).returncode != 0:
            self.machine("mkdir", "--parents", WHEELS)
            self.machine("mount", "--bind", wheels.directory(), WHEELS)

    def made(self, target: str, **given: str) -> str:
        """Run a target that succeeds; return what it said."""
        done = self.make(target, **given)
        assert done.returncode == 0, f"make {target}: {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def refused(self, target: str, **given: str) -> str:
        """Run a target that fails; return what it said."""
        done = self.make(target, **given)
        assert done.returncode != 0, f"make {target} succeeded:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def release(self) -> str:
        """Return the name of the release that is in use."""
        return self.machine("readlink", "/opt/homelab-agent/current").rpartition("/")[2]

    def agent(self, *words: str) -> Any:
        """Run the installed command as root, and return what it printed: read, where that is JSON."""
        said = self.machine("homelab-agent", *words)
        return json.loads(said) if "--json" in words else said

    def process(self) -> str:
        """Return the number of the agent's process on the machine."""
        return self.machine.show(SERVICE)["MainPID"]

    def database_answers(self) -> bool:
        """Return whether the agent's database can be asked."""
        return self.sql("SELECT 1") == "1"

    def sql(self, query: str) -> str:
        """Return what the agent's database answers, "" where it cannot be asked."""
        done = self.machine.run("homelab-agent", "db", "psql", "-Atc", query)
        return done.stdout.strip() if done.returncode == 0 else ""

    def ticks(self) -> int:
        """Return how many samples are in the database."""
        return int(self.sql("SELECT count(*) FROM tick") or 0)

    def write(self, name: str, text: str) -> None:
        """Write a file of the checkout."""
        self.path(name).write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        """Have a file of the checkout say something else in one place."""
        text = self.path(name).read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        self.path(name).write_text(text.replace(old, new))

    def bump(self, version: str) -> None:
        """Have it be a release of that version."""
        present = self.path("pyproject.toml").read_text().partition('version = "')[2].partition('"')[0]
        self.change("pyproject.toml", f'version = "{present}"', f'version = "{version}"')
        self.change("homelab_agent/__init__.py", f'"{present}"', f'"{version}"')

    def reset(self) -> None:
        """Have it be as it was committed."""
        for words in ("checkout --quiet .", "clean --quiet -fd"):
            self.machine("git", "-C", HERE, *words.split())

    def asked(self, path: str, *, token: str = "", method: str = "GET") -> tuple[int, str]:
        """Ask the agent over TCP, from the machine; return status and body."""
        script = (
            "import sys, urllib.error, urllib.request as r\n"
            "url, token, method = sys.argv[1:]\n"
            "q = r.Request(url, method=method, headers={'Authorization': 'Bearer ' + token} if token else {})\n"
            "try: a = r.urlopen(q, timeout=20)\n"
            "except urllib.error.HTTPError as e: a = e\n"
            "print(a.status); print(a.read().decode())"
        )
        status, _, body = self.machine("python3", "-I", "-c", script, PAGE + path, token, method).partition("\n")
        return int(status), body


@contextmanager
def bare_with_checkout(*shared: Path) -> Iterator[Checkout]:
    """Give the checkout on a bare machine that is up, where nothing was installed yet; `shared` as of a `Machine`."""
    with machine.running(base=bare.root(), shared=[wheels.directory(), *shared]) as one:
        yield Checkout(one)
