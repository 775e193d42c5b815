"""What Apprise says of a send, and what the other side answers to it: heard in the thread that sends.

Its plugins ask through `requests`, each as it likes. Here all of them ask alike: no redirection is followed, as a POST
becomes a GET by it and the page that answers 200 has taken nothing; an answer is waited for until the deadline and read
up to a bound; neither a proxy of the environment nor ~/.netrc is heeded, as nowhere in the agent.
"""

from __future__ import annotations

import logging
import re
import smtplib
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

from homelab_agent.core.errors import describe
from homelab_agent.notify import message

SAID_MAX = 300
_CONNECT_SECONDS = 10.0
_LEAST_SECONDS = 0.1
_BODY_BYTES_MAX = 64 * 1024
_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "request"})


@dataclass(slots=True)
class Heard:
    """What was said in one thread while it sent; `until` is when it must be done, in seconds of `time.monotonic`.

    `is_unclear` while what was sent whole is not answered; who has sent, and gives up waiting for the thread, reads it.
    """

    mask: Callable[[str], str]
    until: float
    words: list[str] = field(default_factory=list)
    status: int = 0
    reason: str = ""
    cause: str = ""
    retry_after: float = 0.0
    elsewhere: str = ""
    is_unclear: bool = False
    socket: Any = None

    @property
    def left(self) -> float:
        """Seconds until it must be done, a few at least."""
        return max(_LEAST_SECONDS, self.until - time.monotonic())

    def begin(self, socket: Any) -> None:
        """Send over a socket from here on; raises TimeoutError where the time is up, as nobody waits for it then."""
        if time.monotonic() >= self.until:
            raise TimeoutError("the time was up before anything could be sent")
        socket.settimeout(self.left)

    def sent(self, socket: Any) -> None:
        """Note that all was sent, and wait for the answer for as long as there is time."""
        self.is_unclear, self.socket = True, socket
        socket.settimeout(self.left)

    def answered(self, response: Any) -> None:
        """Take what came back, but for its body; of several requests the last one counts."""
        self.cause, self.is_unclear = "", False
        self.status, self.reason = response.status_code, response.reason or ""
        self.retry_after = seconds_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
        if 300 <= self.status < 400:
            self.elsewhere = _origin(response.url, response.headers.get("Location", ""))

    def failed(self, error: Exception) -> None:
        """Take why nothing came back."""
        self.status, self.cause = 0, describe(_root(error))
        self.broke_off(error)

    def broke_off(self, error: Exception) -> None:
        """Who was sent all and says nothing in time has perhaps done what it was asked; any other failure is clear."""
        self.is_unclear = self.is_unclear and isinstance(_root(error), TimeoutError)


_here = threading.local()


@contextmanager
def hearing(heard: Heard) -> Iterator[None]:
    """Hear what is said in this thread while the context lasts."""
    _here.heard = heard
    try:
        yield
    finally:
        _here.heard = None


def current() -> Heard | None:
    """Return what is heard in this thread."""
    heard: Heard | None = getattr(_here, "heard", None)
    return heard


class _Ear(logging.Handler):
    """Takes what Apprise logs: of failures, and of the errors under them; to the journal goes nothing of it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line for who sends in this thread."""
        heard = current()
        if heard is None or record.name != "apprise":
            return
        said = record.getMessage()
        if record.levelno >= logging.WARNING or "Exception:" in said:
            heard.words.append(message.one_line(heard.mask(said), SAID_MAX))


class _Requests:
    """The module `requests` for Apprise's plugins."""

    def __init__(self, requests: Any) -> None:
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        return partial(self._ask, name) if name in _METHODS else getattr(self._requests, name)

    def _ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        from homelab_agent.notify import asking

        heard = current() or Heard(str, time.monotonic() + _CONNECT_SECONDS)
        reads_itself = bool(kwargs.get("stream"))
        kwargs |= {
            "allow_redirects": False,
            "stream": True,
            "timeout": (min(_CONNECT_SECONDS, heard.left), heard.left),
            "verify": kwargs.get("verify", True) and (ssl.get_default_verify_paths().cafile or True),
        }
        session = asking.session()
        try:
            response = getattr(session, name)(*args, **kwargs)
        except Exception as error:
            heard.failed(error)
            raise
        heard.answered(response)
        if not reads_itself:
            _read(response, heard)
            session.close()
        return response


class _Smtplib:
    """The module `smtplib` for Apprise's plugins."""

    def __getattr__(self, name: str) -> Any:
        from homelab_agent.notify import asking

        return asking.MAIL.get(name) or getattr(smtplib, name)


def _read(response: Any, heard: Heard) -> None:
    """Read what is read of a body; that it has no end, or breaks off, does not undo what its status says."""
    from urllib3.exceptions import HTTPError

    parts: list[bytes] = []
    room = _BODY_BYTES_MAX
    try:
        while room > 0 and heard.left > _LEAST_SECONDS:
            if heard.socket is not None:
                heard.socket.settimeout(heard.left)
            part = response.raw.read1(room, decode_content=True)
            if not part:
                break
            parts.append(part)
            room -= len(part)
    except (HTTPError, OSError, ValueError):
        pass
    response.close()
    response._content, response._content_consumed = b"".join(parts), True  # noqa: SLF001 - as `response.content` does


def begin() -> None:
    """Have all that Apprise says and asks from now on heard; again after each plugin that it loads."""
    for name, level in (("apprise", logging.DEBUG), ("urllib3", logging.CRITICAL)):
        log = logging.getLogger(name)
        if log.propagate:
            log.propagate = False
            log.setLevel(level)
            log.addHandler(_Ear())
            _no_warnings()
    for name, module in list(sys.modules.items()):
        if name.startswith("apprise.") and type(getattr(module, "requests", None)).__name__ == "module":
            module.requests = _Requests(module.requests)  # type: ignore[attr-defined]
        if name.startswith("apprise.") and getattr(module, "smtplib", None) is smtplib:
            module.smtplib = _Smtplib()  # type: ignore[attr-defined]


def _no_warnings() -> None:
    """Have urllib3 not print that a target asks for no verification of its certificate: who wrote it knows."""
    import urllib3

    urllib3.disable_warnings()


def _origin(asked: str, location: str) -> str:
    """Return scheme and host of where an answer sends; the rest of it may be a secret."""
    try:
        where = urlsplit(urljoin(asked, location))
    except ValueError:
        return ""
    return f"{where.scheme}://{where.netloc.rpartition('@')[2]}" if location and where.netloc else ""


def _root(error: BaseException) -> BaseException:
    """Return what the system said first: "Connection refused", below three errors that tell of it at length."""
    found, below = error, error.__cause__ or error.__context__
    while below is not None:
        found = below if isinstance(below, OSError) else found
        below = below.__cause__ or below.__context__
    return found


def seconds_after(header: str, now: datetime) -> float:
    """Return how long a Retry-After says to wait: seconds or a date (RFC 9110); 0 for what is neither."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", header, re.ASCII):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return 0.0
