"""The agent's own log: structlog, one pipeline for everything, from an event's name to systemd's journal.

    log = journal.logger("spool")
    log.warning("spool.thinned", rows=3, error=error)

An event is called `component.what_happened` and says the rest in fields. Before it is written, every known
secret in it is masked, floods are summarised and what is too long is cut; nothing here waits for the sink.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeAlias, cast

import structlog
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.typing import FilteringBoundLogger

from homelab_agent.core.journal import line as journal_line
from homelab_agent.core.journal import sink as journal_sink
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.settings import Level, LogSettings

Logger: TypeAlias = FilteringBoundLogger
"""`debug`, `info`, `warning`, `error`, `critical`, `exception`, each `(event, **fields)`; `bind(**fields)`."""


bound = bound_contextvars
"""`with bound(run_id=...)`: every event within, also of tasks started there, carries these fields."""

FLUSH_SECONDS = 2.0
"""How long the end of the process waits for a slow sink."""

_EVENT_NAME_MAX = 128
_SEVERITY = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_STDERR = 2


def logger(component: str) -> Logger:
    """Return the logger of one component; made at any time, also before the journal is open."""
    return cast("Logger", structlog.get_logger(component=component))


def writes(level: str) -> bool:
    """Return whether an event of that level is written now; for what would be told often, and in vain."""
    return _open is not None and _open.writes(level)


def open_journal(settings: LogSettings, *, host: str, redactor: Redactor, descriptor: int = _STDERR) -> Journal:
    """Send every event, of ours and of the libraries, to where `settings.format` says; close what was open.

    `descriptor` is where lines are written, and tells `auto` where the agent runs. Closed at exit by itself.
    """
    opened = Journal(journal_sink.choose(settings.format, descriptor), host=host, redactor=redactor)
    opened.level = settings.level
    opened.connect()
    return opened


class Journal:
    """The open journal; `level` may be set at any time, and holds for every logger at once."""

    def __init__(self, sink: journal_sink.Sink, *, host: str, redactor: Redactor) -> None:
        self.level = Level.INFO
        self._host = host
        self._redactor = redactor
        self._writer = journal_sink.Writer(sink, own_event=self._own_event)
        self._disconnect: Callable[[], None] = lambda: None

    @property
    def dropped(self) -> int:
        """How many events were lost, because the sink was too slow or gone."""
        return self._writer.dropped

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until what happened so far is written; blocks, so not for the event loop."""
        return self._writer.flush(seconds)

    def connect(self) -> None:
        """Become where structlog, the standard library's logging, warnings and uncaught exceptions go."""
        global _open  # noqa: PLW0603 - structlog's and logging's configuration is the process's, too
        if _open is not None:
            _open.close()
        self._disconnect = _connect(self)
        atexit.register(self.close)
        _open = self

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Write what is left and let go of structlog and logging; False when `seconds` were not enough."""
        global _open  # noqa: PLW0603
        atexit.unregister(self.close)
        self._disconnect()
        _open = None if _open is self else _open
        return self._writer.close(seconds)

    def writes(self, level: str) -> bool:
        """Return whether `level` is severe enough."""
        return _SEVERITY[level] >= _SEVERITY[self.level]

    def take(self, level: str, fields: Mapping[str, Any]) -> None:
        """Write one event if `level` is severe enough; `fields` has "event", and maybe "component"."""
        if self.writes(level):
            self._writer.take(self._event(level, fields))

    def _event(self, level: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        name = str(fields["event"])[:_EVENT_NAME_MAX]
        head = {
            "level": level,
            "component": str(fields.get("component") or name.partition(".")[0]),
            "event": name,
            "host": self._host,
            "time": journal_line.timestamp(datetime.now(UTC)),
        }
        rest = {key: value for key, value in fields.items() if key not in {"component", "event", "exc_info"}}
        if error := _exception(fields.get("exc_info")):
            rest |= journal_line.fault(error, whole=self.level is Level.DEBUG)
        mask = self._redactor.mask
        return {
            **{key: journal_line.plain(value, mask) for key, value in head.items()},
            **{key + "_" * (key in head): journal_line.plain(value, mask) for key, value in rest.items()},
        }

    def _own_event(self, name: str, **fields: object) -> dict[str, Any]:
        return self._event("warning", {"event": name, **fields})


_open: Journal | None = None


def _exception(given: object) -> BaseException | None:
    match given:
        case BaseException():
            return given
        case (_, BaseException() as error, _):
            return error
        case None | False | (_, _, _):
            return None
    return sys.exc_info()[1]


class _Libraries(logging.Handler):
    """What libraries say through the standard library's logging: `aiohttp.logged`, `asyncio.logged`."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record as an event."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's broken format string
            message = str(record.msg)
        library = record.name.partition(".")[0]
        fields = {
            "event": f"{library}.logged",
            "logger": record.name,
            "message": " ".join(message.split()),
            "exc_info": record.exc_info,
        }
        self._journal.take(_level_of(record.levelno), fields)


def _level_of(number: int) -> str:
    return next((name for name in ("critical", "error", "warning", "info") if number >= _SEVERITY[name]), "debug")


def _connect(journal: Journal) -> Callable[[], None]:
    """Route everything to `journal`; return what undoes it."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)

    def process(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        journal.take(method, {**get_contextvars(), **event})
        raise structlog.DropEvent

    def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            before[2](kind, error, trace)
        else:
            journal.take("critical", {"event": "agent.crashed", "exc_info": error})

    def thread_failed(args: threading.ExceptHookArgs) -> None:
        thread = args.thread.name if args.thread else ""
        journal.take("error", {"event": "agent.thread_failed", "thread": thread, "exc_info": args.exc_value})

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        journal.take("error", {"event": "agent.unraisable", "of": args.object, "exc_info": args.exc_value})

    def disconnect() -> None:
        root.handlers, level, sys.excepthook, threading.excepthook, sys.unraisablehook = before
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        _discard()

    structlog.configure(processors=[process])
    root.handlers = [_Libraries(journal)]
    root.setLevel(logging.WARNING)  # what libraries say below it is not news
    logging.captureWarnings(capture=True)
    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, thread_failed, unraisable
    return disconnect


def _discard() -> None:
    """While no journal is open events go nowhere: a command prints what it has to say itself."""

    def process(_logger: object, _method: str, _event: MutableMapping[str, Any]) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[process])


_discard()
