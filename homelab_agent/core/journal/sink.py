"""Where events go: systemd's journal, lines for a program or a person; and the thread that takes them there."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

from homelab_agent.core import systemd
from homelab_agent.core.journal import line as journal_line
from homelab_agent.core.journal.suppression import Fields, Suppression

PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s severities, which the journal and a line's `<N>` share."""
BACKLOG_BYTES = 2 * 1024 * 1024
"""Of events that wait for a sink that is slow; beyond it events are dropped and counted."""

IDENTIFIER = "homelab-agent"
_NAMESPACE = uuid.UUID("fa4cbd8a-7843-4eee-a545-e204f9f21745")
_SOCKET = "/run/systemd/journal/socket"
_RETRY_MILLISECONDS = 1000

Rendered: TypeAlias = Sequence[bytes]


class Sink(Protocol):
    """Turns an event into bytes, and writes them; writing may block and may raise OSError."""

    def render(self, event: Fields) -> Rendered:
        """Return what is to be written; called where the event happens."""

    def write(self, rendered: Rendered) -> None:
        """Write it; called in the writer's thread."""


class Lines:
    """One event is one line on a descriptor, in one write, so that nobody else's output falls into it."""

    def __init__(self, descriptor: int, form: Callable[[Fields], str]) -> None:
        self._descriptor = descriptor
        self._form = form

    def render(self, event: Fields) -> Rendered:
        """Return the line."""
        return (self._form(event).encode("utf-8", "backslashreplace") + b"\n",)

    def write(self, rendered: Rendered) -> None:
        """Write the line; waits for a slow reader, also where someone made the descriptor non-blocking."""
        left = memoryview(b"".join(rendered))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                ready = select.poll()
                ready.register(self._descriptor, select.POLLOUT)
                ready.poll()


class Native:
    """Fields in the journal, through systemd-python; what cannot be sent becomes a line on stderr."""

    def __init__(self, sendv: Callable[..., object], otherwise: Lines) -> None:
        self._sendv = sendv
        self._otherwise = otherwise

    def render(self, event: Fields) -> Rendered:
        """Return the journal's fields (systemd.journal-fields(7)); MESSAGE and PRIORITY first."""
        fields = {
            "MESSAGE": stamped_elsewhere(event),
            "PRIORITY": PRIORITY[event["level"]],
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "MESSAGE_ID": message_id(event["event"]),
            "HOMELAB_COMPONENT": event["component"],
            "HOMELAB_EVENT": event["event"],
            "HOMELAB_RUN_ID": event.get("run_id", ""),
        }
        return [f"{name}={value}".encode() for name, value in fields.items() if value != ""]

    def write(self, rendered: Rendered) -> None:
        """Send one entry.

        The library holds the interpreter's lock while it waits for journald: a journald that hangs would stop
        the whole process, not this thread. So room is awaited here first.
        """
        try:
            _await_journald()
            self._sendv(*rendered)
        except OSError:
            message, priority, *_ = rendered
            self._otherwise.write((b"<", priority.partition(b"=")[2], b">", message.partition(b"=")[2], b"\n"))


def _await_journald() -> None:
    """Return when journald can take a datagram; raises OSError when it is not there.

    A connected datagram socket is writable while its peer's queue has room (unix(7)). It is connected anew
    each time, which costs microseconds, because a journald that was started again may listen on another one.
    """
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOCKET)
            room = select.poll()
            room.register(probe, select.POLLOUT)
            if room.poll(_RETRY_MILLISECONDS):
                return


@lru_cache(maxsize=512)
def message_id(event: str) -> str:
    """Return the journal's MESSAGE_ID of an event's name: the same on every host and in every release."""
    return uuid.uuid5(_NAMESPACE, event).hex


def stamped_elsewhere(event: Mapping[str, Any]) -> str:
    """Return an event as JSON without its time: the journal stamps it itself."""
    return journal_line.as_json({name: value for name, value in event.items() if name != "time"})


def with_priority(event: Fields) -> str:
    """Return an event as JSON behind the `<N>` that journald takes for its priority (sd-daemon(3))."""
    return f"<{PRIORITY[event['level']]}>{stamped_elsewhere(event)}"


def choose(form: str, descriptor: int) -> Sink:
    """Return the sink of a format (`[log] format`), for events that appear on `descriptor`."""
    if form == "auto":
        form = _fitting(descriptor)
    if form == "journal":
        return _native(descriptor)
    if form == "terminal":
        colours = os.isatty(descriptor) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return Lines(descriptor, lambda event: journal_line.as_text(event, colours=colours))
    return Lines(descriptor, journal_line.as_json)


def _fitting(descriptor: int) -> str:
    if systemd.leads_to_journal(descriptor):
        return "journal"
    return "terminal" if os.isatty(descriptor) else "json"


def _native(descriptor: int) -> Sink:
    lines = Lines(descriptor, with_priority)
    try:
        from systemd.journal import sendv
    except ImportError:
        return lines
    return Native(sendv, lines)


class Writer:
    """Takes events without ever waiting, summarises floods, and writes in a thread of its own."""

    def __init__(self, sink: Sink, *, own_event: Callable[..., Fields]) -> None:
        self.dropped = 0
        self._sink = sink
        self._own_event = own_event
        self._suppression = Suppression()
        self._lock = threading.RLock()  # an event may happen while one is taken: a destructor, a signal
        self._queue: queue.SimpleQueue[Rendered | threading.Event] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._unreported = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def take(self, event: Fields) -> None:
        """Have `event` written soon; from any thread, never blocks."""
        with self._lock:
            for each in list(self._suppression.admit(event, time.monotonic())):
                self._enqueue(each)

    def flush(self, seconds: float) -> bool:
        """Wait until what was taken so far is written; False when that takes longer than `seconds`."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(seconds)

    def close(self, seconds: float) -> bool:
        """Write what is left, pending summaries too, and end; False when that takes longer than `seconds`."""
        with self._lock:
            for each in list(self._suppression.rest()):
                self._enqueue(each)
        self._closing = True
        ended = self.flush(seconds)
        self._thread.join(seconds if ended else 0)
        return ended

    def _enqueue(self, event: Fields) -> None:
        if self._waiting_bytes >= BACKLOG_BYTES:
            self.dropped += 1
            self._unreported += 1
            return
        rendered = self._sink.render(event)
        self._waiting_bytes += sum(map(len, rendered))
        self._queue.put(rendered)

    def _run(self) -> None:
        while not (self._closing and self._queue.empty()):
            try:
                item = self._queue.get(timeout=self._pause())
            except queue.Empty:
                item = ()
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._write(item)
            self._catch_up()

    def _pause(self) -> float | None:
        with self._lock:
            due = self._suppression.next_due()
        return None if due is None else max(0.0, due - time.monotonic())

    def _write(self, rendered: Rendered) -> None:
        try:
            if rendered:
                self._sink.write(rendered)
        except OSError:  # a closed pipe, a terminal that is gone: there is nowhere left to say it
            self.dropped += 1
        with self._lock:
            self._waiting_bytes -= sum(map(len, rendered))

    def _catch_up(self) -> None:
        with self._lock:
            for each in list(self._suppression.due(time.monotonic())):
                self._enqueue(each)
            if self._unreported and self._waiting_bytes < BACKLOG_BYTES // 2:
                count, self._unreported = self._unreported, 0
                self._enqueue(self._own_event("journal.dropped", events=count))
