"""Where git remotes are, and the servers through which they are reached: git over HTTP and sshd."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.neighbours import git, git_http, sshd
from tests.neighbours.git_http import Request
from tests.neighbours.git_remote import GitRemote
from tests.neighbours.listener import Listener
from tests.neighbours.neighbour import Missing
from tests.neighbours.ports import free_port
from tests.neighbours.sshd import Sshd
from tests.processes import freeze, thaw

_ROOT = Path(__file__).parents[2]
_ASKPASS = """\
#!/bin/sh
case "$1" in Username*) echo x-access-token ;; *) echo "$GIT_REMOTE_TOKEN" ;; esac
"""


class GitHttp(Listener):
    """The web server of git_http.py as a child of the tests."""

    def __init__(self, directory: Path, repositories: Path) -> None:
        port = free_port()
        argv = [sys.executable, "-m", "tests.neighbours.git_http", str(repositories), str(port)]
        env = {**git.environment(directory), "PYTHONPATH": str(_ROOT)}
        super().__init__("git over HTTP", argv, port=port, log=directory / "http.log", env=env)
        self._record = repositories / git_http.RECORD

    def freeze(self) -> None:
        """Let it answer nobody any more; connections stay, and the kernel makes new ones."""
        # Its children get no further without it. They are not stopped, so that they end when it is killed.
        freeze(self.pid)

    def thaw(self) -> None:
        """Let it go on."""
        thaw(self.pid)

    def requests(self) -> list[Request]:
        """Return what it was asked and has begun to answer, in order."""
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return [Request(**json.loads(line)) for line in lines]


class GitHost:
    """Where repositories are, and the two servers through which they are reached; ssh only where there is an sshd."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repositories = directory / "repositories"
        self.repositories.mkdir()
        self.askpass = directory / "askpass"
        self.askpass.write_text(_ASKPASS)
        self.askpass.chmod(0o755)
        self.http = GitHttp(directory, self.repositories)
        self._keys = directory / "keys"
        self._keys.mkdir()
        self._numbers = itertools.count(1)
        self._key_numbers = itertools.count(1)
        self._ssh: Sshd | Missing
        try:
            self._ssh = Sshd(directory, self.repositories, git.environment(directory))
        except Missing as why:
            self._ssh = why

    @property
    def has_ssh(self) -> bool:
        """Whether there is an sshd."""
        return isinstance(self._ssh, Sshd)

    @property
    def ssh(self) -> Sshd:
        """The sshd; raises `Missing` where there is none."""
        if isinstance(self._ssh, Missing):
            raise self._ssh
        return self._ssh

    @property
    def servers(self) -> list[Listener]:
        """Those that there are."""
        return [self.http, self.ssh] if self.has_ssh else [self.http]

    def up(self) -> None:
        """Bring all servers back to answering, whatever a test did to them."""
        for server in self.servers:
            server.up()

    def close(self) -> None:
        """End them."""
        for server in self.servers:
            server.close()

    def repository(self, full_name: str = "", *, private: bool = False, object_format: str = "sha1") -> GitRemote:
        """Make an empty repository; who reads a private one over HTTP must have its token. "sha256" is a format too."""
        number = next(self._numbers)
        known_hosts = self._keys / f"known_hosts-{number}"
        if self.has_ssh:
            known_hosts.write_text(self.ssh.known_hosts)
        return GitRemote(
            self, full_name or f"octo/site-{number}", number, known_hosts, private=private, object_format=object_format
        )

    def deploy_key(self, full_name: str, *, write: bool) -> Path:
        """Return a new key that opens this repository, and nothing else."""
        key = self._keys / f"key-{next(self._key_numbers)}"
        sshd.make_key(key)
        self.ssh.authorize(key.with_suffix(".pub"), full_name, write=write)
        return key

    def empty(self) -> None:
        """Remove all repositories and keys, and the record of requests; the next repository is the first again."""
        self._numbers = itertools.count(1)
        for directory in (self.repositories, self._keys):
            shutil.rmtree(directory)
            directory.mkdir()
        if self.has_ssh:
            self.ssh.forget_keys()


@contextmanager
def running() -> Iterator[GitHost]:
    """Give a host without repositories; others than its user may read there. Nothing is left of it."""
    git.obtain()
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-git-"))
    directory.chmod(0o755)
    host = None
    try:
        host = GitHost(directory)
        host.up()
        yield host
    except BaseException:
        for server in host.servers if host else ():
            print(f"--- {server.name}\n{server.tail()}")
        raise
    finally:
        if host is not None:
            host.close()
        shutil.rmtree(directory)
