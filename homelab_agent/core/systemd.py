"""The service manager's side of the process: readiness, watchdog, inherited sockets, credentials.

Small, and needs no library: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SURELY_SECONDS = 80.0
"""How long what must arrive is tried: less than the 90 s that a start may take (DefaultTimeoutStartSec=)."""

_FIRST = 3
_UNNAMED = "unknown"


def notify(**fields: str | int) -> bool:
    """Tell the service manager; return whether it was told. Never blocks, never raises.

    `notify(STATUS="...")`, `WATCHDOG=1`, `STOPPING=1`, `EXTEND_TIMEOUT_USEC=...`; with `RELOADING=1` the time that the
    protocol asks for is added. What the manager is too busy to take is lost: `READY=1` is for `tell_surely`.
    """
    try:
        with _manager() as manager:
            message = _message(fields)
            return manager.send(message) == len(message)
    except OSError:
        return False


async def tell_surely(*, within: float = SURELY_SECONDS, **fields: str | int) -> bool:
    """Tell the service manager what must not be lost, as `READY=1`; return whether it was told. Never raises.

    One whose buffer is full is waited for, `within` so many seconds, while the loop turns.
    """
    try:
        with _manager() as manager:
            async with asyncio.timeout(within):
                await asyncio.get_running_loop().sock_sendall(manager, _message(fields))
    except OSError:  # a timeout is one
        return False
    return True


def _manager() -> socket.socket:
    """Return a socket to the manager, which never blocks; raises OSError where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        raise FileNotFoundError(address)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError:
        manager.close()
        raise
    return manager


def _message(fields: Mapping[str, str | int]) -> bytes:
    if "RELOADING" in fields:
        fields = {**fields, "MONOTONIC_USEC": time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def watchdog_interval() -> float | None:
    """Return the seconds within which the manager expects a `WATCHDOG=1`, None when it expects none.

    Feed it at a third of that.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) > 0 else None


def inherited_sockets() -> dict[str, socket.socket]:
    """Return the sockets that the manager listens on for us, by their FileDescriptorName=; empty without any.

    Of several with one name, the second is called `NAME.2` and so on. They are not inherited further: they
    close on exec, and the variables are taken from the environment, so that a second call returns nothing.
    What is not a socket is closed.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count.isdecimal():
        return {}
    sockets: dict[str, socket.socket] = {}
    seen: Counter[str] = Counter()
    for number in range(int(count)):
        if (found := _socket(_FIRST + number)) is not None:
            name = (names[number] if number < len(names) else "") or _UNNAMED
            seen[name] += 1
            sockets[name if seen[name] == 1 else f"{name}.{seen[name]}"] = found
    return sockets


def _socket(descriptor: int) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's signature
        return socket.socket(fileno=descriptor)
    except OSError:
        with suppress(OSError):
            os.close(descriptor)
        return None


def credentials_directory() -> Path | None:
    """Return where the manager has put this service's credentials, None when it gave none."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return Path(directory) if directory else None


def state_directory() -> Path | None:
    """Return the first of StateDirectory=, None where the manager has given none."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(directory) if directory else None


def under_systemd() -> bool:
    """Return whether this very process was started by systemd; a shell in a service's session was not."""
    return "NOTIFY_SOCKET" in os.environ or os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def leads_to_journal(descriptor: int) -> bool:
    """Return whether what is written to `descriptor` arrives in the journal.

    JOURNAL_STREAM is inherited by children whose output goes elsewhere; device and inode tell (systemd.exec(5)).
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
