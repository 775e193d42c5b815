"""The agent's own root half with one repository, `site`, whose working copy belongs to somebody else where that can be.

`python -m tests.gitops_half` is `homelab-agent`, with blockbuster on the loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from blockbuster import blockbuster_ctx

from homelab_agent import cli, config
from homelab_agent.core.privilege import Answer
from homelab_agent.core.process_output import Stream
from homelab_agent.gitops import section
from homelab_agent.privileged.client import Client
from tests import user
from tests.neighbours import git
from tests.neighbours.git_remote import GitRemote, Kind

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "tests.gitops_half"]
OWNER = user.UID if os.geteuid() == 0 else os.geteuid()
SECONDS = 60.0
Sections = Mapping[str, Sequence[Mapping[str, Any]]]
_NONE: Sections = {}
_SWITCH = ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", "--")


class Site:
    """A clone of a remote in a directory of its own, which belongs to `OWNER` with all that is in it."""

    def __init__(self, directory: Path, remote: GitRemote, kind: Kind = "http", *, env: Mapping[str, str] = {}) -> None:
        self.directory = directory
        self.remote = remote
        self.path = directory / "site"
        remote.clone(self.path, kind)
        self.env = {**git.environment(directory), **env}
        self.own()

    def own(self) -> None:
        """Give all of it to its owner."""
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{OWNER}:{OWNER}", self.path], check=True)

    def git(self, *words: str) -> str:
        """Run git in it as its owner and return what that printed."""
        switch = (
            [] if os.geteuid() == OWNER else ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", "--"]
        )
        done = subprocess.run(
            [*switch, "git", *words], cwd=self.path, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        """Write files in it, as its owner's."""
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(content)
        self.own()

    @property
    def head(self) -> str:
        """The commit it is at."""
        return self.git("rev-parse", "HEAD")

    def strangers(self) -> list[Path]:
        """Return what is in it that is not its owner's."""
        return [path for path in (self.path, *self.path.rglob("*")) if path.lstat().st_uid != OWNER]

    def workers(self) -> list[int]:
        """Return the processes that are at work in it."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").readlink().is_relative_to(self.path):
                    found.append(int(process.name))
        return found

    def settings(self, *, sections: Sections = _NONE, timeout: float = SECONDS, **keys: Any) -> str:
        """Return the section [gitops] with this one repository; `sections` are its actions and probes."""
        whole = {"name": "site", "full_name": self.remote.full_name, "directory": str(self.path), **keys}
        lines = ["[gitops]", f"sync_timeout = {timeout}", "[[gitops.repository]]", *_pairs(whole)]
        for name, tables in sections.items():
            for table in tables:
                lines += [f"[[gitops.repository.{name}]]", *_pairs(table)]
        return "\n".join([*lines, ""])


class Half:
    """The root half, as an agent calls it that was started with the configuration of now; `lines` are what it said."""

    def __init__(self, client: Client, config: Path) -> None:
        self.client = client
        self.section = section_of(config)
        self.lines: list[tuple[Stream, str]] = []

    async def __call__(self, verb: str, *, descriptors: Sequence[int] = (), **names: object) -> Answer:
        """Do a verb on the repository."""
        return await self.client.call(
            verb,
            deadline=SECONDS,
            descriptors=descriptors,
            on_line=lambda stream, line: self.lines.append((stream, line)),
            **{"repository": "site", "section": self.section, **names},
        )


def section_of(path: Path) -> str:
    """Return what goes with each call about the one repository of a configuration."""
    settings = config.load(path).settings.gitops
    assert settings is not None
    return section.digest(settings.repository[0])


@asynccontextmanager
async def serving(directory: Path, settings: str) -> AsyncIterator[Half]:
    """Give a root half with that configuration; it is a child as that of an agent without a unit."""
    path = directory / "config.toml"
    await asyncio.to_thread(path.write_text, settings)
    client = Client(directory, [*COMMAND, "--config", str(path)], service=directory / "none")
    running = asyncio.create_task(client.run())
    await asyncio.sleep(0)
    try:
        yield await asyncio.to_thread(Half, client, path)
    finally:
        running.cancel()
        await asyncio.wait([running])


def _pairs(table: Mapping[str, Any]) -> list[str]:
    """Return lines of TOML: JSON is, but for tables."""
    return [f"{key} = {_toml(value)}" for key, value in table.items()]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value)) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


if __name__ == "__main__":
    with blockbuster_ctx("homelab_agent"):
        cli.main()
