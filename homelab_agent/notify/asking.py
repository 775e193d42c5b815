"""Connections for Apprise's plugins, HTTP's and SMTP's: they know when all was sent, and heed what time is left.

What was sent whole and is not answered was perhaps taken; what was not, was not, however long it took. Who is ready to
send when the time is up sends nothing any more, for by then it counts as not sent. Loaded with Apprise.
"""

from __future__ import annotations

import smtplib
from typing import Any

import requests
import urllib3.connection
import urllib3.connectionpool

from homelab_agent.notify import hearing

_END_OF_MAIL = b"\r\n.\r\n"


def session() -> Any:
    """Return a session of `requests` that connects so, and heeds nothing of the environment."""
    one = requests.Session()
    one.trust_env = False
    for scheme in ("http://", "https://"):
        one.mount(scheme, _Doors())
    return one


class _Http(urllib3.connection.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _begin(self.sock)

    def getresponse(self) -> Any:
        heard = hearing.current()
        if heard is not None:
            heard.sent(self.sock)
            self.timeout = heard.left
        return super().getresponse()


class _Https(_Http, urllib3.connection.HTTPSConnection):
    pass


class _HttpPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Https


class _Doors(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class _Smtp(smtplib.SMTP):
    def send(self, s: Any) -> None:
        """Send a command or, which alone ends so, a mail."""
        if not isinstance(s, bytes) or not s.endswith(_END_OF_MAIL):
            super().send(s)
            return
        try:
            _begin(self.sock)
        except TimeoutError:
            self.close()  # else a QUIT would be part of the mail
            raise
        super().send(s)
        heard = hearing.current()
        if heard is not None:
            heard.sent(self.sock)

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Send a mail and return what is answered to it."""
        heard = hearing.current()
        try:
            answer = super().data(msg)
        except OSError as error:
            if heard is not None:
                heard.broke_off(error)
            raise
        if heard is not None:
            heard.is_unclear = False
        return answer


class _SmtpSsl(_Smtp, smtplib.SMTP_SSL):
    pass


MAIL = {"SMTP": _Smtp, "SMTP_SSL": _SmtpSsl}
"""What `smtplib` calls its connections."""


def _begin(sock: Any) -> None:
    heard = hearing.current()
    if heard is not None:
        heard.begin(sock)
