"""What the process does when it is signalled.

SIGTERM and SIGINT ask for an orderly stop, as does SIGHUP when a terminal was closed; a second SIGINT ends the process
at once, also when the event loop hangs. SIGUSR1 and SIGABRT (systemd's watchdog) write every thread's stack on stderr.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_AT_ONCE = 128 + signal.SIGINT

_NUMBERS = 4096
"""So many signals are read away at once."""


def has_terminal() -> bool:
    """Whether this process has a terminal whose closing hangs it up; a service has none."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@contextmanager
def handled(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the running loop for the first signal that asks for it; only from the main thread.

    Once a signal has come the handlers stay beyond the context, so that a second SIGINT also cuts short what
    is closed after it.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in received:
            os._exit(EXIT_AT_ONCE)
        received.append(number)
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)

    # Not loop.add_signal_handler: its callbacks wait for the loop to turn, which is what may be amiss.
    ending = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if has_terminal() else [])]
    before = {number: signal.signal(number, on_signal) for number in ending}
    if not faulthandler.is_enabled():
        faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    try:
        with _waking(loop):
            yield
    finally:
        if not received:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have each signal wake the loop: one that comes just before it begins to wait would be heard after that only."""
    heard, written = socket.socketpair()
    with heard, written:
        heard.settimeout(0)
        written.settimeout(0)
        loop.add_reader(heard, heard.recv, _NUMBERS)
        before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(heard)
