"""A machine with a root half for the agent's user, and somebody in a shell as that user, who has taken the agent over.

What the intruder runs there is Debian's Python and the shell, nothing of ours: `ASK` speaks to the root half's socket.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab_agent import config, places
from homelab_agent.commands.privileged import Verbs
from homelab_agent.core.privilege import Verb
from homelab_agent.gitops import section
from tests.neighbours import machine as machines
from tests.neighbours.machine import Machine

ROOT = Path(__file__).parents[1]
USER = "homelab-agent"
CONFIG = "/etc/homelab-agent/config.toml"
CREDENTIALS = "/etc/homelab-agent/credentials"
SOCKET = "/run/homelab-agent/privileged.sock"
UNIT = "homelab-agent-privileged"
SYSUSERS = """
u homelab-agent - "homelab-agent" /var/lib/homelab-agent /usr/sbin/nologin
u keeper - "owner of the working copy" /home/keeper /bin/sh
u operator - "in the group that asks the agent" /home/operator /bin/sh
g homelab - -
m operator homelab
"""
SOCKET_UNIT = f"""
[Socket]
ListenStream={SOCKET}
SocketUser={USER}
SocketMode=0600
DirectoryMode=0755
"""
SERVICE_UNIT = """
[Service]
ExecStart={command} privileged serve --for homelab-agent
"""
CONFIGURATION = f"""
[agent]
state = "/var/lib/homelab-agent"
[database]
url = "postgresql://127.0.0.1:1/nothing"
[gate]
funnel = true
[reading]
[[reading.source]]
name = "links"
kind = "mongodb"
url = "mongodb://127.0.0.1:1/"
[[gitops.repository]]
name = "site"
full_name = "octo/site"
directory = "/srv/site"
[[gitops.repository.action]]
name = "deploy"
command = ["sh", "-c", "id -un >>/srv/site/deployed"]
[[gitops.repository.probe]]
kind = "command"
command = ["true"]
[[gitops.repository]]
name = "nest"
full_name = "octo/nest"
directory = "/home/keeper/nest"
[[gitops.repository.action]]
name = "deploy"
command = ["./deploy.sh"]
[[backup.set]]
name = "papers"
paths = ["/srv/papers"]
[[backup.repository]]
name = "offsite"
url = "/srv/restic"
password = "file:{CREDENTIALS}/restic"
[[backup.repository.variable]]
name = "AWS_ACCESS_KEY_ID"
value = "file:{CREDENTIALS}/s3"
"""
BACKUPS = ("/var/backups/homelab-agent", "/var/lib/homelab-agent-backup")
KEPT = ("/srv", "/home/keeper", "/etc/homelab-agent", *BACKUPS)
"""What belongs to others than the agent's user, and is to stay as it is."""

