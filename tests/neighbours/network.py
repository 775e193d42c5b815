"""A network of the tests' own, which leads nowhere: a namespace with the loopback interface and a pair of others.

An ordinary user has one too, where the kernel lets users make namespaces. Programs are put in with `inside`. The tests
stay outside and take sockets that were made in it, for a socket belongs to the network in which it was made.
"""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from tests.neighbours.neighbour import Missing, program
from tests.neighbours.server import Server

PUBLIC = ("203.0.113.1", "2001:db8::1")
"""Addresses that look public (RFC 5737, RFC 3849). All others of 203.0.113.0/24 and 2001:db8::/64 are its own too."""

_SETUP = """
ip link set lo up
ip address add 203.0.113.1/24 dev lo
if [ -e /proc/net/if_inet6 ]; then
    ip address add 2001:db8::1/128 dev lo
    ip route add local 2001:db8::/64 dev lo
fi
ip link add away0 type veth peer name away1 # with the loopback interface alone programs take the network to be down
ip address add 192.0.2.1/24 dev away0
ip link set away0 up
ip link set away1 up
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
exec "$@"
"""
_SERVE = """
import os, socket, sys
door = socket.socket(socket.AF_UNIX)
door.bind(sys.argv[1] + ".new")
door.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    asking, _ = door.accept()
    with asking, socket.socket(asking.recv(1)[0]) as made:
        socket.send_fds(asking, [b"."], [made.fileno()])
"""
"""Gives everybody who asks for a family a socket of it. It needs nothing but the system's Python: in a namespace of
his own an ordinary user may be able to read less than outside.
"""
_IPV6_FREEBIND = 78


class Network(Server):
    """One network, or the one that a process is in, made into such. It ends when the last program in it does."""

    def __init__(self, directory: Path, *, of: int | None = None) -> None:
        """`directory` is the caller's; `of` is the process whose network it is to be, for root only."""
        obtain()
        self._door = directory / "network.sock"
        self._of = of
        make = ["nsenter", f"--target={of}", "--net"] if of else _making()
        serve = [str(program("python3", "apt install python3")), "-I", "-S", "-c", _SERVE, str(self._door)]
        super().__init__(
            "network",
            [*make, *_dying(), "/bin/sh", "-euc", _SETUP, "network", *serve],
            ready=self._door.exists,
            log=directory / "network.log",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    @property
    def public(self) -> tuple[str, ...]:
        """Those of `PUBLIC` that it has: the kernel may know no IPv6."""
        return PUBLIC if Path("/proc/net/if_inet6").exists() else PUBLIC[:1]

    def inside(self, *argv: str | Path) -> list[str]:
        """Return the command line that runs this one in it, as the same user; it is the same process."""
        enter = ["nsenter", f"--target={self.pid}", "--net"]
        if os.geteuid() != 0:
            enter += ["--user", "--preserve-credentials"]
        return [*enter, *_dying(), *map(str, argv)]

    def at_home(self, *argv: str | Path) -> list[str]:
        """Return the same for one that has the files, and so the users, of the process whose network it is."""
        if self._of is None:
            return self.inside(*argv)
        return ["nsenter", f"--target={self._of}", "--net", "--mount", "--", *map(str, argv)]

    def make_socket(self, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Return a TCP socket of it, to be connected or listened on."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._door))
            asking.send(bytes([family]))
            _, (descriptor,), _, _ = socket.recv_fds(asking, 1, 1)
        return socket.socket(fileno=descriptor)

    def connect(self, host: str, port: int, *, source: str = "", seconds: float = 10.0) -> socket.socket:
        """Connect to an address in it, where given from another one that is its own; raises OSError."""
        is_6 = ip_address(host).version == 6
        connection = self.make_socket(socket.AF_INET6 if is_6 else socket.AF_INET)
        try:
            connection.settimeout(seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                if is_6:
                    connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
                connection.bind((source, 0))
            connection.connect((host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def listens(self, port: int) -> bool:
        """Return whether somebody listens on a port of its loopback interface."""
        with suppress(OSError), self.connect("127.0.0.1", port):
            return True
        return False


def obtain() -> None:
    """Raise `Missing` where none can be made."""
    for name in ("ip", "unshare", "nsenter", "setpriv", "python3"):
        program(name, "apt install iproute2 util-linux python3")
    made = subprocess.run([*_making(), "true"], capture_output=True, text=True, check=False)
    if made.returncode:
        message = f"a network namespace cannot be made here: {made.stderr.strip()}"
        raise Missing(message)


def _making() -> list[str]:
    """Return what makes it. An ordinary user stays who he is, and gives away what lets him set it up."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *own, "--net"]


def _dying() -> list[str]:
    """Return what lets a program die with the tests, after it has entered: the kernel forgets it when users change."""
    return [] if os.geteuid() == 0 else ["setpriv", "--pdeathsig", "KILL"]
