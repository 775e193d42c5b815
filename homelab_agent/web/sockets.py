"""Where the agent listens: sockets that systemd hands down first, its own for what was not handed down."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.web.settings import split_address

SOCKET_NAME = "agent.sock"
GROUP = "homelab"
_BACKLOG = 128


class PortTaken(AgentError):
    """Port {port} of {address} is taken by {owner}."""

    repair = "end that process, or choose another port: [web] listen"


class CannotListen(AgentError):
    """The agent cannot listen on {where}."""

    repair = "{repair}"

    def __init__(self, *, where: str, repair: str, cause: str | BaseException) -> None:
        super().__init__(where=where, repair=repair, cause=cause)


@dataclass(slots=True)
class Listeners:
    """The sockets; `unix_path` is the file of our own unix socket, None if that was handed down."""

    sockets: list[socket.socket]
    unix_path: Path | None

    def addresses(self) -> list[tuple[str, int]]:
        """Return address and port of each TCP socket."""
        return [one.getsockname()[:2] for one in self.sockets if one.family != socket.AF_UNIX]

    def loopback_port(self) -> int | None:
        """Return the port at which 127.0.0.1 is listened on; None if it is not."""
        return next((one.getsockname()[1] for one in self.sockets if _is_reached_at_loopback(one)), None)

    def close(self) -> None:
        """Stop listening, and remove our own socket file."""
        for one in self.sockets:
            one.close()
        self.sockets.clear()
        if self.unix_path is not None:
            self.unix_path.unlink(missing_ok=True)


def _is_reached_at_loopback(one: socket.socket) -> bool:
    match one.family:
        case socket.AF_INET:
            return one.getsockname()[0] in {"127.0.0.1", "0.0.0.0"}  # noqa: S104 - it is only compared
        case socket.AF_INET6:
            both = not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            return both and one.getsockname()[0] in {"::", "::ffff:127.0.0.1"}
        case _:
            return False


def listen(address: str, directory: Path, inherited: Iterable[socket.socket] = ()) -> Listeners:
    """Listen on `address` ("127.0.0.1:8085") and on `directory`/agent.sock, or on what is inherited instead.

    Blocking, some file system calls; called first, so that a taken port is said before anything else starts.
    `directory` belongs to this process alone (`core.lock`). Raises `PortTaken` or `CannotListen`.
    """
    given = list(inherited)
    for one in given:
        one.setblocking(False)  # noqa: FBT003 - the socket API
    unix_path = None
    own: list[socket.socket] = []
    try:
        if all(one.family == socket.AF_UNIX for one in given):
            own.append(_listen_tcp(*split_address(address)))
        if all(one.family != socket.AF_UNIX for one in given):
            unix_path = directory / SOCKET_NAME
            own.append(_listen_unix(unix_path))
    except AgentError:
        for one in own:
            one.close()
        raise
    return Listeners([*given, *own], unix_path)


def check_free(address: str, port: int) -> None:
    """Raise `PortTaken` or `CannotListen` where `listen` would; nobody listens afterwards."""
    _listen_tcp(address, port).close()


def _listen_tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return _started(socket.create_server((address, port), family=family, backlog=_BACKLOG))
    except OSError as error:
        raise cannot_listen(address, port, error) from None


def cannot_listen(address: str, port: int, error: OSError) -> AgentError:
    """Return why a TCP port cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return PortTaken(port=port, address=address, owner=owner_of(port))
    where = f"{address}:{port}"
    return CannotListen(where=where, repair="[web] listen = an address of this host", cause=error)


def _listen_unix(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        # Linux gives the file the mode that the socket has: nobody gets in before its group is set.
        os.fchmod(one.fileno(), 0o600)
        one.bind(str(path))
        if _give_to_group(path):
            path.chmod(0o660)
        one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        repair = "[agent] state = a shorter path" if "too long" in str(error) else "[agent] state"
        raise CannotListen(where=str(path), repair=repair, cause=error) from None
    return _started(one)


def _give_to_group(path: Path) -> bool:
    """Let the group `homelab` in, where there is one and we may; else the socket is for its owner alone."""
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        return True
    return False


def _started(one: socket.socket) -> socket.socket:
    one.setblocking(False)  # noqa: FBT003 - the socket API
    return one


def owner_of(port: int) -> str:
    """Return in words which process listens on a TCP port; without privilege one sees one's own only."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            listens = found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
            if listens and found.pid is not None:
                return f"process {found.pid} ({psutil.Process(found.pid).name()})"
    return f"a process of another user (sudo ss -ltnp 'sport = :{port}' says which)"
