"""Apprise, which speaks to ntfy, mail, chats and webhooks: the one place that knows it. It is loaded with a target."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection
from typing import Any

from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secret
from homelab_agent.notify import few_plugins, hearing, message
from homelab_agent.notify.address import secret_parts
from homelab_agent.notify.answer import Answer
from homelab_agent.notify.hearing import SAID_MAX, Heard
from homelab_agent.notify.message import Text
from homelab_agent.notify.severity import Severity
from homelab_agent.notify.thread import StillBusy, Thread

DEADLINE_SECONDS = 30.0
_MARGIN_SECONDS = 2.0
"""A plugin gives up so long before its thread is, so that what it was waiting for is known."""
_TYPES = {
    Severity.NONE: "success",
    Severity.WARNING: "warning",
    Severity.FAILED: "failure",
    Severity.CRITICAL: "failure",
}
LOUDEST: dict[str, tuple[str, object]] = {
    "bark": ("level", "critical"),
    "gotify": ("priority", 10),
    "join": ("priority", 2),
    "lametric": ("priority", "critical"),
    "ntfy": ("priority", "max"),
    "pover": ("priority", 1),
    "prowl": ("priority", 2),
    "psafer": ("priority", 2),
    "pushward": ("level", "critical"),
    "simplepush": ("priority", 5),
    "youlmk": ("priority", "critical"),
}
"""The attribute of a service's plugin, and its value, by which a phone that is silenced sounds.

Pushover's 2 would sound until it is acknowledged, and its 1 passes the quiet hours that are set there.
"""
_CALLS = re.compile(r"(?<![\w.])@(?=(?:everyone|here|all|channel|room)\b(?![\w.-]*\.\w))|<(?=[!@#])", re.IGNORECASE)
"""Words that have a chat call people: Discord's, Slack's, Matrix's."""
_NO_WIDTH = "\N{ZERO WIDTH SPACE}"
_NOT_UNDERSTOOD = "it is no Apprise URL, or lacks something that its service needs"


class Sender:
    """Sends to one target, in a thread of its own. Nothing of `public` counts as a secret of its address."""

    def __init__(
        self,
        name: str,
        secret: Secret,
        redactor: Redactor,
        *,
        public: Collection[str] = (),
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        """`deadline` in seconds is how long the other side is asked at most."""
        self._secret = secret
        self._redactor = redactor
        self._public = public
        self._deadline = deadline
        self._thread = Thread(f"notify-{name}")
        self._turn = asyncio.Lock()

    async def address(self) -> str:
        """Return the address as it is now, masked from then on; raises what reading it raises."""
        url = await self._secret.latest()
        for part in secret_parts(url, self._public):
            self._redactor.add(part)
        return url

    async def send(self, text: Text) -> Answer:
        """Send a message, after the one before, and return what the other side says."""
        try:
            url = await self.address()
        except AgentError as error:
            return Answer(ok=False, words=str(error))
        mask = self._redactor.mask
        masked = Text(mask(text.title), mask(text.body), text.severity)
        seconds = max(1.0, self._deadline - _MARGIN_SECONDS)
        async with self._turn:
            heard = Heard(mask, time.monotonic() + seconds)
            try:
                return await self._thread.run(_send, url, masked, heard, seconds, within=self._deadline)
            except TimeoutError:
                words = f"no answer within {self._deadline:g} s"
                return Answer(ok=False, words=words, unclear=heard.is_unclear)
            except StillBusy:  # nothing was sent this time
                return Answer(ok=False, words="the try before has not come back yet")
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the message was not taken
                return Answer(ok=False, words=message.one_line(mask(f"{type(error).__name__}: {error}"), SAID_MAX))


def understood(url: str) -> str:
    """Return what is wrong with an Apprise URL, "" where a message can be sent to it; for a thread."""
    return _wrong(url, _plugin(url))


def _send(url: str, text: Text, heard: Heard, seconds: float) -> Answer:
    """Send in this thread."""
    with hearing.hearing(heard):
        plugin = _plugin(url)
        wrong = _wrong(url, plugin)
        if wrong:
            return Answer(ok=False, words="; ".join(heard.words) or wrong)
        plugin.socket_connect_timeout = plugin.socket_read_timeout = seconds
        loudest = next((LOUDEST[scheme] for scheme in plugin.schemas() if scheme in LOUDEST), None)
        if text.severity is Severity.CRITICAL and loudest is not None:
            setattr(plugin, *loudest)
        ok = bool(plugin.notify(notify_type=_TYPES[text.severity], **_as_text(plugin, text)))
    ok = ok and not 300 <= heard.status < 400
    words = message.one_line(heard.mask(_words(heard, ok=ok)), SAID_MAX)
    return Answer(ok, words, heard.retry_after, unclear=heard.is_unclear and not ok)


def _as_text(plugin: Any, text: Text) -> dict[str, Any]:
    """Return a text in the format that a plugin speaks, so that what looks like HTML in it is none.

    As `Apprise.notify` does it; some plugins do not, if they are asked themselves.
    """
    from apprise import NotifyFormat, conversion

    convert: Any = conversion.convert_between
    wanted = plugin.resolve_format(NotifyFormat.TEXT)
    longest = int(getattr(plugin, "body_maxlen", 0)) or message.BODY_BYTES_MAX
    title, body = uncalled(text.title), uncalled(text.body)
    body = body if len(body) <= longest else body[: longest - 1] + "…"
    return {
        "title": title if plugin.title_maxlen > 0 else convert(NotifyFormat.TEXT, wanted, title),
        "body": convert(NotifyFormat.TEXT, wanted, body),
        "body_format": wanted,
        "body_passthrough": False,
    }


def uncalled(text: str) -> str:
    """Return a text that calls nobody in a chat, and reads the same."""
    return _CALLS.sub(lambda call: call.group() + _NO_WIDTH, text)


def _words(heard: Heard, *, ok: bool) -> str:
    status = f"{heard.status} {heard.reason}".strip() if heard.status else ""
    if ok:
        return f"it answers {status}" if status else "it has taken the message"
    if 300 <= heard.status < 400:
        where = heard.elsewhere or "elsewhere"
        return f"it answers {status} and sends on to {where}: write that address (for https ntfys://, jsons:// ...)"
    if heard.is_unclear:
        return "it does not say whether it has taken the message: no answer in time"
    said = heard.cause or "; ".join(dict.fromkeys(heard.words)) or "it was not taken"
    return f"it answers {status}: {said}" if status else said


def _wrong(url: str, plugin: Any) -> str:
    if len(url.splitlines()) > 1:
        return "it is more than one line: one address for each [[notify.target]]"
    if plugin is None:
        return _NOT_UNDERSTOOD
    if len(plugin) > 1:
        return f"it has {len(plugin)} recipients, some of which would be told it again: one [[notify.target]] each"
    return ""


def _plugin(url: str) -> Any:
    """Return Apprise's plugin for an address, None where it understands none of it."""
    import apprise

    hearing.begin()
    asset = apprise.AppriseAsset(
        app_id="homelab-agent",
        app_desc="homelab-agent",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
    )
    few_plugins.load(url.partition("://")[0].lower())
    plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    hearing.begin()
    return plugin
