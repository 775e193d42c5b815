"""A real Docker Engine in an enclosure of its own: Debian's dockerd, containerd and runc; nothing is ever pulled.

Bridges, user networks, names and published ports work, and are inside the enclosure: `run` and `inside` go there.
The API's socket and the `docker` command work from anywhere on the host.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from tests.neighbours.enclosure import Enclosure
from tests.neighbours.loop import LoopDisk, filling
from tests.neighbours.neighbour import Neighbour, need_root, program, version_of
from tests.processes import children, freeze, is_alive, thaw
from tests.waiting import until

PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where Debian's are; another `docker` may come first on the PATH."""


class Docker:
    """One engine on one data root, which may be frozen, killed, restarted and cut off, and then goes on with its data.

    Without `disk_megabytes` the data root lies on the host's disk; with it on a file system of that size.
    """

    def __init__(
        self, directory: Path, *, disk_megabytes: int = 0, settings: Mapping[str, object] | None = None
    ) -> None:
        """`settings` is what /etc/docker/daemon.json would hold, as `{"live-restore": True}`."""
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.config = directory / "config"
        self.log = directory / "dockerd.log"
        self._data = directory / "data"
        self._disk = LoopDisk(directory / "disk", disk_megabytes) if disk_megabytes else None
        self._settings = directory / "daemon.json"
        self._settings.write_text(json.dumps(settings or {}))
        self._data.mkdir()
        self.config.mkdir()
        setup = [f"ln -s {self.socket} /run/docker.sock"]
        if self._disk:
            setup.append(self._disk.mounting(self._data))
        self.enclosure = Enclosure(directory, setup=setup)

    @property
    def env(self) -> dict[str, str]:
        """The environment in which `docker` and Compose talk to this engine, and to no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))}
        return {**kept, "PATH": PROGRAMS, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.config)}

    @property
    def pid(self) -> int:
        """The host's number of dockerd; raises AssertionError where none runs."""
        found = [child for child in children(self.enclosure.first) if _name(child) == "dockerd"]
        assert found, f"no dockerd runs: {self.tail()}"
        return found[0]

    @property
    def runs(self) -> bool:
        """Whether there is a dockerd; a frozen one is."""
        return self.enclosure.is_up and "dockerd" in map(_name, children(self.enclosure.first))

    def start(self) -> None:
        """Start dockerd, and what it runs in where that was cut off; return when the API answers."""
        if not self.enclosure.is_up:
            self.enclosure.start()
        words = f"--data-root {self._data} --host unix://{self.socket} --config-file {self._settings}"
        # Its own choices would depend on the host's; its other files are in the enclosure's /run.
        same = "--storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs --group root"
        daemon = f'PATH={PROGRAMS} exec setsid --fork dockerd {words} {same} >>"{self.log}" 2>&1'
        self.run("/bin/sh", "-c", daemon).check_returncode()
        try:
            until(lambda: self.runs, "dockerd is there", seconds=5)
            until(self._answers, "the Docker API answers", seconds=40)
        except AssertionError:
            print(f"--- {self.log}\n{self.tail()}")
            raise

    def stop(self) -> None:
        """End dockerd in order: it stops its containers (not with live-restore), and starts some again later."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start, as an upgrade of the package does."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let dockerd answer nobody; containers run on."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Let it go on."""
        thaw(self.pid)

    def kill(self) -> None:
        """End dockerd alone, at once; containerd goes with it, containers run on under their shims.

        The next start ends them, then starts again those whose restart policy says so; with the setting live-restore
        it takes them over as they are.
        """
        self._end(signal.SIGKILL)

    def power_cut(self) -> None:
        """End daemon, containerd, shims and containers together; networks, mounts and control groups are gone too.

        What was written is kept. `start` is the power's return.
        """
        self.enclosure.end()
        if self._disk:
            self._disk.wait_until_free()

    def fill(self) -> None:
        """Leave no byte on the data root's own disk."""
        assert self._disk, "the data root is on the host's disk"
        done = self.run(*filling(self._data / "full"))
        assert "No space left" in done.stderr, done.stderr

    def free(self) -> None:
        """Give the space back."""
        self.run("rm", f"{self._data}/full").check_returncode()

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self.enclosure.end()

    def run(self, *argv: str | Path, seconds: int = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the host inside, where published ports are those of 127.0.0.1."""
        return self.enclosure.run(*argv, seconds=seconds)

    def inside(self, *argv: str | Path) -> list[str]:
        """Return the command line that runs this one inside; there /run/docker.sock is this engine's."""
        return self.enclosure.inside(*argv)

    def __call__(self, *words: str, seconds: float = 60, given: IO[bytes] | None = None) -> str:
        """Run Debian's `docker` with these words and return what it printed; fail when it fails."""
        done = subprocess.run(
            ["/usr/bin/docker", *words],
            env=self.env,
            stdin=given or subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def api(self, method: str, path: str, *, seconds: float = 30) -> Any:
        """Ask the engine itself; raises OSError when it does not answer, AssertionError when it refuses."""
        connection = http.client.HTTPConnection("docker", timeout=seconds)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.settimeout(seconds)
            connection.sock.connect(str(self.socket))
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status < 400, f"{method} {path}: {body.decode()}"
        return json.loads(body) if answer.headers.get_content_type() == "application/json" and body else body

    def state(self, container: str) -> dict[str, Any]:
        """Return the State of a container: Running, Status, ExitCode, Pid (of the enclosure), Health ..."""
        found: dict[str, Any] = self.api("GET", f"/containers/{quote(container)}/json")["State"]
        return found

    def tail(self, characters: int = 3000) -> str:
        """Return the end of what dockerd printed."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def heal(self) -> None:
        """Bring the engine back to answering, whatever a test did to it."""
        if not self.runs:
            self.start()
        self.thaw()
        until(self._answers, "the Docker API answers", seconds=40)

    def _answers(self) -> bool:
        assert self.runs, "dockerd has ended"
        try:
            return bool(self.api("GET", "/_ping", seconds=2) == b"OK")
        except (OSError, http.client.HTTPException):
            return False

    def _end(self, number: signal.Signals) -> None:
        pid = self.pid
        os.kill(pid, number)
        until(lambda: not is_alive(pid), "dockerd has ended", seconds=40)


@contextmanager
def running(*, disk_megabytes: int = 0, settings: Mapping[str, object] | None = None) -> Iterator[Docker]:
    """Give an engine without images; it leaves nothing, and prints the end of its log where the context fails."""
    obtain()
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-docker-"))
    docker = None
    try:
        docker = Docker(directory, disk_megabytes=disk_megabytes, settings=settings)
        docker.start()
        yield docker
    except BaseException:
        print(f"--- dockerd\n{docker.tail() if docker else ''}")
        raise
    finally:
        if docker is not None:
            docker.close()
        shutil.rmtree(directory)


def obtain() -> None:
    """Raise `Missing` where it cannot run: Debian installs it, nothing is to be built."""
    need_root("Docker")
    for name in ("dockerd", "docker", "containerd", "runc", "iptables", "unshare", "mkfs.ext4"):
        program(name, "apt install docker.io iptables e2fsprogs", path=PROGRAMS)


def _version() -> str:
    obtain()
    return version_of(["/usr/sbin/dockerd", "--version"])


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


NEIGHBOUR = Neighbour("Docker", "Debian docker.io", version=_version, obtain=obtain)
