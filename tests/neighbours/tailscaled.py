"""One node of a tailnet: Tailscale's own daemon, the command that talks to it, and what people do with the two."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.neighbours import tailscale
from tests.neighbours.network import Network
from tests.neighbours.server import Server
from tests.neighbours.tailnet_world import Control
from tests.waiting import until

PORT = 8443
"""The port that tests publish when they name none."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One port that a node serves: to the public too or to the tailnet alone, for a session or for good (none)."""

    port: int
    target: str
    is_public: bool
    session: str


class Tailscaled(Server):
    """One node: its daemon in a network, and the command. It can be broken as any server, and as Tailscale itself."""

    def __init__(self, host: str, directory: Path, network: Network, control: Control) -> None:
        self.host = host
        self.socket = directory / f"{host}.sock"
        self.state = directory / host
        self.program = tailscale.built("tailscale")
        self._control = control
        self.state.mkdir(mode=0o700)
        where = (f"--statedir={self.state}", f"--socket={self.socket}")
        super().__init__(
            f"tailscaled of {host}",
            network.at_home(tailscale.built("tailscaled"), "--tun=userspace-networking", "--port=41641", *where),
            ready=self._answers,
            log=directory / f"{host}.log",
            env=tailscale.environment(self.state),
        )

    # What there is

    @property
    def status(self) -> dict[str, Any]:
        """What the daemon says of itself: BackendState, Self, Health ...; raises OSError where it does not answer."""
        found: dict[str, Any] = self.ask("GET", "status?peers=false")
        return found

    @property
    def backend(self) -> str:
        """Its state in its own words: Running, Stopped, NeedsLogin, Starting, NoState."""
        return str(self.status["BackendState"])

    @property
    def capabilities(self) -> set[str]:
        """What it knows that it may, from control."""
        return set(self.status["Self"].get("CapMap") or ())

    @property
    def serve_config(self) -> dict[str, Any]:
        """What it serves, as `tailscale serve status --json` prints it; `{}` for nothing."""
        return self.ask("GET", "serve-config") or {}

    @property
    def entries(self) -> set[Entry]:
        """The ports of that, those of background and foreground alike."""
        config = self.serve_config
        parts = {"": config, **(config.get("Foreground") or {})}
        return {entry for session, part in parts.items() for entry in _entries(session, part)}

    def ask(self, method: str, path: str, said: object = None, *, seconds: float = 10.0) -> Any:
        """Ask the LocalAPI; raises OSError where nobody answers, AssertionError where it refuses."""
        connection = http.client.HTTPConnection("local-tailscaled.sock", timeout=seconds)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.settimeout(seconds)
            connection.sock.connect(str(self.socket))
            connection.request(method, f"/localapi/v0/{path}", None if said is None else json.dumps(said))
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status < 300, f"{method} {path}: {body.decode()}"
        return json.loads(body) if body.strip() else None

    # What a person does

    def command(self, *words: str) -> list[str]:
        """Return the command line of `tailscale` with these words, to this daemon."""
        return [str(self.program), f"--socket={self.socket}", *words]

    def run(self, *words: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """Run `tailscale` to its end; raises TimeoutExpired where it comes to none."""
        return subprocess.run(
            self.command(*words),
            env=tailscale.environment(self.state),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def __call__(self, *words: str) -> str:
        """Run `tailscale` and return what it printed; fail when it fails."""
        done = self.run(*words)
        assert done.returncode == 0, f"tailscale {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def log_in(self) -> None:
        """Become the tailnet's node of that name; who was logged out becomes another one."""
        self("up", f"--login-server={self._control.url}", f"--hostname={self.host}", "--timeout=20s", "--reset")
        self.until_running()

    def up(self) -> None:
        """Connect, after `down`."""
        self("up")
        self.until_running()

    def down(self) -> None:
        """Disconnect, and stay logged in."""
        self("down")

    def log_out(self) -> None:
        """Give the key back; `log_in` follows."""
        self("logout")

    def shield(self) -> None:
        """Let nobody in any more (shields-up); the daemon refuses while it publishes something."""
        self("set", "--shields-up")

    def operate(self, user: str) -> None:
        """Let this user of the host change what the node does; nobody but root for ""."""
        self("set", f"--operator={user}")

    def publish(self, target: int, *, port: int = PORT, public: bool = True) -> None:
        """Serve a port of 127.0.0.1 for good, in the background: to the public or to the tailnet alone."""
        self("funnel" if public else "serve", "--bg", f"--https={port}", str(target))
        until(lambda: not public or self._is_announced(), "control has heard of it")

    @contextmanager
    def session(self, target: int, *, port: int = PORT, public: bool = True) -> Iterator[Server]:
        """Serve a port of 127.0.0.1 as long as the context lasts, by a command in the foreground, which is given."""
        words = ("funnel" if public else "serve", f"--https={port}", str(target))
        before = self.entries

        def is_ready() -> bool:
            is_there = any(entry.port == port and entry.session for entry in self.entries - before)
            return is_there and (not public or self._is_announced())

        child = Server(
            " ".join(words),
            self.command(*words),
            ready=is_ready,
            log=self.log.with_name(f"session-{port}.log"),
            env=tailscale.environment(self.state),
        )
        try:
            yield child.start()
        finally:
            child.close()

    def until_running(self) -> None:
        """Wait until it is connected, and the others reach it and have its new keys.

        With old ones they would try for 15 seconds before they ask for others.
        """
        until(lambda: self.backend == "Running", f"{self.host} is connected")
        self._control.meet(self.host)
        for other in self._control.hosts().values():
            if other.name != self.host:
                until(functools.partial(self._reaches, other.address), f"{self.host} reaches {other.name}")

    def _reaches(self, address: str) -> bool:
        """Whether one datagram to a node and the one that answers it arrive: any may be lost, and none is repeated."""
        try:
            self.ask("POST", f"ping?ip={address}&type=TSMP", seconds=1)
        except TimeoutError:
            return False
        return True

    def restart(self) -> None:
        """Stop it in order and start it again, as an upgrade of the package does."""
        self.stop()
        self.start()

    def heal(self, mark: str) -> None:
        """Bring it back to running, connected and serving nothing, whatever a test did to it.

        `mark` is a capability that control has granted after all else was as it should be: who knows of it knows all.
        """
        if self.runs:
            self.thaw()
        else:
            self.start()
        if self.backend == "NeedsLogin":  # told to run, it would ask the real control server
            self.log_in()
        wanted = {"WantRunning": True, "ShieldsUp": False, "OperatorUser": ""}
        self.ask("PATCH", "prefs", wanted | {f"{name}Set": True for name in wanted})
        try:
            until(lambda: mark in self.capabilities, "what control says arrives", seconds=0.5)
        except AssertionError:  # cut off, it waits ever longer before it asks again
            self.restart()
            until(lambda: self.backend in {"Running", "NeedsLogin"}, f"{self.host} has started")
        if self.backend == "NeedsLogin":
            self.log_in()
        until(lambda: mark in self.capabilities, "what control says arrives")
        self.until_running()
        self.ask("POST", "serve-config", {})

    def _is_announced(self) -> bool:
        """Whether control knows that it takes the public, as far as it can hear of it."""
        return self._control.hosts()[self.host].ingress_enabled or not self.status["Self"].get("Online")

    def _answers(self) -> bool:
        try:
            return self.backend != "NoState"
        except (OSError, http.client.HTTPException):
            return False


def _entries(session: str, part: dict[str, Any]) -> Iterator[Entry]:
    """Give the entries of one part of what is served."""
    public = {name for name, is_public in (part.get("AllowFunnel") or {}).items() if is_public}
    for name, web in (part.get("Web") or {}).items():
        for handler in web["Handlers"].values():
            yield Entry(int(name.rpartition(":")[2]), handler.get("Proxy", ""), name in public, session)
