"""Real git remotes: bare repositories with the history that a test wants, over file, smart HTTP and ssh."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.neighbours import git
from tests.neighbours.git import Git
from tests.neighbours.git_http import Request, Rules

if TYPE_CHECKING:
    from tests.neighbours.git_host import GitHost

Kind = Literal["file", "http", "ssh"]
Files = Mapping[str, str | bytes | None]

_CONFIG = """
[uploadpack]
    allowFilter = true
    allowAnySHA1InWant = true # as GitHub does
[fastimport]
    unpackLimit = 1000000 # every object is a file of its own, to be spoilt
[receive]
    unpackLimit = 1000000
"""
_SSH = (
    "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes "
    "-o GlobalKnownHostsFile=none -o UserKnownHostsFile={known_hosts} -i {key}"
)


class GitRemote:
    """One repository of the host. A test changes it as those do who push to it, and breaks it.

    Revisions are what `git rev-parse` understands: a branch, a SHA, "main~2". Commits are a minute apart, and have
    the same SHAs in every run.
    """

    def __init__(
        self, host: GitHost, full_name: str, number: int, known_hosts: Path, *, private: bool, object_format: str
    ) -> None:
        """`known_hosts` names the host key of now, and is not changed when that is."""
        self.host = host
        self.full_name = full_name
        self.repository_id = number
        self.known_hosts = known_hosts
        self.token = secrets.token_hex(20)
        self._rules = Rules(self.token, private=private)
        self._commits = 0
        self._spoilt: dict[str, bytes] = {}
        self.path.mkdir(parents=True)
        self("init", "-q", "--bare", "-b", "main", f"--object-format={object_format}", ".")
        with (self.path / "config").open("a") as config:
            config.write(_CONFIG)
        self._rules.keep(self.path)

    @property
    def path(self) -> Path:
        """Where it is, bare."""
        return self.host.repositories / f"{self.full_name}.git"

    def __call__(self, *words: str | Path, given: bytes = b"") -> str:
        """Run git in it and return what that printed."""
        return self._git(*words, given=given)

    # What others do

    def commit(
        self,
        files: Files,
        *,
        branch: str = "main",
        onto: str = "",
        message: str = "",
        modes: Mapping[str, str] | None = None,
    ) -> str:
        """Add a commit with these files to a branch, which begins with it where it is not there; return its SHA.

        None removes a file. With `onto` the branch becomes that revision and this commit, whatever it was before.
        `modes` are git's where not 100644: 100755 for a program, 120000 for a link to what the content names.
        """
        self._commits += 1
        who = f"{git.NAME} <{git.EMAIL}> {git.BEGAN + 60 * self._commits} +0000"
        stream = [f"commit refs/heads/{branch}\nmark :1\nauthor {who}\ncommitter {who}".encode()]
        stream.append(_data(message or f"Change {self._commits}"))
        if parent := self.sha(onto) if onto else self.branches().get(branch):
            stream.append(f"from {parent}".encode())
        for name, content in files.items():
            if content is None:
                stream.append(f"D {_quoted(name)}".encode())
            else:
                stream.append(f"M {(modes or {}).get(name, '100644')} inline {_quoted(name)}".encode())
                stream.append(_data(content))
        return self(
            "fast-import", "--quiet", "--done", "--force", given=b"\n".join([*stream, b"\nget-mark :1\ndone\n"])
        )

    def branch(self, name: str, at: str = "main") -> str:
        """Let a branch be at that revision, whether it is there or not; return its SHA."""
        sha = self.sha(at)
        self("update-ref", f"refs/heads/{name}", sha)
        return sha

    def force_push(self, files: Files | None = None, *, branch: str = "main", onto: str = "") -> str:
        """Replace the last commit of a branch by one with these files, or with nothing; return the new SHA.

        With `onto` all that came after that revision is replaced.
        """
        base = onto or f"{branch}~1"
        return self.commit(files, branch=branch, onto=base) if files else self.branch(branch, base)

    def delete_branch(self, name: str) -> None:
        """Delete a branch, were it that which HEAD names."""
        self("update-ref", "-d", f"refs/heads/{name}")

    def tag(self, name: str, at: str = "main", *, message: str = "") -> str:
        """Make or move a tag, with a message an annotated one; return the SHA of the commit."""
        self("tag", "--force", *(["--annotate", f"--message={message}"] if message else []), name, at)
        return self.sha(name)

    def gone(self) -> None:
        """Take it away: who asks for it hears that there is none. `back` brings it back."""
        self.path.rename(self._away)

    def back(self) -> None:
        """Undo `gone`."""
        self._away.rename(self.path)

    def rename(self, full_name: str) -> None:
        """Give it another name; its keys go with it. The old name leads nowhere (at GitHub it leads on)."""
        before, old = self.path, self.full_name
        self.full_name = full_name
        self.path.parent.mkdir(exist_ok=True)
        before.rename(self.path)
        if self.host.has_ssh:
            self.host.ssh.rename(old, full_name)

    # What there is

    def sha(self, revision: str = "main") -> str:
        """Return the SHA of a commit; raises AssertionError where there is none."""
        found = self.find(revision)
        assert found, f"{self.full_name} has no {revision}"
        return found

    def find(self, revision: str) -> str:
        """Return the SHA of a commit, empty where there is none."""
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return self._git.run(*words).stdout.strip()

    def branches(self) -> dict[str, str]:
        """Return the SHA of each branch."""
        listed = self("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads")
        return dict(line.split() for line in listed.splitlines())

    def requests(self) -> list[Request]:
        """Return what was asked of it over HTTP, in order."""
        return [asked for asked in self.host.http.requests() if asked.target.startswith(f"/{self.full_name}.git/")]

    # How it is reached

    def url(self, kind: Kind = "file", *, port: int = 0) -> str:
        """Return its address; `port` is that of a wire to the server, where one is laid."""
        match kind:
            case "file":
                return f"file://{self.path}"
            case "http":
                return f"http://127.0.0.1:{port or self.host.http.port}/{self.full_name}.git"
            case "ssh":
                return f"ssh://{self.host.ssh.account}@127.0.0.1:{port or self.host.ssh.port}/{self.full_name}.git"

    def deploy_key(self, *, write: bool = False) -> Path:
        """Return a new key, with which one may read it, or write to it too."""
        return self.host.deploy_key(self.full_name, write=write)

    def env(self, kind: Kind = "file", *, token: str = "", key: Path | None = None) -> dict[str, str]:
        """Return the environment in which git reaches it: with this token or key, else with its own or a new one."""
        clean = git.environment(self.host.directory)
        match kind:
            case "file":
                return clean
            case "http":
                return {**clean, "GIT_ASKPASS": str(self.host.askpass), "GIT_REMOTE_TOKEN": token or self.token}
            case "ssh":
                command = _SSH.format(known_hosts=self.known_hosts, key=key or self.deploy_key())
                return {**clean, "GIT_SSH_COMMAND": command}

    def clone(self, into: Path, kind: Kind = "file", *, write: bool = False) -> Git:
        """Clone it; return git in the working copy, where it may fetch, and push if `write` or not over ssh."""
        env = self.env(kind, key=self.deploy_key(write=write) if kind == "ssh" else None)
        Git(self.host.directory, env)("clone", "-q", self.url(kind), into)
        return Git(into, env)

    # What goes wrong

    def answer(self, status: int, *, only: str = "") -> None:
        """Refuse requests over HTTP with this status until `mend`: those with `only` in their path or query."""
        self._let(replace(self._rules, answer=status, only=only))

    def slow(self, bytes_per_second: int) -> None:
        """Let answers over HTTP come no faster than this until `mend`."""
        self._let(replace(self._rules, bytes_per_second=bytes_per_second))

    def corrupt(self, revision: str) -> str:
        """Spoil the bytes of one object until `mend`: "main" is a commit, "main:file" a file; return its name."""
        name = self("rev-parse", "--verify", "--end-of-options", revision)
        content = self._spoilt.setdefault(name, self._object(name).read_bytes())
        self._object(name).chmod(0o644)
        self._object(name).write_bytes(content[:2] + bytes(0xFF ^ byte for byte in content[2:]))
        return name

    def mend(self) -> None:
        """Undo `answer`, `slow` and `corrupt`."""
        self._let(Rules(self.token, private=self._rules.private))
        while self._spoilt:
            name, content = self._spoilt.popitem()
            self._object(name).write_bytes(content)

    @property
    def _git(self) -> Git:
        return Git(self.path, git.environment(self.host.directory))

    @property
    def _away(self) -> Path:
        return self.path.with_name(f".{self.path.name}")

    def _object(self, name: str) -> Path:
        return self.path / "objects" / name[:2] / name[2:]

    def _let(self, rules: Rules) -> None:
        self._rules = rules
        rules.keep(self.path)


def _data(content: str | bytes) -> bytes:
    """Return it as a stream for git fast-import has it."""
    octets = content.encode() if isinstance(content, str) else content
    return b"data %d\n%s" % (len(octets), octets)


def _quoted(path: str) -> str:
    """Return a path as git quotes it, whatever is in it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