ASK = r'''
"""Reads calls, one a line of JSON: bytes for the socket and files to go with them in base64; prints what is said."""
import base64, json, os, socket, sys
def said(data, files):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(sys.argv[1])
        descriptors = []
        for one in files:
            descriptors.append(os.memfd_create("given"))
            os.write(descriptors[-1], base64.b64decode(one))
        try:
            socket.send_fds(connection, [data[:4]], descriptors)
            connection.sendall(data[4:])
        except ConnectionError:
            pass
        for one in descriptors:
            os.close(one)
        told = b""
        try:
            while part := connection.recv(65536):
                told += part
        except ConnectionResetError:
            pass
    found = []
    while told:
        length = int.from_bytes(told[:4], "big")
        found.append(json.loads(told[4 : 4 + length]))
        told = told[4 + length :]
    return found
for line in sys.stdin:
    call = json.loads(line)
    try:
        print(json.dumps(said(base64.b64decode(call["bytes"]), call["files"])), flush=True)
    except OSError as error:
        print(json.dumps([{"errno": error.errno}]), flush=True)
'''


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sent: a request as it is, or any bytes for the body of one; and files, as descriptors."""

    request: Any
    files: Sequence[bytes] = ()

    @property
    def line(self) -> str:
        """As `ASK` reads it; the go-ahead comes at once."""
        body = self.request if isinstance(self.request, bytes) else json.dumps(self.request).encode()
        data = len(body).to_bytes(4, "big") + body + b"+"
        files = [base64.b64encode(one).decode() for one in self.files]
        return json.dumps({"bytes": base64.b64encode(data).decode(), "files": files})


def call(verb: Any, arguments: Any, *files: bytes) -> Asked:
    """Return a call as a verb and its arguments."""
    return Asked({"verb": verb, "arguments": arguments}, files)


class Home:
    """The machine, its root half, and shells of others in it."""

    def __init__(self, machine: Machine, verbs: Mapping[str, Verb], sections: Mapping[str, str]) -> None:
        self.machine = machine
        self.verbs = verbs
        """Those that the half has with this configuration."""
        self.sections = sections
        """What goes with each call about a repository, by its name."""

    def shell(self, script: str, *, user: str = USER) -> subprocess.CompletedProcess[str]:
        """Run a script as a user of the machine, with no right but that user's own."""
        return self.machine.run(*as_user(user), "sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin; {script}")

    def ask(self, calls: Sequence[Asked], *, user: str = USER) -> list[list[dict[str, Any]]]:
        """Say them to the root half, one after the other, and return what is said to each."""
        words = self.machine.inside(*as_user(user), "/usr/bin/python3", "-I", "-c", ASK, SOCKET)
        given = "".join(f"{one.line}\n" for one in calls)
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def kept(self) -> str:
        """Return in words all that is to stay as it is: names, sizes, owners, modes and times of `KEPT`."""
        return self.machine("find", *KEPT, "-printf", "%p %y %s %u %m %T@ %l\n")

    def called(self) -> list[dict[str, Any]]:
        """Return what the journal says of calls."""
        entries = self.machine.journal("HOMELAB_EVENT=privileged.called", f"_SYSTEMD_UNIT={UNIT}.service")
        return [json.loads(one["MESSAGE"]) for one in entries]


def as_user(user: str) -> Sequence[str]:
    """Return what runs the words behind it as a user of the machine, who has just logged in."""
    group = {"nobody": "nogroup"}.get(user, user)
    return ("setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--inh-caps=-all", "--reset-env")


@contextmanager
def broken_in(directory: Path) -> Iterator[Home]:
    """Give one; nothing is started but Docker and the socket."""
    path = directory / "config.toml"
    path.write_text(CONFIGURATION)
    verbs = Verbs(path, is_roots=False).collect()
    gitops = config.load(path).settings.gitops
    assert gitops is not None
    with machines.running(shared=[ROOT, Path(sys.prefix)]) as machine:
        _furnish(machine)
        yield Home(machine, verbs, {one.name: section.digest(one) for one in gitops.repository})


def _furnish(machine: Machine) -> None:
    machine.path("/etc/sysusers.d").mkdir(exist_ok=True)
    machine.path("/etc/sysusers.d/homelab-agent.conf").write_text(SYSUSERS)
    machine("systemd-sysusers")
    machine("install", "-d", "-m", "0700", "-o", USER, "-g", USER, "/var/lib/homelab-agent")
    machine("install", "-d", "-m", "0700", CREDENTIALS, "/srv/papers", *BACKUPS)
    for name in ("restic", "s3", "api-token"):
        _write(machine, f"{CREDENTIALS}/{name}", "0600", f"secret-{name}")
    _write(machine, "/srv/papers/will", "0600", "to my cat")
    _write(machine, CONFIG, "0640", CONFIGURATION)
    machine("chgrp", USER, CONFIG)
    machine("install", "-d", "-o", "keeper", "-g", "keeper", "/srv/site", "/home/keeper", "/home/keeper/nest")
    script = "cd /srv/site && git init -q -b main && git -c user.name=k -c user.email=k@k commit -q --allow-empty -m 1"
    machine(*as_user("keeper"), "sh", "-c", script)
    _write(machine, "/home/keeper/key", "0600", "keeper's own")
    command = " ".join(f'"{word}"' for word in map(str, places.command(Path(CONFIG)))).replace("%", "%%")
    machine.install(f"{UNIT}.service", SERVICE_UNIT.format(command=command))
    machine.install(f"{UNIT}.socket", SOCKET_UNIT)
    machine.systemctl("start", f"{UNIT}.socket", "docker.service")


def _write(machine: Machine, path: str, mode: str, text: str) -> None:
    machine("install", "-D", "-m", mode, "/dev/null", path)
    machine.path(path).write_text(text)
