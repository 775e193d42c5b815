"""ssh for git remotes: Debian's OpenSSH server on a loopback port, whose keys open one repository each.

As root it runs in mount and process namespaces of its own, with its own /run and an account `git` that the host does
not have. Otherwise it runs as who runs the tests, and lets only that account in.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.neighbours.listener import Listener
from tests.neighbours.neighbour import Neighbour, program, version_of
from tests.neighbours.ports import free_port
from tests.processes import children

_REPAIR = "apt install openssh-server"
_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
PermitUserRC no
AcceptEnv GIT_PROTOCOL
MaxStartups 200
"""
_ENTER = """
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
mount --bind "$1" /etc/passwd
shift
exec "$@"
"""
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")

_GATE = """\
#!/bin/sh
# What a key may do: gate DIRECTORY OWNER/NAME read|write. It refuses in GitHub's words.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
refuse() {
    echo "ERROR: $1" >&2
    exit 1
}
case "$SSH_ORIGINAL_COMMAND" in
"git-upload-pack '/$2.git'") service=upload-pack ;;
"git-receive-pack '/$2.git'") service=receive-pack ;;
*) refuse "Repository not found." ;;
esac
[ -d "$1/$2.git" ] || refuse "Repository not found."
[ "$service $3" != "receive-pack read" ] || refuse "The key you are authenticating with has been marked as read only."
exec git "$service" "$1/$2.git"
"""


class Sshd(Listener):
    """One sshd for all repositories, and its keys."""

    def __init__(self, directory: Path, repositories: Path, env: Mapping[str, str]) -> None:
        """Make its files in `directory`, which needs to be there; raises `Missing` where it cannot be had."""
        obtain()
        self.account = "git" if os.geteuid() == 0 else getpass.getuser()
        self._directory = directory
        self._repositories = repositories
        self._gate = directory / "gate"
        self._gate.write_text(_GATE)
        (directory / "authorized_keys").touch()
        make_key(directory / "host_key")
        port, config = free_port(), directory / "sshd_config"
        config.write_text(_CONFIG.format(port=port, directory=directory))
        argv: list[str | Path] = [program("sshd", _REPAIR), "-D", "-e", "-f", config]
        if os.geteuid() == 0:
            passwd = directory / "passwd"
            passwd.write_text(f"git:*:0:0::{directory}:/bin/sh\n" + Path("/etc/passwd").read_text())
            argv = [*_NAMESPACES, "/bin/sh", "-euc", _ENTER, "enter", passwd, *argv]
        super().__init__("sshd", argv, port=port, log=directory / "sshd.log", env=env)

    @property
    def known_hosts(self) -> str:
        """The line of known_hosts that its present host key is; it holds for every port of 127.0.0.1."""
        kind, key = (self._directory / "host_key.pub").read_text().split()[:2]
        return f"[127.0.0.1]:* {kind} {key}\n"

    def change_host_key(self) -> None:
        """Come back as another machine does, or one that was set up anew."""
        make_key(self._directory / "host_key")
        self.restart()

    def authorize(self, public_key: Path, full_name: str, *, write: bool) -> None:
        """Let a key read one repository, or write to it too; it opens nothing else."""
        command = f"/bin/sh {self._gate} {self._repositories} {full_name} {'write' if write else 'read'}"
        with (self._directory / "authorized_keys").open("a") as file:
            file.write(f'restrict,command="{command}" {public_key.read_text()}')

    def rename(self, old: str, new: str) -> None:
        """Let the keys of one repository open it under its new name."""
        file = self._directory / "authorized_keys"
        file.write_text(file.read_text().replace(f" {old} ", f" {new} "))

    def forget_keys(self) -> None:
        """Let no key in any more."""
        (self._directory / "authorized_keys").write_text("")

    def send(self, number: int) -> None:
        """Send a signal to sshd alone."""
        os.kill(self._first, number)

    @property
    def _first(self) -> int:
        """The number of sshd: as root, the process that was started only waits for it, and ends when it does."""
        waited_for = children(self.pid) if os.geteuid() == 0 else []
        return waited_for[0] if waited_for else self.pid

    def _signal(self, number: int) -> None:
        """Tell each of its processes: those of a connection are in sessions of their own."""
        if not self.runs:
            return
        found = [self._first]
        for pid in found:  # parents first, so that none makes another meanwhile
            with suppress(ProcessLookupError, FileNotFoundError):
                os.kill(pid, signal.SIGSTOP)
                found.extend(children(pid))
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def make_key(path: Path) -> None:
    """Make a pair of keys, `path` and `path`.pub, in the place of those that are there."""
    path.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)


def obtain() -> None:
    """Raise `Missing` where it cannot run: Debian installs it, nothing is to be built."""
    for name in ("sshd", "ssh", "ssh-keygen", "unshare"):
        program(name, _REPAIR)


def _version() -> str:
    obtain()
    # It knows no such option, and says who it is when it says so.
    return version_of([program("sshd", _REPAIR), "-V"], r"(?<=OpenSSH_)[\w.]+")


NEIGHBOUR = Neighbour("sshd", "Debian openssh-server", version=_version, obtain=obtain)
