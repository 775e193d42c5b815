"""What is secret in an address besides the whole: who knows it may send, read, or pretend to be alive.

It is masked wherever it turns up, so what a message needs must not be in it: hosts, names, commands.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

HOSTS = re.compile(
    "(?:http|amqp|apprise|bark|deltachat|emby|enigma2|evolution|flowtriq|form|goalert|gorush|gotify|hassio|humhub|irc|"
    "jellyfin|json|kodi|mailto|mastodon|misskey|mmost|mqtt|ncloud|nctalk|onebot|opsimate|parsep|pinglet|pjet|rocket|"
    "session|signal|smpp|smseagle|synology|toot|workflow|xbmc|xml|xmpp)s?|"
    "growl|infobip|mailgun|rsyslog|sendpulse|smtp2go|sogs|sparkpost|wechat|xmatters"
)
"""Schemes that a host always follows; after all others a token may stand there, as Telegram's does."""

HOSTS_BEFORE_PATHS = re.compile("(?:matrix|notica|ntfy|pushdeer)s?")
"""Schemes that a host follows, where it has a path, a port or a password; alone it is a token."""

_ADDRESS = re.compile(
    r"(?:(?P<scheme>[^:/?]*):/*)?(?P<authority>[^/?]*)(?P<path>[^?]*)\??(?P<query>.*)", re.DOTALL | re.ASCII
)
_BY_LOOKS = re.compile(r"(?=.*[0-9]).{8,}|.{20,}", re.DOTALL)
"""Long, or with a digit; a topic called "alerts" is no secret."""
_BY_NAME = re.compile(r"(?:pass|passwd|password|pwd|token|secret|key|authorization)", re.IGNORECASE)
_IS_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z]{2,24}|(?:[0-9]{1,3}\.){3}[0-9]{1,3}", re.ASCII)
"""A host's name or address: nobody is let in by knowing it."""
_PING = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[A-Za-z0-9_-]{22}", re.ASCII)
"""Healthchecks' UUID of a check, or the ping key of a project, which a slug follows that is no secret."""
_PUSH = re.compile(r".*/api/push/(?P<token>[^/]+)", re.DOTALL)
"""Uptime Kuma's."""

_EVERYWHERE = ("homelab-agent", "Bearer", "Basic")


@dataclass(frozen=True, slots=True)
class _Parts:
    """An address taken apart; unlike `urlsplit` this takes whatever stands there."""

    scheme: str
    user: str
    password: str
    place: str
    path: str
    query: list[tuple[str, str]]

    @classmethod
    def of(cls, url: str) -> _Parts:
        match = _ADDRESS.fullmatch(url.strip())
        assert match is not None  # noqa: S101 - each part may be empty
        told, _, place = match["authority"].rpartition("@")
        user, _, password = told.partition(":")
        pairs = [pair.partition("=") for pair in match["query"].split("&")]
        query = [(name, value) for name, _, value in pairs]
        return cls((match["scheme"] or "").lower(), user, password, place, match["path"], query)

    def sure(self) -> list[str]:
        """Return what is called a secret there."""
        named = [value for name, value in self.query if _BY_NAME.search(name)]
        words = [word for value in named for word in re.split(r"[ +]|%20", value)]
        is_password = not self.password and any(name == "user" for name, _ in self.query)
        return [self.password, self.user if is_password else "", *named, *words]

    def likely(self) -> list[str]:
        """Return what looks like a secret where one may stand."""
        words = [*(value for _, value in self.query), self.user, *([] if self.has_host else self.place.split(":"))]
        words = [word for word in words if not _names(word) and not _names(unquote(word))]
        return [part for part in (*words, *self.segments) if _BY_LOOKS.fullmatch(part) and "@" not in unquote(part)]

    @property
    def segments(self) -> list[str]:
        return re.split(r"[/,]", self.path)

    @property
    def has_host(self) -> bool:
        if HOSTS_BEFORE_PATHS.fullmatch(self.scheme):
            return bool(self.path.strip("/") or ":" in self.place or self.password)
        return HOSTS.fullmatch(self.scheme) is not None


def secret_parts(url: str, public: Collection[str] = ()) -> list[str]:
    """Return what is secret in a target's address, as it stands there and unquoted; nothing of `public` is."""
    parts = _Parts.of(url)
    return _told([*parts.sure(), *parts.likely()], public)


def heartbeat_parts(url: str, public: Collection[str] = ()) -> list[str]:
    """Return what is secret in a heartbeat's address; a slug is not."""
    parts = _Parts.of(url)
    push = _PUSH.fullmatch(parts.path)
    keys = [push["token"]] if push is not None else [one for one in parts.segments if _PING.fullmatch(one)][:1]
    return _told([*parts.sure(), *(keys or parts.likely())], public)


def _names(text: str) -> bool:
    return "@" in text or _IS_NAME.fullmatch(text) is not None


def _told(parts: list[str], public: Collection[str]) -> list[str]:
    everywhere = {one.casefold() for one in (*public, *_EVERYWHERE)}
    forms = {form for part in parts for form in (part, unquote(part), unquote_plus(part)) if form}
    return sorted(form for form in forms if form.casefold() not in everywhere)
