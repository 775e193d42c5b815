"""Apprise, which speaks to ntfy, mail, chats and webhooks: the one place that knows it. It is loaded with a target.

What it says of a send, and what the other side answered to it, is heard in the thread that sends.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secret
from homelab_agent.notify import message
from homelab_agent.notify.answer import Answer
from homelab_agent.notify.message import Text
from homelab_agent.notify.severity import Severity
from homelab_agent.notify.thread import StillBusy, Thread

DEADLINE_SECONDS = 30.0
_SAID_MAX = 300
_HIDDEN_PART = re.compile(r"(?=.*[0-9]).{8,}|.{20,}")
"""Parts of an address that are secret by their looks: long, or with a digit; a topic called "alerts" is none."""
_TYPES = {
    Severity.NONE: "success",
    Severity.WARNING: "warning",
    Severity.FAILED: "failure",
    Severity.CRITICAL: "failure",
}
_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "request"})


@dataclass(slots=True)
class _Heard:
    """What was said in one thread while it sent."""

    words: list[str] = field(default_factory=list)
    status: int = 0
    reason: str = ""
    cause: str = ""
    retry_after: float = 0.0


class _Ear(logging.Handler):
    """Takes what Apprise logs: of failures, and of the errors under them; to the journal goes nothing of it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line for who sends in this thread."""
        heard: _Heard | None = getattr(_here, "heard", None)
        if heard is None:
            return
        said = record.getMessage()
        if record.levelno >= logging.WARNING or "Exception:" in said:
            heard.words.append(message.one_line(said, _SAID_MAX))


class _Listening:
    """The module `requests` for one of Apprise's plugins, which hears what status came back."""

    def __init__(self, requests: Any) -> None:
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._requests, name)
        return _heard(found) if name in _METHODS else found


def _heard(call: Callable[..., Any]) -> Callable[..., Any]:
    def calling(*args: Any, **kwargs: Any) -> Any:
        heard: _Heard | None = getattr(_here, "heard", None)
        try:
            response = call(*args, **kwargs)
        except Exception as error:
            if heard is not None:
                heard.cause = describe(_root(error))
            raise
        if heard is not None:
            heard.status, heard.reason = response.status_code, response.reason or ""
            heard.retry_after = seconds_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
        return response

    return calling


def _root(error: BaseException) -> BaseException:
    """Return what the system said first: "Connection refused", below three errors that tell of it at length."""
    found, below = error, error.__cause__ or error.__context__
    while below is not None:
        found = below if isinstance(below, OSError) else found
        below = below.__cause__ or below.__context__
    return found


_here = threading.local()


def seconds_after(header: str, now: datetime) -> float:
    """Return how long a Retry-After says to wait: seconds or a date (RFC 9110); 0 for what is neither."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", header, re.ASCII):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return 0.0


class Sender:
    """Sends to one target, in a thread of its own."""

    def __init__(self, name: str, secret: Secret, redactor: Redactor) -> None:
        self._secret = secret
        self._redactor = redactor
        self._thread = Thread(f"notify-{name}")

    async def address(self) -> str:
        """Return the address as it is now, masked from then on; raises what reading it raises."""
        url = await self._secret.latest()
        for part in secret_parts(url):
            self._redactor.add(part)
        return url

    async def send(self, text: Text) -> Answer:
        """Send a message and return what the other side says; it is asked for at most `DEADLINE_SECONDS`."""
        try:
            url = await self.address()
        except AgentError as error:
            return Answer(ok=False, words=str(error))
        mask = self._redactor.mask
        masked = Text(mask(text.title), mask(text.body), text.severity)
        try:
            answer = await self._thread.run(_send, url, masked, within=DEADLINE_SECONDS)
        except TimeoutError:
            return Answer(ok=False, words=f"no answer within {DEADLINE_SECONDS:g} s")
        except StillBusy:
            return Answer(ok=False, words="the try before has not come back yet")
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the message was not taken
            return Answer(ok=False, words=message.one_line(mask(f"{type(error).__name__}: {error}"), _SAID_MAX))
        return Answer(answer.ok, message.one_line(mask(answer.words), _SAID_MAX), answer.retry_after)


def secret_parts(url: str) -> list[str]:
    """Return what is secret in an address besides the whole: who knows it may send, or read."""
    address = urlsplit(url)
    parts = [address.password or "", address.username or "", *address.path.split("/"), *_values(address.query)]
    parts += address.netloc.rpartition("@")[2].split(":")  # Telegram's token stands where others have host and port
    candidates = {text for part in parts for text in (part, unquote(part))}
    hidden = {text for text in candidates if _HIDDEN_PART.fullmatch(text) and not _is_host(text)}
    return sorted(hidden | {unquote(address.password)} if address.password else hidden)


def _values(query: str) -> list[str]:
    return [pair.partition("=")[2] for pair in query.split("&")]


def _is_host(text: str) -> bool:
    """Whether it names a host or a mailbox: nobody is let in by knowing it."""
    return "." in text


def understood(url: str) -> str:
    """Return what is wrong with an Apprise URL, "" where it is one; for a thread."""
    return "" if _plugin(url) is not None else "it is no Apprise URL, or lacks something that its service needs"


def _send(url: str, text: Text) -> Answer:
    """Send in this thread."""
    heard = _here.heard = _Heard()
    try:
        plugin = _plugin(url)
        if plugin is None:
            said = "; ".join(heard.words)
            return Answer(ok=False, words=said or "it is no Apprise URL, or lacks something that its service needs")
        longest = int(getattr(plugin, "body_maxlen", 0)) or message.BODY_BYTES_MAX
        body = text.body if len(text.body) <= longest else text.body[: longest - 1] + "…"
        ok = bool(plugin.notify(title=text.title, body=body, notify_type=_TYPES[text.severity]))
    finally:
        _here.heard = None
    return Answer(ok, _words(heard, ok=ok), heard.retry_after)


def _words(heard: _Heard, *, ok: bool) -> str:
    status = f"{heard.status} {heard.reason}".strip() if heard.status else ""
    if ok:
        return f"it answers {status}" if status else "it has taken the message"
    said = heard.cause or "; ".join(dict.fromkeys(heard.words)) or "it was not taken"
    return f"it answers {status}: {said}" if status else said


def _plugin(url: str) -> Any:
    """Return Apprise's plugin for an address, None where it understands none of it."""
    import apprise

    log = logging.getLogger("apprise")
    if log.propagate:
        log.propagate = False
        log.setLevel(logging.DEBUG)
        log.addHandler(_Ear())
    asset = apprise.AppriseAsset(
        app_id="homelab-agent", app_desc="homelab-agent", app_url="", image_url_mask="", image_url_logo=""
    )
    plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    for kind in type(plugin).__mro__ if plugin is not None else ():
        module = sys.modules.get(kind.__module__)
        if (
            kind.__module__.startswith("apprise.plugins.")
            and type(getattr(module, "requests", None)).__name__ == "module"
        ):
            module.requests = _Listening(module.requests)  # type: ignore[union-attr]
    return plugin
