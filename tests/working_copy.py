"""A working copy of a remote over files: pushes to it, edits in it, `deploy/gitops_sync.sh` on it, every byte of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "deploy" / "gitops_sync.sh"
FETCHED = "refs/worktree/homelab/fetched"
SHELLS: Mapping[str, Sequence[str]] = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
Files = Mapping[str, str | bytes | None]

_BEGAN = 1_767_225_600
_OWN = re.compile(r"(.*/)?\.git/(worktrees/[^/]+/)?(objects|homelab-moving|(logs/)?refs/worktree)(/.*)?")
"""What the script may write in .git whatever its verdict is: objects, and what it remembers for itself."""


def environment(home: Path) -> dict[str, str]:
    """Return the whole environment of git: no configuration but the repository's own, and one committer."""
    who = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": f"{_BEGAN} +0000"}
    roles = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), "LC_ALL": "C.UTF-8", **roles}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script said, and how it ended."""

    code: int
    told: dict[str, Any]
    stderr: str

    @property
    def verdict(self) -> str:
        return str(self.told["verdict"])

    @property
    def repair(self) -> list[str]:
        return list(self.told["repair"])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every file, link and directory of a working copy with its mode and content; of .git all but objects."""

    entries: Mapping[str, tuple[int, bytes]]

    @classmethod
    def of(cls, place: Path) -> Snapshot:
        """Read it all."""
        found = {}
        for directory, folders, files in os.walk(place):
            for path in (Path(directory, name) for name in (*folders, *files)):
                inside = str(path.relative_to(place))
                if not _OWN.fullmatch(inside.replace("\n", " ")):
                    found[inside] = (path.lstat().st_mode, _content(path))
        return cls(found)

    def changes(self, later: Snapshot) -> list[str]:
        """Return the names of what is not as it was."""
        names = self.entries.keys() | later.entries.keys()
        return sorted(name for name in names if self.entries.get(name) != later.entries.get(name))


def _content(path: Path) -> bytes:
    match stat.S_IFMT(path.lstat().st_mode):
        case stat.S_IFREG:
            return path.read_bytes()
        case stat.S_IFLNK:
            return os.fsencode(path.readlink())
        case _:
            return b""


class WorkingCopy:
    """A remote with one branch, and a clone of it. `git("status")` runs in the clone and returns what it printed."""

    def __init__(
        self, directory: Path, files: Files, *, branch: str = "main", name: str = "copy", env: Mapping[str, str] = {}
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.remote = directory / "remote.git"
        self.path = directory / name
        self.env = {**environment(directory), **env}
        self.branch = branch
        self._commits = 0
        self._run(directory, "init", "--quiet", "--template=", "--bare", f"--initial-branch={branch}", str(self.remote))
        self.push(files)
        self._run(directory, "clone", "--quiet", "--template=", str(self.remote), str(self.path))

    def git(self, *words: str) -> str:
        return self._run(self.path, *words)

    def attempt(self, *words: str) -> bool:
        """Run git in the clone; return whether it was content."""
        done = subprocess.run(["git", *words], cwd=self.path, env=self.env, capture_output=True, check=False)
        return done.returncode == 0

    def fails(self, *words: str) -> None:
        """Run git in the clone, which is to fail."""
        assert not self.attempt(*words)

    def push(self, files: Files, *, onto: str = "", modes: Mapping[str, str] | None = None) -> str:
        """Commit these files to the remote's branch, None removes one; return the SHA.

        With `onto` the branch becomes that revision and this commit. `modes` are git's, where not 100644.
        """
        self._commits += 1
        stream = [f"commit refs/heads/{self.branch}\ncommitter Bob <bob@example.org> {_BEGAN + self._commits} +0000"]
        stream.append("data 1\nx")
        if parent := onto or self.tip():
            stream.append(f"from {parent}")
        lines = [line.encode() for line in stream]
        for name, content in files.items():
            quoted = '"{}"'.format(name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
            mode = (modes or {}).get(name, "100644")
            if content is None:
                lines.append(f"D {quoted}".encode())
            elif mode == "160000":
                lines.append(f"M {mode} {content!s} {quoted}".encode())
            else:
                octets = content.encode() if isinstance(content, str) else content
                lines.append(f"M {mode} inline {quoted}".encode())
                lines.append(b"data %d\n%s" % (len(octets), octets))
        self._run(self.remote, "fast-import", "--quiet", "--force", given=b"\n".join([*lines, b""]))
        return self.tip()

    def tip(self) -> str:
        """Return where the remote's branch is, "" when there is none."""
        return self._run(self.remote, "for-each-ref", "--format=%(objectname)", f"refs/heads/{self.branch}")

    def move_remote(self, directory: Path) -> None:
        """Let the remote lie in another directory."""
        self.remote = Path(shutil.move(self.remote, directory))
        self.git("remote", "set-url", "origin", str(self.remote))

    def rewind(self, to: str) -> None:
        """Take the remote's branch back to a commit."""
        self._run(self.remote, "update-ref", f"refs/heads/{self.branch}", to)

    def write(self, files: Files) -> None:
        """Write or remove files in the clone."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Files) -> str:
        """Commit files in the clone, as one must not; return the SHA."""
        self.write(files)
        self.git("add", "--all", "--", *files)
        self.git("commit", "--quiet", "--message=local")
        return self.git("rev-parse", "HEAD")

    def command(self, *options: str, sha: str = "", shell: str = "dash") -> list[str]:
        """Return what runs the script on the clone."""
        operands = [str(self.path), self.branch, *([sha] if sha else [])]
        return [*SHELLS[shell], str(SCRIPT), "--json", "--allow-file", *options, *operands]

    def sync(self, *options: str, sha: str = "", shell: str = "dash", argv: Sequence[str] = ()) -> Answer:
        """Run the script; what it prints is one JSON line."""
        command = [*argv, *self.command(*options, sha=sha, shell=shell)]
        return answer(subprocess.run(command, env=self.env, capture_output=True, check=False, timeout=60))

    def repair(self, commands: Sequence[str]) -> None:
        """Do what the script said; how a command that only shows something ends says nothing."""
        for command in commands:
            subprocess.run(["sh", "-c", command], cwd=self.path, env=self.env, capture_output=True, check=False)

    def snapshot(self) -> Snapshot:
        return Snapshot.of(self.path)

    def differences(self, sha: str) -> str:
        """Return how the files that git keeps, the index and HEAD differ from a commit."""
        changed = self.git("diff", "--name-status", "--no-ext-diff", sha)
        staged = self.git("diff", "--name-status", "--cached", sha)
        head = self.git("rev-parse", "HEAD")
        return "\n".join(filter(None, (changed, staged, "" if head == sha else f"HEAD is {head}")))

    def _run(self, where: Path, *words: str, given: bytes = b"") -> str:
        done = subprocess.run(["git", *words], cwd=where, env=self.env, input=given, capture_output=True, check=False)
        assert done.returncode == 0, f"git {shlex.join(words)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="replace").strip()


def mend(copy: WorkingCopy, said: Answer, options: Sequence[str] = ()) -> None:
    """Do what is said until it moves, then see that it has."""
    for _ in range(4):
        copy.repair(said.repair)
        said = copy.sync(*options)
        if said.code == 0:
            break
    assert said.code == 0, (said.told, said.stderr)
    assert said.told["head"] == copy.tip()
    assert copy.differences(copy.tip()) == "" or options


def answer(done: subprocess.CompletedProcess[bytes]) -> Answer:
    """Read the script's one line."""
    stderr = done.stderr.decode(errors="replace")
    assert done.stdout.count(b"\n") == 1, (done.returncode, done.stdout, stderr)
    return Answer(done.returncode, json.loads(done.stdout.decode()), stderr)
